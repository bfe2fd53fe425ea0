// The diagonal of a sub-chunk under strong gates, pair by pair: sum_d q_i k_j 2^(G_i - G_j), j <= i,
// with the difference formed before the exponential, so that nothing overflows.
#pragma once
#include "gla/problem.cuh"

constexpr float kSafe = 100.f;  // -L_a up to which the diagonal goes through the tensor cores
constexpr int kPairs = kSub * (kSub + 1) / 2;

enum Stream { kQuery, kKey, kGate };

template <int Half>
__device__ __forceinline__ void halve(float (&sums)[kSub]) {
    const bool upper = lane_index() & Half;
#pragma unroll
    for (int i = 0; i < Half; ++i) {
        const float give = upper ? sums[i] : sums[i + Half];
        const float keep = upper ? sums[i + Half] : sums[i];
        sums[i] = keep + __shfl_xor_sync(kFullMask, give, Half);
    }
}

// Adds up sums[j] over the 32 lanes; lane j (and j + 16) gets the whole of sums[j].
__device__ __forceinline__ float gather(float (&sums)[kSub]) {
    halve<8>(sums);
    halve<4>(sums);
    halve<2>(sums);
    halve<1>(sums);
    return sums[0] + __shfl_xor_sync(kFullMask, sums[0], 16);
}

// This warp's key dimensions' share, pair by pair; `read(stream, i)` is the lane's two dimensions of
// the sub-chunk's token i. Read from shared memory as it goes: the registers are the state's.
template <typename Read>
__device__ __forceinline__ void add_pairs(float* pairs, bool active, float scale, Read read) {
    const int lane = lane_index();
#pragma unroll 1
    for (int i = 0; i < kSub; ++i) {
        const u32 q = active ? read(kQuery, i) : 0;
        const float low = scale * bf16_low(q), high = scale * bf16_high(q);
        float sums[kSub] = {};
        float2 between = make_float2(0.f, 0.f);  // G_i - G_j
#pragma unroll
        for (int j = kSub - 1; j >= 0; --j) {
            const u32 k = read(kKey, j), gate = read(kGate, j);
            const float below = j <= i ? 1.f : 0.f;
            sums[j] = below * (low * bf16_low(k) * exp2_approx(between.x) +
                               high * bf16_high(k) * exp2_approx(between.y));
            between.x = fmaf(below * bf16_low(gate), kLog2e, between.x);
            between.y = fmaf(below * bf16_high(gate), kLog2e, between.y);
        }
        const float whole = gather(sums);
        if (lane <= i) pairs[i * (i + 1) / 2 + lane] = whole;
    }
}
