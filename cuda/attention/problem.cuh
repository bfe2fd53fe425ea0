// The prefill problem as the host passes it, shared by softmax and sigmoid attention:
//
//     s[i, j] = scale * q[i] . k[j]      over the keys j that query i sees (schedule.cuh)
//     softmax:  o[i] = sum_j exp(s[i, j] - lse[i]) v[j],   lse[i] = log sum_j exp(s[i, j])
//     sigmoid:  o[i] = sum_j v[j] / (1 + exp(-(s[i, j] + bias)))
//
// q [tokens, heads, D], k and v [kv tokens, kv_heads, D], o as q, lse [heads, tokens] in fp32.
// Sequences are packed one after another; `q_starts` and `kv_starts` (sequences + 1 cumulative
// token counts) are null where all have the lengths q_len and kv_len.
#pragma once
#include "attention/numbers.cuh"
#include "attention/schedule.cuh"

struct Problem {
    const u16* q;
    const u16* k;
    const u16* v;
    u16* out;
    float* lse;  // null: not wanted
    const int* q_starts;
    const int* kv_starts;
    u32* counters;  // two zeros: tiles handed out, CTAs that have seen the end
    int sequences, heads, kv_heads;
    int q_len, kv_len;  // the longest, where lengths differ
    int tokens;         // rows of q
    int causal, window;
    int section;        // (sequence, head) pairs worked together
    float scale_log2;   // scale * log2(e)
    float bias_log2;    // sigmoid: bias * log2(e)
    int bias_from_length;  // sigmoid: the bias is -log(kv_len) of each sequence instead
};

struct Sequence {
    int q_start, q_len, kv_start, kv_len;
    __device__ __forceinline__ Sequence(const Problem& p, int i)
        : q_start(i * p.q_len), q_len(p.q_len), kv_start(i * p.kv_len), kv_len(p.kv_len) {
        if (p.q_starts == nullptr) return;
        q_start = __ldg(p.q_starts + i);
        q_len = __ldg(p.q_starts + i + 1) - q_start;
        kv_start = __ldg(p.kv_starts + i);
        kv_len = __ldg(p.kv_starts + i + 1) - kv_start;
    }
};

// Everything about one tile of queries that its loads, masks and stores need.
struct Work {
    int head, kv_head;
    int first_row;              // of the tile, within its sequence
    int q_start, q_len;         // the sequence's first token and length
    int kv_start, kv_len;
    attention::Blocks blocks;   // of keys
    int valid;                  // 0: there is nothing left to do
    int careful;                // 0: weights may be computed in a way that need not hold
    u32 failed;                 // and did not
};

__device__ __forceinline__ Work work_of_tile(const Problem& p, const attention::Tile& tile,
                                             int block_rows, int block_keys) {
    const Sequence sequence(p, tile.sequence);
    const int first_row = tile.block * block_rows;
    return {tile.head,
            tile.head / (p.heads / p.kv_heads),
            first_row,
            sequence.q_start,
            sequence.q_len,
            sequence.kv_start,
            sequence.kv_len,
            attention::key_blocks(first_row, block_rows, block_keys, sequence.q_len,
                                  sequence.kv_len, p.causal, p.window),
            first_row < sequence.q_len,
            1,
            0};
}

// The tile of a CTA that works one tile only: x walks the blocks of queries from the one with the
// most keys, y the heads, z the sequences. Not valid beyond a short sequence's end.
__device__ __forceinline__ Work work_of_block(const Problem& p, int block_rows, int block_keys) {
    return work_of_tile(p,
                        {static_cast<int>(gridDim.x - 1 - blockIdx.x),
                         static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)},
                        block_rows, block_keys);
}
