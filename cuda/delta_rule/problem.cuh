// The (gated) delta rule: what every rung shares. Yang et al., arXiv 2412.06464, equation 10, per head:
//
//     S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,      o_t = scale S_t^T q_t
//
// q, k [batch, length, key_heads, dk], v, o [batch, length, heads, dv], beta and the log gate g <= 0
// [batch, length, heads] in bf16; states [batch, heads, dk, dv] in fp32. Neighbouring heads share q
// and k. Keys have unit length.
//
// A chunk is C = 64 tokens. With G_i the sum of log2 gates from the chunk's start up to and including
// token i, S the state at the chunk's start,
//
//     L_ij = beta_i 2^(G_i - G_j) k_i . k_j  (j < i)        T = (I + L)^-1 diag(beta)
//     A_ij = scale 2^(G_i - G_j) q_i . k_j  (j <= i)
//     U    = T (V - diag(2^G) K S)
//     O    = scale diag(2^G) Q S + A U
//     S   <- 2^(G_C) S + (diag(2^(G_C - G)) K)^T U
//
// T and A depend on the inputs alone: one launch prepares them for all chunks at once, another walks
// the chunks with the state. Every exponent is a sum of gates, so <= 0.
#pragma once
#include "common/special.cuh"
#include "common/types.cuh"

#ifndef DK
#define DK 128
#endif
constexpr int kDk = DK;
constexpr int kChunk = 64;
constexpr int kPanel = 64;  // columns of a tile: 128 bytes
static_assert(kDk == 64 || kDk == 128, "one or two panels of key dimensions");

// What a chunk of one head is made into, as the walk reads it: two tiles and two powers per token.
// Tokens beyond the sequence have beta = 0 and g = 0: they change nothing.
struct alignas(128) Prepared {
    u16 t[kChunk * kPanel];    // T in bf16, swizzled
    u16 a[kChunk * kPanel];    // A in bf16, swizzled
    float since_start[kChunk]; // 2^(G_i)
    float to_end[kChunk];      // 2^(G_C - G_i)
};
static_assert(sizeof(Prepared) == 16896, "the launcher allocates this many bytes per chunk");

struct Problem {
    const u16* q;
    const u16* k;
    const u16* v;
    const u16* g;  // null: no decay
    const u16* beta;
    const float* first;  // state before the first token [batch, heads, dk, dv]; null: zeros
    float* last;         // after the last token; null: not wanted
    u16* out;
    Prepared* prepared;  // [batch, heads, chunks]
    u32* ready;          // rung 4
    float scale;
    int batch, length, heads, key_heads, dv, chunks;
    int preparers;  // rung 4
};

// Row of token t of a [batch, length, heads, width] array.
__device__ __forceinline__ size_t token_row(int batch, int t, int length, int head, int heads) {
    return (static_cast<size_t>(batch) * length + t) * heads + head;
}

// Tiles in shared memory: rows of 128 bytes in 8 units of 16, the unit mixed with the row's number
// (TMA's 128-byte swizzle), so that 8 rows of one column of units meet all banks.
__device__ __forceinline__ int swizzled(int row, int col) {
    return row * kPanel + ((col / 8 ^ row % 8) * 8 | col % 8);
}
