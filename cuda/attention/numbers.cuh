// What every attention kernel is compiled for: the head dimension and the 16-bit type.
#pragma once
#include "common/special.cuh"
#include "common/types.cuh"

#ifndef HEAD_DIM
#define HEAD_DIM 128
#endif
#ifndef FP16
#define FP16 0
#endif

constexpr int kHeadDim = HEAD_DIM;
static_assert(kHeadDim == 64 || kHeadDim == 128 || kHeadDim == 256, "head dimension");

__device__ __forceinline__ u32 pack_pair(float low, float high) {
    return FP16 ? pack_f16(low, high) : pack_bf16(low, high);
}

// w - w^2 of two packed weights; in fp16 they are scaled by 2^15, which the square is not.
__device__ __forceinline__ u32 less_square(u32 w) {
    return FP16 ? less_square_f16(w) : less_square_bf16(w);
}
