// Fixed-width names, 16-bit float packing and index helpers. Needs no CUDA or C++ header, so that
// every kernel compiles with NVRTC from wheels alone.
#pragma once

using s8 = signed char;
using u8 = unsigned char;
using s16 = short;
using u16 = unsigned short;
using s32 = int;
using u32 = unsigned int;
using s64 = long long;
using u64 = unsigned long long;

// A CUtensorMap, passed by value: `const __grid_constant__ TensorMap map`. Encoded on the host.
struct alignas(64) TensorMap {
    u64 opaque[16];
};

constexpr int kWarp = 32;
constexpr int kWarpgroup = 128;
constexpr u32 kFullMask = 0xffffffffu;

template <typename T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

template <typename T>
__host__ __device__ constexpr T round_up(T a, T b) {
    return ceil_div(a, b) * b;
}

template <typename T>
__host__ __device__ constexpr T least(T a, T b) {
    return a < b ? a : b;
}

template <typename T>
__host__ __device__ constexpr T most(T a, T b) {
    return a > b ? a : b;
}

// The 32-bit shared-window address that PTX instructions take.
__device__ __forceinline__ u32 smem_address(const void* pointer) {
    return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }

// The same value in all lanes, and known to the compiler to be so (branches on it stay uniform).
__device__ __forceinline__ int warp_index() {
    return __shfl_sync(kFullMask, static_cast<int>(threadIdx.x) / kWarp, 0);
}

__device__ __forceinline__ int warpgroup_index() {
    return __shfl_sync(kFullMask, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
}

// Two floats rounded to nearest even; `low` lands in bits 0-15. cvt names the high half first.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ __forceinline__ u32 pack_f16(float low, float high) {
    u32 packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ __forceinline__ u16 to_bf16(float value) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ u16 to_f16(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// bf16 is the upper half of an fp32, so widening is a shift.
__device__ __forceinline__ float from_bf16(u16 bits) {
    return __uint_as_float(static_cast<u32>(bits) << 16);
}

__device__ __forceinline__ float bf16_low(u32 packed) { return __uint_as_float(packed << 16); }

__device__ __forceinline__ float bf16_high(u32 packed) {
    return __uint_as_float(packed & 0xffff0000u);
}

// Both halves at once; needs sm_90.
__device__ __forceinline__ u32 multiply_bf16(u32 a, u32 b) {
    u32 product;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
    return product;
}

__device__ __forceinline__ float from_f16(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
