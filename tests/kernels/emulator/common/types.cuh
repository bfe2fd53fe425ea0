// Stands in for cuda/common/types.cuh.
#pragma once
#include "cuda.hpp"

using s8 = signed char;
using u8 = unsigned char;
using s16 = short;
using u16 = unsigned short;
using s32 = int;
using u32 = unsigned int;
using s64 = long long;
using u64 = std::uint64_t;

struct alignas(64) TensorMap {
    u64 opaque[16];
};

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

extern unsigned char shared_bytes[];
inline u32 smem_address(const void* p) {
    return static_cast<u32>(static_cast<const u8*>(p) - shared_bytes);
}

// On the device these three are shuffles: all lanes of the warp have to be there.
inline int lane_index() { return emulator::lane(); }
inline int uniform(int value, Site site = Site::here()) {
    return shuffle("uniform", kFullMask, value, 0, site);
}
inline int warp_index(Site site = Site::here()) {
    emulator::meet("warp_index", kFullMask, site);
    return static_cast<int>(threadIdx.x) / kWarp;
}
inline int warpgroup_index(Site site = Site::here()) {
    emulator::meet("warpgroup_index", kFullMask, site);
    return static_cast<int>(threadIdx.x) / kWarpgroup;
}

// Round to nearest even; NaN becomes the one that cvt gives.
inline u16 to_bf16(float value) {
    const u32 bits = __float_as_uint(value);
    if (value != value) return 0x7fff;
    return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline u16 to_f16(float value) { return bits_as<u16>(static_cast<_Float16>(value)); }
inline float from_bf16(u16 bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }
inline float from_f16(u16 bits) { return static_cast<float>(bits_as<_Float16>(bits)); }
inline u32 pack_bf16(float low, float high) {
    return to_bf16(low) | static_cast<u32>(to_bf16(high)) << 16;
}
inline u32 pack_f16(float low, float high) {
    return to_f16(low) | static_cast<u32>(to_f16(high)) << 16;
}
inline float bf16_low(u32 packed) { return __uint_as_float(packed << 16); }
inline float bf16_high(u32 packed) { return __uint_as_float(packed & 0xffff0000u); }
inline u32 multiply_bf16(u32 a, u32 b) {
    return pack_bf16(bf16_low(a) * bf16_low(b), bf16_high(a) * bf16_high(b));
}
