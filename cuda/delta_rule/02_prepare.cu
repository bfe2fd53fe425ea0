// arch: sm_80 sm_90a
// registers: 168
// threads: 128
// dynamic_smem: 72704
// defines: DK=128
// defines: DK=64
//
// Delta rule, the first launch of rungs 2 and 3: T and A of every chunk, see prepare.cuh.
#include "delta_rule/prepare.cuh"

#ifndef PREPARE_BLOCKS
#define PREPARE_BLOCKS 3
#endif
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (chunks, key heads, batch).
extern "C" __global__ void __launch_bounds__(kPrepareThreads, PREPARE_BLOCKS)
    prepare(const __grid_constant__ Problem p) {
    prepare_chunk(*reinterpret_cast<PrepareShared*>(shared_bytes), p, blockIdx.x, blockIdx.y,
                  blockIdx.z);
}
