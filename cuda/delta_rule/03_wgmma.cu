// arch: sm_90a
// registers: 255
// threads: 160
// dynamic_smem: 188416
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 3: the walk over chunks on Hopper, one warpgroup for everything but loads.
#include "delta_rule/single.cuh"

constexpr int kThreads = kWarpgroup + kWarp;  // the last warp loads
using Shared = SingleShared;
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (dv / 64, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    walk(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
         const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v) {
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x) * kPanel};
    init_single(shared);
    if (warp_index() < kWarpgroup / kWarp) {
        walk_head(shared, p, at);
    } else {
        if (ptx::elect_one()) load_chunks(shared.pipe, p, {&q, &k, &v}, at, nullptr);
        __syncwarp();
    }
}
