// Stands in for cuda/common/types.cuh on the processor.
#pragma once
#include "simt.hpp"

using s8 = signed char;
using u8 = unsigned char;
using s16 = short;
using u16 = unsigned short;
using s32 = int;
using u32 = unsigned int;
using s64 = long long;
using u64 = unsigned long long;

constexpr int kWarp = 32;
constexpr int kWarpgroup = 128;
constexpr u32 kFullMask = 0xffffffffu;

template <typename T>
constexpr T ceil_div(T a, T b) { return (a + b - 1) / b; }
template <typename T>
constexpr T round_up(T a, T b) { return ceil_div(a, b) * b; }
template <typename T>
constexpr T least(T a, T b) { return a < b ? a : b; }
template <typename T>
constexpr T most(T a, T b) { return a > b ? a : b; }

inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
// As on the device these shuffle: all lanes of a warp have to come here, or none.
template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width);
inline int uniform(int value) { return __shfl_sync(kFullMask, value, 0, 32); }
inline int warp_index() { return uniform(static_cast<int>(threadIdx.x) / kWarp); }
inline int warpgroup_index() { return uniform(static_cast<int>(threadIdx.x) / kWarpgroup); }

// Round to nearest even; NaN stays NaN.
inline u16 to_bf16(float value) {
    const u32 bits = __float_as_uint(value);
    if (value != value) return static_cast<u16>(bits >> 16 | 0x40);
    return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline u16 to_f16(float value) {
    const _Float16 half = static_cast<_Float16>(value);
    u16 bits;
    memcpy(&bits, &half, 2);
    return bits;
}
inline u32 pack_bf16(float low, float high) {
    return static_cast<u32>(to_bf16(high)) << 16 | to_bf16(low);
}
inline u32 pack_f16(float low, float high) {
    return static_cast<u32>(to_f16(high)) << 16 | to_f16(low);
}
inline float from_bf16(u16 bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }
inline float bf16_low(u32 packed) { return __uint_as_float(packed << 16); }
inline float bf16_high(u32 packed) { return __uint_as_float(packed & 0xffff0000u); }
inline float from_f16(u16 bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return static_cast<float>(half);
}
