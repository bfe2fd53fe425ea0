// arch: sm_80 sm_90a
// registers: 128
// threads: 128
// dynamic_smem: 56320
// defines: DK=128
// defines: DK=64
//
// Delta rule, the first of two launches: T and A of every chunk, see prepare.cuh.
//
// Limits, 1 x 32,768, 8/32 heads, dk = 128: q and k read, 134 MB, T and A written, 277 MB: 103 us at
// 4.0 TB/s. 4096 tasks of 4 heads; per task 3,700 instructions a warp (products 490, inverse 2,200,
// scores 900), 4 warps: 60 us if the schedulers were full, with 16 warps an SM they are not.
#include "delta_rule/prepare.cuh"

#ifndef PREPARE_BLOCKS
#define PREPARE_BLOCKS 4
#endif
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (chunks, key heads, batch).
extern "C" __global__ void __launch_bounds__(kPrepareThreads, PREPARE_BLOCKS)
    prepare(const __grid_constant__ Problem p) {
    prepare_chunk(*reinterpret_cast<PrepareShared*>(shared_bytes), p, blockIdx.x, blockIdx.y,
                  blockIdx.z);
}
