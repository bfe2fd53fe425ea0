// Selective scan (Mamba-1): what every rung shares. Gu and Dao, arXiv 2312.00752, section 3.2.
// For one channel d of one sequence, with N states,
//
//     dt_t = softplus(delta_t + bias)                      (softplus and bias optional)
//     h_t[n] = exp(dt_t A[n]) h_{t-1}[n] + dt_t u_t B_t[n]
//     y_t = sum_n C_t[n] h_t[n] + D u_t
//     out_t = y_t silu(z_t)                                (z optional)
//
// u, delta, z, out [batch, channels, length]; B, C [batch, groups, N, length], as mamba-ssm takes
// them; A [channels, N], D, bias [channels] and states [batch, channels, N] in fp32.
#pragma once
#include "common/element.cuh"
#include "common/special.cuh"

struct Problem {
    const Element* u;
    const Element* delta;
    const float* a;
    const Element* b;
    const Element* c;
    const float* skip;   // D; null: none
    const Element* z;    // null: none
    const float* bias;   // null: none
    const float* first;  // states at the start of each segment [batch, segments, channels, N]
    float* last;         // state after the last token [batch, channels, N]; null: not wanted
    float* decay;        // sum of dt of each segment [batch, segments, channels] (segments.cu)
    Element* out;
    int batch, channels, length, groups;
    int softplus;
    int segments, segment_length;
};

#ifndef STATES
#define STATES 16
#endif
constexpr int kStates = STATES;

// log(1 + exp(x)) = max(x, 0) + log1p(w), w = exp(-|x|) <= 1, with one special function: log1p(w) / w
// is a polynomial with 1 at 0, so that small steps keep their digits. Of degree 7 it errs by 2.2e-7
// relative at most, of degree 5, for data of 16 bits, by 1.0e-5.
__device__ __forceinline__ float softplus(float x) {
    const float w = exp2_approx(fabsf(x) * -kLog2e);
    float p;
    if (TYPE == TYPE_FP32) {
        p = fmaf(w, -0.0087789558f, 0.0449866436f);
        p = fmaf(w, p, -0.1090229135f);
        p = fmaf(w, p, 0.1784720847f);
        p = fmaf(w, p, -0.2453686627f);
        p = fmaf(w, p, 0.3328406383f);
        p = fmaf(w, p, -0.4999818035f);
    } else {
        p = fmaf(w, -0.0247331633f, 0.1035890214f);
        p = fmaf(w, p, -0.2124007592f);
        p = fmaf(w, p, 0.3262246653f);
        p = fmaf(w, p, -0.4995392556f);
    }
    p = fmaf(w, p, 1.f);
    return fmaf(w, p, fmaxf(x, 0.f));
}

__device__ __forceinline__ float silu(float z) {
    return z * reciprocal_approx(1.f + exp2_approx(-z * kLog2e));
}

__device__ __forceinline__ float step_size(const Problem& p, float delta, float bias) {
    return p.softplus ? softplus(delta + bias) : delta + bias;
}

__device__ __forceinline__ size_t row_of(const Problem& p, int batch, int channel) {
    return (static_cast<size_t>(batch) * p.channels + channel) * p.length;
}

__device__ __forceinline__ size_t group_row(const Problem& p, int batch, int group, int state) {
    return ((static_cast<size_t>(batch) * p.groups + group) * kStates + state) * p.length;
}

__device__ __forceinline__ size_t segment_row(const Problem& p, int batch, int segment,
                                              int channel) {
    return (static_cast<size_t>(batch) * p.segments + segment) * p.channels + channel;
}
