// The element type of a kernel's inputs and outputs, chosen by -DTYPE=... Arithmetic is fp32.
#pragma once
#include "common/types.cuh"

#define TYPE_FP32 0
#define TYPE_FP16 1
#define TYPE_BF16 2
#ifndef TYPE
#define TYPE TYPE_BF16
#endif

template <bool Wide>
struct Storage {
    using type = u16;
};
template <>
struct Storage<true> {
    using type = float;
};
using Element = Storage<TYPE == TYPE_FP32>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(u16 x) {
    return TYPE == TYPE_FP16 ? from_f16(x) : from_bf16(x);
}

__device__ __forceinline__ void narrow(float x, float& out) { out = x; }
__device__ __forceinline__ void narrow(float x, u16& out) {
    out = TYPE == TYPE_FP16 ? to_f16(x) : to_bf16(x);
}

// Two 16-bit elements side by side, the first in the lower half.
__device__ __forceinline__ float widen_low(u32 pair) {
    return TYPE == TYPE_FP16 ? from_f16(static_cast<u16>(pair)) : bf16_low(pair);
}
__device__ __forceinline__ float widen_high(u32 pair) {
    return TYPE == TYPE_FP16 ? from_f16(static_cast<u16>(pair >> 16)) : bf16_high(pair);
}
__device__ __forceinline__ u32 narrow_pair(float low, float high) {
    return TYPE == TYPE_FP16 ? pack_f16(low, high) : pack_bf16(low, high);
}
