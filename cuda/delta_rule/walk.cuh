// What both walks over the chunks share. The state is held transposed, S^T [dv][dk]: a warp owns 16 of
// its rows, from the first chunk to the last, and nothing it computes depends on another row:
//
//     X = S^T K^T          R = V^T - X diag(2^G)        U^T = R T^T
//     O^T = (S^T Q^T) diag(scale 2^G) + U^T A^T         S^T <- 2^(G_C) S^T + (U^T diag(2^(G_C - G))) K
//
// Every product has its left operand in registers, where the product before left it: sums of an mma
// have the layout of the next one's operand a. No value of the chain goes through shared memory.
#pragma once
#include "delta_rule/tiles.cuh"

constexpr int kStateSums = kDk / 2;     // of a lane: 16 rows x dk / 32 lanes
constexpr int kTokenSums = kChunk / 2;
constexpr int kTokenSteps = kChunk / 16;

// A lane's tokens 8 j + 2 t and the next, of one of the two powers.
struct Powers {
    float2 of[2 * kTokenSteps];
};

__device__ __forceinline__ Powers load_powers(const float* from) {
    Powers powers;
#pragma unroll
    for (int j = 0; j < 2 * kTokenSteps; ++j)
        powers.of[j] = *reinterpret_cast<const float2*>(from + 8 * j + lane_index() % 4 * 2);
    return powers;
}

// R as an operand, from V^T (packed pairs of tokens) and X.
__device__ __forceinline__ void subtract_read(u32 (&r)[kTokenSteps][4],
                                              const u32 (&v)[kTokenSteps][4],
                                              const float (&x)[kTokenSums],
                                              const Powers& since_start) {
#pragma unroll
    for (int j = 0; j < 2 * kTokenSteps; ++j) {
        const float2 power = since_start.of[j];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const u32 pair = v[j / 2][j % 2 * 2 + half];
            r[j / 2][j % 2 * 2 + half] =
                pack_bf16(fmaf(-power.x, x[4 * j + 2 * half], bf16_low(pair)),
                          fmaf(-power.y, x[4 * j + 2 * half + 1], bf16_high(pair)));
        }
    }
}

// The columns (tokens) of x times their factors, times `more`.
__device__ __forceinline__ void scale_tokens(float (&x)[kTokenSums], const Powers& factors,
                                             float more) {
#pragma unroll
    for (int j = 0; j < 2 * kTokenSteps; ++j) {
        const float2 w = make_float2(factors.of[j].x * more, factors.of[j].y * more);
        x[4 * j] *= w.x, x[4 * j + 1] *= w.y, x[4 * j + 2] *= w.x, x[4 * j + 3] *= w.y;
    }
}

__device__ __forceinline__ void scale_state(float (&s)[kStateSums], float decay) {
#pragma unroll
    for (int i = 0; i < kStateSums; ++i) s[i] *= decay;
}

// A lane's part of S^T; `col` is the warp's first column of the state [dk][dv].
template <bool Write>
__device__ __forceinline__ void move_state(float (&s)[kStateSums], float* state, int dv, int col) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int i = 0; i < kStateSums; ++i) {
        const int row = i / 4 * 8 + 2 * t + i % 2;
        float& x = state[static_cast<size_t>(row) * dv + col + g + i % 4 / 2 * 8];
        if (Write) x = s[i];
        else s[i] = x;
    }
}
