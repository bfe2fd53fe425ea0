// Stands in for cuda/common/special.cuh: the C library's functions, subnormals flushed as there.
#pragma once
#include "common/types.cuh"

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

inline float minus_infinity() { return -INFINITY; }
inline float flushed(float x) { return std::fabs(x) < 1.17549435e-38f ? std::copysign(0.f, x) : x; }
inline float exp2_approx(float x) { return flushed(std::exp2(flushed(x))); }
inline float log2_approx(float x) { return std::log2(flushed(x)); }
inline float reciprocal_approx(float x) { return flushed(1.f / flushed(x)); }
inline float tanh_approx(float x) { return std::tanh(x); }

inline u32 shift_left(u32 bits, int distance) { return distance < 32 ? bits << distance : 0; }

inline float times_if_negative(float x, float y, float sign) { return sign < 0.f ? x * y : x; }

inline int max_of_three(int a, int b, int c) { return std::max({a, b, c}); }
inline u32 max_of_three_pairs(u32 a, u32 b, u32 c) {
    return std::max({a & 0xffff, b & 0xffff, c & 0xffff}) |
           std::max({a >> 16, b >> 16, c >> 16}) << 16;
}
inline u32 less_square_bf16(u32 x) {
    const float low = bf16_low(x), high = bf16_high(x);
    return pack_bf16(low - low * low, high - high * high);
}
inline u32 less_square_f16(u32 x) {
    const float low = from_f16(x & 0xffff), high = from_f16(x >> 16);
    return pack_f16(low - low * low / 32768.f, high - high * high / 32768.f);
}

constexpr float kWidenedE4m3Scale = 256.f;

template <int First, int Second>
u32 widen_e4m3(u32 bytes) {
    const u32 high = __byte_perm(bytes, 0, Second << 12 | 4 << 8 | First << 4 | 4);
    return (high & 0x80008000u) | (high & 0x7f007f00u) >> 1;
}

template <int First, int Second>
u32 widen_s8(u32 bytes) {
    const auto at = [&](int i) { return static_cast<float>(static_cast<s8>(bytes >> 8 * i)); };
    return pack_f16(at(First), at(Second));
}

inline int opaque(int value) { return value; }
inline float select(bool condition, float yes, float no) { return condition ? yes : no; }
