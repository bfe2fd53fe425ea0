// arch: sm_90a
// registers: 255
// threads: 160
// dynamic_smem: 192512
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 3: the walk over chunks on Hopper, one warpgroup for everything but loads.
//
// Limits of the walk, 512 chunks of 32 heads of 128 x 128, 64 blocks: products 1024 clocks a chunk (X and
// Q S 256 each, U and A U 128, S 256): 512 * 1024 / 1.98 GHz = 265 us. Memory: q, k, v, T, A, o 1.2 GB
// of which most comes from L2. Products with an operand in registers hold their warps, some 40 clocks
// per m64n64k16: 1240 a chunk, and the rest, 500 instructions a warp, comes on top: 1900 measured.
//
// Registers: 64 of S^T, 32 of it packed, 64 of X in two sums and then U, 32 of O^T, 48 of packed V^T, R,
// U^T, 16 powers. Shared memory: 3 stages of 57 KB, 16 KB of outputs.
#include "delta_rule/single.cuh"

constexpr int kThreads = kWarpgroup + kWarp;  // the last warp loads
using Shared = SingleShared;
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (dv / 64, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    walk(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
         const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
         const __grid_constant__ TensorMap out) {
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x) * kPanel};
    init_single(shared);
    if (warp_index() < kWarpgroup / kWarp) {
        walk_head(shared, p, &out, at);
    } else {
        if (ptx::elect_one()) load_chunks(shared.pipe, p, {&q, &k, &v, &out}, at, nullptr);
        __syncwarp();
    }
}
