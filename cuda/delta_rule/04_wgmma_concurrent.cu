// arch: sm_90a
// registers: 128
// threads: 512
// dynamic_smem: 225280
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 4: rung 3's walk and its preparation in one launch, see concurrent.cuh.
#include "delta_rule/concurrent.cuh"
#include "delta_rule/single.cuh"

union Shared {
    SingleShared walk;
    PrepareShared prepare[kWorkers];
};
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (preparers + dv / 64 * heads * batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    delta_rule(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
               const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
               const __grid_constant__ TensorMap out) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (static_cast<int>(blockIdx.x) < p.preparers) {
        prepare_chunks(s.prepare, p);
        return;
    }
    const Walk walk = walk_of_block(p);
    init_single(s.walk);
    if (warpgroup_index() == 0) {
        ptx::registers_grow<240>();
        walk_head(s.walk, p, &out, walk.at);
    } else {
        ptx::registers_shrink<24>();
        if (warp_index() == kWarpgroup / kWarp) {
            if (ptx::elect_one()) load_chunks(s.walk.pipe, p, {&q, &k, &v, &out}, walk.at, walk.ready);
            __syncwarp();
        }
    }
    clear_ready(p);
}
