// Stands in for cuda/common/special.cuh: the C library's functions.
#pragma once
#include "common/types.cuh"

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

inline float tanh_approx(float x) { return std::tanh(x); }
inline float flushed(float x) { return std::fabs(x) < 1.17549435e-38f ? 0.f : x; }
inline float exp2_approx(float x) { return flushed(std::exp2(flushed(x))); }
inline float log2_approx(float x) { return std::log2(x); }
inline float reciprocal_approx(float x) { return 1.f / x; }
inline int opaque(int value) { return value; }
