// arch: sm_80 sm_90a
// registers: 96
// threads: 256
// dynamic_smem: 4160
// defines: DK=128 VECTOR=1 STEP=1
// defines: DK=128 VECTOR=0 STEP=0
// defines: DK=128 VECTOR=0 SSD=1 STEP=1
// defines: DK=64 VECTOR=0 SSD=1 STEP=0
//
// Gated linear attention, rung 1: token by token on the fp32 pipe, as the recurrence is written. Also
// the decode step (length 1), and the path of sequences too short for a chunk to pay.
//
// A block has all dk rows of 64 columns of one state. A thread keeps 4 columns of every 16th row in
// registers, so that 16 threads read 256 contiguous bytes and a thread has dk / 16 loads of 16 bytes in
// flight before it asks for anything else. k, q and the decay of each row go through shared memory, as
// 16 bytes that 16 lanes share; the rows' parts of o are added there too. `first` and `last` may be the
// same buffer.
//
// Limits of a step, batch 256, H=16, dk=dv=128: states read and written 2 * 268 MB: 135 us at
// 4.0 TB/s (copy); 5 FLOP per element: 5 us. A block has 32 KB of loads in flight, 4 blocks an SM.
// Prediction: 197 us with 32-byte pieces of a row per warp -> 150 us, 90 % of the copy.
// As a prefill every state element costs 3 FMA slots per token: 262,144 (token, head) of 16,384
// elements at 110 slots per clock and SM: 0.45 ms and more, on full SMs; and it has few blocks.
#include "gla/problem.cuh"

#ifndef VECTOR
#define VECTOR 1
#endif
#ifndef STEP
#define STEP 1
#endif
#ifndef SSD
#define SSD 0
#endif
constexpr int kThreads = 256;
constexpr int kColumns = 64;                      // of a block
constexpr int kLanes = kColumns / 4;              // threads of a row
constexpr int kTeams = kThreads / kLanes;         // rows that a block works at once
constexpr int kRows = kDk / kTeams;               // of a thread
constexpr int kWarps = kThreads / kWarp;

struct Shared {
    float4 row[kDk];                // k, q, decay of each row
    float sums[kWarps][kColumns];   // o of each warp's rows
};

extern __shared__ __align__(16) u8 shared_bytes[];

__device__ __forceinline__ float softplus(float x) {
    const float w = exp2_approx(x * kLog2e);
    const float series = w * fmaf(w, fmaf(w, fmaf(w, -0.25f, 1.f / 3.f), -0.5f), 1.f);
    return x > 20.f ? x : w < 0.03125f ? series : log2_approx(1.f + w) * kLn2;
}

// k (times dt), q (times the scale) and exp(g) of row `row`.
__device__ __forceinline__ float4 row_factors(const Problem& p, size_t token, size_t keys, int head,
                                              int row) {
    float decay = 1.f, weight = 1.f;
    if (VECTOR) {
        decay = exp2_approx(from_bf16(p.g[token * kDk + row]) * kLog2e);
    } else if (p.g) {
        const float raw = from_bf16(p.g[token]);
        if (SSD) {
            const float delta = raw + (p.bias ? p.bias[head] : 0.f);
            weight = p.softplus ? softplus(delta) : delta;
        }
        decay = exp2_approx((SSD ? weight * p.a[head] : raw) * kLog2e);
    }
    return make_float4(weight * from_bf16(p.k[keys * kDk + row]),
                       p.scale * from_bf16(p.q[keys * kDk + row]), decay, 0.f);
}

// Grid (columns of dv / kColumns, 1, batch * heads).
extern "C" __global__ void __launch_bounds__(kThreads, STEP ? 3 : 2)
    gla(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const int batch = blockIdx.z / p.heads, head = blockIdx.z % p.heads;
    const int key_head = head / (p.heads / p.key_heads);
    const int thread = threadIdx.x, team = thread / kLanes;
    const int col = blockIdx.x * kColumns + thread % kLanes * 4;
    size_t base = state_row(p, batch, head, 0, 1) + team;
    float4 h[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
        h[r] = p.first ? *reinterpret_cast<const float4*>(p.first + (base + r * kTeams) * p.dv + col)
                       : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 1
    for (int t = 0; t < (STEP ? 1 : p.length); ++t) {
        const size_t token = token_row(batch, t, STEP ? 1 : p.length, head, p.heads);
        const size_t keys = token_row(batch, t, STEP ? 1 : p.length, key_head, p.key_heads);
        if (thread < kDk) s.row[thread] = row_factors(p, token, keys, head, thread);
        const uint2 raw = *reinterpret_cast<const uint2*>(p.v + token * p.dv + col);
        const float4 v =
            make_float4(bf16_low(raw.x), bf16_high(raw.x), bf16_low(raw.y), bf16_high(raw.y));
        __syncthreads();
        float4 o = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const float4 row = s.row[r * kTeams + team];
            h[r].x = fmaf(row.z, h[r].x, row.x * v.x), o.x = fmaf(row.y, h[r].x, o.x);
            h[r].y = fmaf(row.z, h[r].y, row.x * v.y), o.y = fmaf(row.y, h[r].y, o.y);
            h[r].z = fmaf(row.z, h[r].z, row.x * v.z), o.z = fmaf(row.y, h[r].z, o.z);
            h[r].w = fmaf(row.z, h[r].w, row.x * v.w), o.w = fmaf(row.y, h[r].w, o.w);
        }
        o.x += __shfl_xor_sync(kFullMask, o.x, 16), o.y += __shfl_xor_sync(kFullMask, o.y, 16);
        o.z += __shfl_xor_sync(kFullMask, o.z, 16), o.w += __shfl_xor_sync(kFullMask, o.w, 16);
        if (lane_index() < kLanes)
            *reinterpret_cast<float4*>(&s.sums[thread / kWarp][thread % kLanes * 4]) = o;
        __syncthreads();
        if (thread < kColumns) {
            float sum = 0.f;
#pragma unroll
            for (int w = 0; w < kWarps; ++w) sum += s.sums[w][thread];
            const size_t at = token * p.dv + blockIdx.x * kColumns + thread;
            if (SSD && p.skip) sum = fmaf(p.skip[head], from_bf16(p.v[at]), sum);
            p.out[at] = to_bf16(sum);
        }
    }
    if (!p.last) return;
    base = state_row(p, opaque(batch), head, 0, 1) + team;  // addresses need not outlive the loop
#pragma unroll
    for (int r = 0; r < kRows; ++r)
        *reinterpret_cast<float4*>(p.last + (base + r * kTeams) * p.dv + col) = h[r];
}
