// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 217088
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 4: the walk by three roles, see roles.cuh.
#include "delta_rule/roles.cuh"

constexpr int kThreads = 3 * kWarpgroup;
using Shared = WalkShared;
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (dv / 64, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    walk(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
         const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
         const __grid_constant__ TensorMap out) {
    const Place at = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x) * kPanel};
    walk_by_roles(*reinterpret_cast<WalkShared*>(shared_bytes), p, {&q, &k, &v, &out}, at, nullptr);
}
