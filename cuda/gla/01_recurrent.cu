// arch: sm_80 sm_90a
// registers: 128
// threads: 128
// defines: DK=128 VECTOR=1
// defines: DK=128 VECTOR=0
// defines: DK=64 VECTOR=0 SSD=1
//
// Gated linear attention, rung 1: token by token on the fp32 pipe, as the recurrence is written. Also
// the decode step (length 1), and the path of sequences too short for a chunk to pay.
//
// A thread has 4 columns and kRows of the dk rows of one state; the lanes that share columns add
// their parts of o by shuffles. `first` and `last` may be the same buffer.
//
// Limits of a step, batch 256, H=16, dk=dv=128: states read and written 2 * 268 MB: 135 us at
// 4.0 TB/s (copy); 5 FLOP per element: 5 us. A thread keeps 8 loads of 16 bytes in flight.
// As a prefill every state element costs 3 FMA slots per token: 262,144 (token, head) of 16,384
// elements at 110 slots per clock and SM: 0.45 ms and more, on full SMs; and it has few blocks.
#include "gla/problem.cuh"

#ifndef VECTOR
#define VECTOR 1
#endif
#ifndef SSD
#define SSD 0
#endif
constexpr int kThreads = 128;
constexpr int kLanesPerColumn = 16;             // lanes that share 4 columns
constexpr int kRows = kDk / kLanesPerColumn;
constexpr int kColumns = kThreads / kLanesPerColumn * 4;  // of a block

__device__ __forceinline__ float softplus(float x) {
    const float w = exp2_approx(x * kLog2e);
    const float series = w * fmaf(w, fmaf(w, fmaf(w, -0.25f, 1.f / 3.f), -0.5f), 1.f);
    return x > 20.f ? x : w < 0.03125f ? series : log2_approx(1.f + w) * kLn2;
}

// Grid (columns of dv / kColumns, 1, batch * heads).
extern "C" __global__ void __launch_bounds__(kThreads)
    gla(const __grid_constant__ Problem p) {
    const int batch = blockIdx.z / p.heads, head = blockIdx.z % p.heads;
    const int key_head = head / (p.heads / p.key_heads);
    const int lane = threadIdx.x % kLanesPerColumn;
    const int col = blockIdx.x * kColumns + static_cast<int>(threadIdx.x) / kLanesPerColumn * 4;
    const bool valid = col < p.dv;
    const size_t base = state_row(p, batch, head, 0, 1);
    float4 s[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const size_t at = (base + r * kLanesPerColumn + lane) * p.dv + col;
        s[r] = p.first && valid ? *reinterpret_cast<const float4*>(p.first + at)
                                : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    const float skip = SSD && p.skip ? p.skip[head] : 0.f;
    for (int t = 0; t < p.length; ++t) {
        const size_t token = token_row(batch, t, p.length, head, p.heads);
        const size_t keys = token_row(batch, t, p.length, key_head, p.key_heads) * kDk;
        float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
        if (valid) {
            const uint2 raw = *reinterpret_cast<const uint2*>(p.v + token * p.dv + col);
            v = make_float4(bf16_low(raw.x), bf16_high(raw.x), bf16_low(raw.y), bf16_high(raw.y));
        }
        float decay = 1.f, weight = 1.f;
        if (!VECTOR && p.g) {
            const float raw = from_bf16(p.g[token]);
            if (SSD) {
                const float delta = raw + (p.bias ? p.bias[head] : 0.f);
                weight = p.softplus ? softplus(delta) : delta;
            }
            decay = exp2_approx((SSD ? weight * p.a[head] : raw) * kLog2e);
        }
        float4 o = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int row = r * kLanesPerColumn + lane;
            const float k = weight * from_bf16(p.k[keys + row]), q = from_bf16(p.q[keys + row]);
            if (VECTOR) decay = exp2_approx(from_bf16(p.g[token * kDk + row]) * kLog2e);
            s[r].x = fmaf(decay, s[r].x, k * v.x), o.x = fmaf(q, s[r].x, o.x);
            s[r].y = fmaf(decay, s[r].y, k * v.y), o.y = fmaf(q, s[r].y, o.y);
            s[r].z = fmaf(decay, s[r].z, k * v.z), o.z = fmaf(q, s[r].z, o.z);
            s[r].w = fmaf(decay, s[r].w, k * v.w), o.w = fmaf(q, s[r].w, o.w);
        }
#pragma unroll
        for (int by = kLanesPerColumn / 2; by > 0; by /= 2) {
            o.x += __shfl_xor_sync(kFullMask, o.x, by), o.y += __shfl_xor_sync(kFullMask, o.y, by);
            o.z += __shfl_xor_sync(kFullMask, o.z, by), o.w += __shfl_xor_sync(kFullMask, o.w, by);
        }
        if (valid && lane == 0)
            *reinterpret_cast<uint2*>(p.out + token * p.dv + col) =
                make_uint2(pack_bf16(fmaf(p.scale, o.x, skip * v.x), fmaf(p.scale, o.y, skip * v.y)),
                           pack_bf16(fmaf(p.scale, o.z, skip * v.z), fmaf(p.scale, o.w, skip * v.w)));
    }
    if (!p.last || !valid) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const size_t at = (base + r * kLanesPerColumn + lane) * p.dv + col;
        *reinterpret_cast<float4*>(p.last + at) = s[r];
    }
}
