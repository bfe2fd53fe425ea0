// Operands of mma in registers.
#pragma once
#include "common/mma.cuh"
#include "gla/problem.cuh"

// d[0], d[1] (16 x 16) += a b.
__device__ __forceinline__ void multiply(float (&left)[4], float (&right)[4], const u32 (&a)[4],
                                         const u32 (&b)[4]) {
    const u32 first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
    ptx::mma_bf16(left, a, first);
    ptx::mma_bf16(right, a, second);
}

__device__ __forceinline__ u32 scaled(u32 packed, float low, float high) {
    return pack_bf16(bf16_low(packed) * low, bf16_high(packed) * high);
}
