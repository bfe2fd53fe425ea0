// Gated linear attention: what every rung shares. Yang et al., arXiv 2312.06635, section 4: per head,
//
//     S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T,      o_t = scale S_t^T q_t
//
// q, k [batch, length, key_heads, dk], v, o [batch, length, heads, dv] in bf16; the log gate g <= 0
// [batch, length, heads, dk] (vector) or [batch, length, heads] (scalar) in bf16; states
// [batch, heads, dk, dv] in fp32. With key_heads < heads (SSD), neighbouring heads share q and k.
#pragma once
#include "common/special.cuh"
#include "common/types.cuh"

struct Problem {
    const u16* q;
    const u16* k;
    const u16* v;
    const u16* g;         // null: no decay. SSD: delta
    const float* a;       // SSD only, as the next two: A [heads]
    const float* bias;    // [heads]; null: 0
    const float* skip;    // D [heads]; null: 0
    const float* first;   // states at the start of each segment [batch, heads, segments, dk, dv]
    float* last;          // after the last token [batch, heads, dk, dv]; null: not wanted
    float* local;         // of each segment from zero, likewise (Hopper)
    float* decay;         // of a whole segment [batch, heads, segments, dk or 1]; 05: [blocks, heads of one, segments]
    float* passed;        // states handed from block to block, one of a block's each
    u32* handed;          // a flag for each, 0 between launches; in segments counts that only grow
    u32* scores;          // q k^T of heads that share them, in tiles (07_shared_scores)
    float* steps;         // their dt [batch, heads, length], length in whole chunks
    u16* out;
    float scale;
    int softplus;
    int batch, length, heads, key_heads, dv;
    int segments, segment_length;
    int period;  // sequences after which blocks' shares of them repeat (scalar gates on Hopper)
};

#ifndef DK
#define DK 128
#endif
#ifndef DV
#define DV 128
#endif
constexpr int kChunk = 64;            // tokens worked together by the chunked rungs
constexpr int kSub = 16;              // tokens of a sub-chunk: an mma tile
constexpr int kSubs = kChunk / kSub;
constexpr int kDk = DK;
constexpr int kDv = DV;  // columns of the state that a block works

// Row of token t of a [batch, length, heads, width] array.
__device__ __forceinline__ size_t token_row(int batch, int t, int length, int head, int heads) {
    return (static_cast<size_t>(batch) * length + t) * heads + head;
}

// State of (batch, head, segment), in rows of dv.
__device__ __forceinline__ size_t state_row(const Problem& p, int batch, int head, int segment,
                                            int segments) {
    return ((static_cast<size_t>(batch) * p.heads + head) * segments + segment) * kDk;
}

// Tiles (a, b), b <= a, of a chunk's scores, 16 x 16 in bf16, as the lanes of an mma hold them.
constexpr int kTiles = kSubs * (kSubs + 1) / 2;
__host__ __device__ constexpr int tile_of(int a, int b) { return a * (a + 1) / 2 + b; }

// First tile of (batch, key head, chunk).
__device__ __forceinline__ size_t scores_row(const Problem& p, int batch, int key_head, int chunk) {
    const int chunks = ceil_div(p.length, kChunk);
    return ((static_cast<size_t>(batch) * p.key_heads + key_head) * chunks + chunk) * kTiles;
}

__device__ __forceinline__ size_t steps_row(const Problem& p, int batch, int head) {
    return (static_cast<size_t>(batch) * p.heads + head) * round_up(p.length, kChunk);
}
