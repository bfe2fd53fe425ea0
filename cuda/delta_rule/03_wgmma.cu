// arch: sm_90a
// registers: 255
// threads: 160
// dynamic_smem: 192512
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 3: the walk over chunks on Hopper. Rung 2's first launch has made T and A.
#include "delta_rule/hopper.cuh"

constexpr int kThreads = kWarpgroup + kWarp;  // the last warp loads
using Shared = WalkShared;
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (dv / 64, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    walk(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
         const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
         const __grid_constant__ TensorMap out) {
    WalkShared& shared = *reinterpret_cast<WalkShared*>(shared_bytes);
    const Place at = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x) * kPanel};
    init_barriers(shared);
    if (warp_index() < kWarpgroup / kWarp) {
        walk_head(shared, p, &out, at);
    } else {
        if (ptx::elect_one()) load_chunks(shared, p, {&q, &k, &v, &out}, at, nullptr);
        __syncwarp();
    }
}
