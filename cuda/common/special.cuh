// Special functions of one instruction, and bytes widened to fp16 pairs. ex2 and lg2 are accurate
// to about 2^-22, rcp to 2^-23 (relative); tanh to 2^-11 (PTX ISA, floating point instructions).
#pragma once
#include "common/types.cuh"

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

__device__ __forceinline__ float minus_infinity() { return __int_as_float(0xff800000); }

__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float log2_approx(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal_approx(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float tanh_approx(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 0 for a distance of 32 or more, unlike C's operator.
__device__ __forceinline__ u32 shift_left(u32 bits, int distance) {
    u32 shifted;
    asm("shl.b32 %0, %1, %2;" : "=r"(shifted) : "r"(bits), "r"(distance));
    return shifted;
}

// x y where `sign` is negative, else x: by predicate, which spares a selection.
__device__ __forceinline__ float times_if_negative(float x, float y, float sign) {
    asm("{\n"
        ".reg .pred p;\n"
        "setp.lt.f32 p, %2, 0f00000000;\n"
        "@p mul.f32 %0, %0, %1;\n"
        "}"
        : "+f"(x)
        : "f"(y), "f"(sign));
    return x;
}

__device__ __forceinline__ int max_of_three(int a, int b, int c) {
    const int ab = a > b ? a : b;
    return ab > c ? ab : c;
}

// The larger of three in each half, as unsigned numbers.
__device__ __forceinline__ u32 max_of_three_pairs(u32 a, u32 b, u32 c) {
#if __CUDA_ARCH__ >= 900
    asm("max.u16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
    asm("max.u16x2 %0, %0, %1;" : "+r"(a) : "r"(c));
#else
    asm("vmax2.u32.u32.u32 %0, %0, %1, %2;" : "+r"(a) : "r"(b), "r"(0));
    asm("vmax2.u32.u32.u32 %0, %0, %1, %2;" : "+r"(a) : "r"(c), "r"(0));
#endif
    return a;
}

// x - x^2 of a bf16 pair: without .rn the two are one HFMA2, where neg and fma.rn stay two.
__device__ __forceinline__ u32 less_square_bf16(u32 x) {
    u32 y;
#if __CUDA_ARCH__ >= 900
    asm("mul.bf16x2 %0, %1, %1;" : "=r"(y) : "r"(x));
    asm("sub.bf16x2 %0, %1, %0;" : "+r"(y) : "r"(x));
#else
    asm("fma.rn.bf16x2 %0, %1, %2, %2;" : "=r"(y) : "r"(x ^ 0x80008000u), "r"(x));
#endif
    return y;
}

// x - x^2 / 2^15 of an fp16 pair, as x (1 - x / 2^15).
__device__ __forceinline__ u32 less_square_f16(u32 x) {
    u32 y;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(y) : "r"(x), "r"(0x82008200u), "r"(0x3c003c00u));
    asm("mul.rn.f16x2 %0, %0, %1;" : "+r"(y) : "r"(x));
    return y;
}

// Bytes First and Second of `bytes` as an fp16 pair, First in the lower half.
//
// e4m3: sign, 4 bits of exponent (bias 7) and 3 of fraction move into fp16's fields (bias 15),
// which divides by 2^8, exactly, subnormals included. The caller's scale makes up for it; NaN is
// not kept.
constexpr float kWidenedE4m3Scale = 256.f;

template <int First, int Second>
__device__ __forceinline__ u32 widen_e4m3(u32 bytes) {
    const u32 high = __byte_perm(bytes, 0, Second << 12 | 4 << 8 | First << 4 | 4);
    return (high & 0x80008000u) | (high & 0x7f007f00u) >> 1;
}

// Signed bytes: with the sign bit flipped, b + 128 in the low bits of 0x6400 is 1152 + b; exact.
template <int First, int Second>
__device__ __forceinline__ u32 widen_s8(u32 bytes) {
    const u32 offset = __byte_perm(bytes ^ 0x80808080u, 0x64646464u,
                                   4 << 12 | Second << 8 | 4 << 4 | First);
    u32 pair;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(pair) : "r"(offset), "r"(0x64806480u));
    return pair;
}

// The compiler must not know that the result is `value`: what is made from it is computed where it
// is used, instead of staying in registers through a loop whose sums need them.
__device__ __forceinline__ int opaque(int value) {
    asm volatile("" : "+r"(value));
    return value;
}

// As `condition ? yes : no`, of values that the compiler must not turn into a choice of addresses.
__device__ __forceinline__ float select(bool condition, float yes, float no) {
    float value;
    asm("{\n"
        ".reg .pred p;\n"
        "setp.ne.s32 p, %3, 0;\n"
        "selp.f32 %0, %1, %2, p;\n"
        "}"
        : "=f"(value)
        : "f"(yes), "f"(no), "r"(static_cast<int>(condition)));
    return value;
}
