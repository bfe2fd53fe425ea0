// The chunked form with one gate per head and token, or none: GLA's scalar gate and SSD.
//
// With G_i the sum of log2 gates from the chunk's start up to and including token i (G_C the whole)
// and w_j the token's weight (SSD: dt_j; else 1),
//
//     A_ij = scale (q_i . k_j) 2^(G_i - G_j) w_j,   j <= i
//     o_i  = scale 2^(G_i) q_i S + sum_j A_ij v_j
//     S    = 2^(G_C) S + sum_j (w_j 2^(G_C - G_j) k_j) v_j^T
//
// Every exponent is a sum of gates, so <= 0, whatever their strength: no anchors are needed, q and
// k enter the products as they are. With HEADS = 2 a block works two neighbouring heads that share
// q and k (SSD's groups): their v lie side by side, and q k^T is computed once.
//
// SSD (Dao and Gu, arXiv 2405.21060): q = C, k = B, v = x, dt = softplus(delta + bias),
// gate = dt A, and D x is added to the output.
#pragma once
#include "gla/chunk.cuh"

#ifndef HEADS
#define HEADS 1
#endif
#ifndef SSD
#define SSD 0
#endif
constexpr int kHeads = HEADS;
static_assert(kHeads == 1 || (kHeads == 2 && kDv == 128), "two heads of 64 columns");
static_assert(kHeads == 1 || kStateParts == 1, "two heads: 128 rows of state");

struct Shared {
    u16 q[kChunk * kPitchK];
    u16 k[kChunk * kPitchK];
    u16 v[kChunk * kPitchV];
    u16 s[kDk * kPitchV];
    u16 a[kHeads][kChunk * kPitchA];
    float sum[kHeads][kChunk];     // G_i
    float weight[kHeads][kChunk];  // w_j
};

extern __shared__ __align__(16) u8 shared_bytes[];

struct Place {
    int batch, head, segment, col;
};

// Grid (columns of dv / kDv, or 1; segments; batch * heads / kHeads).
__device__ __forceinline__ Place place_of(const Problem& p) {
    const int per_batch = p.heads / kHeads;
    const int head = static_cast<int>(blockIdx.z) % per_batch * kHeads;
    return {static_cast<int>(blockIdx.z) / per_batch, head,
            static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * kDv};
}

template <bool Outputs>
__device__ __forceinline__ void load_chunk(Shared& s, const Problem& p, const Place& at, int t,
                                           int end) {
    const size_t stride_k = static_cast<size_t>(p.key_heads) * kDk;
    const int key_head = at.head / (p.heads / p.key_heads);
    const size_t from_k = token_row(at.batch, t, p.length, key_head, p.key_heads) * kDk;
    const size_t from_v = token_row(at.batch, t, p.length, at.head, p.heads) * p.dv + at.col;
    if (Outputs) load_rows<kDk>(s.q, p.q + from_k, stride_k, end - t);
    load_rows<kDk>(s.k, p.k + from_k, stride_k, end - t);
    load_rows<kDv>(s.v, p.v + from_v, static_cast<size_t>(p.heads) * p.dv, end - t);
    ptx::copy_async_commit();
}

// Warp h has the gates of head h: two tokens a lane.
struct Gates {
    float gate[2], weight[2];
};

__device__ __forceinline__ float softplus(float x) {
    const float w = exp2_approx(x * kLog2e);
    const float series = w * fmaf(w, fmaf(w, fmaf(w, -0.25f, 1.f / 3.f), -0.5f), 1.f);
    return x > 20.f ? x : w < 0.03125f ? series : log2_approx(1.f + w) * kLn2;
}

__device__ __forceinline__ Gates load_gates(const Problem& p, const Place& at, int t, int end) {
    Gates x = {};
    const int head = at.head + warp_index();
    if (warp_index() >= kHeads) return x;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int token = t + 2 * lane_index() + i;
        if (token >= end) continue;
        const size_t from = token_row(at.batch, token, p.length, head, p.heads);
        const float raw = p.g ? from_bf16(p.g[from]) : 0.f;
        if (SSD) {
            const float delta = raw + (p.bias ? p.bias[head] : 0.f);
            x.weight[i] = p.softplus ? softplus(delta) : delta;
            x.gate[i] = x.weight[i] * p.a[head] * kLog2e;
        } else {
            x.gate[i] = raw * kLog2e, x.weight[i] = 1.f;
        }
    }
    return x;
}

__device__ __forceinline__ void sum_gates(Shared& s, const Gates& x) {
    const int warp = warp_index(), lane = lane_index();
    if (warp >= kHeads) return;
    const float both = x.gate[0] + x.gate[1];
    float sum = both;
#pragma unroll
    for (int by = 1; by < kWarp; by *= 2) {
        const float below = __shfl_up_sync(kFullMask, sum, by);
        if (lane >= by) sum += below;
    }
    const float before = sum - both;
    s.sum[warp][2 * lane] = before + x.gate[0], s.sum[warp][2 * lane + 1] = sum;
    s.weight[warp][2 * lane] = x.weight[0], s.weight[warp][2 * lane + 1] = x.weight[1];
}

// The lower triangle of A for each head; warps as in vector.cuh.
__device__ __forceinline__ void score_chunk(Shared& s, float scale) {
    const int g = lane_index() / 4, t = lane_index() % 4, sub = warp_index() / 2;
#pragma unroll 1
    for (int b = warp_index() % 2; b <= sub; b += 2) {
        float tile[2][4] = {};
#pragma unroll 1
        for (int d = 0; d < kDk; d += 16) {
            u32 q[4], k[4];
            load_a(q, s.q, kPitchK, sub * kSub, d);
            load_b_transposed(k, s.k, kPitchK, d, b * kSub);
            multiply(tile[0], tile[1], q, k);
        }
#pragma unroll
        for (int at = 0; at < 4 * kHeads; ++at) {
            const int head = at % kHeads, part = at / kHeads / 2, half = at / kHeads % 2;
            const int i = sub * kSub + g + 8 * half, j = b * kSub + 8 * part + 2 * t;
            const float sum = s.sum[head][i];
            float pair[2];
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                // Above the diagonal the exponent would be positive: it is never used.
                const float decay = exp2_approx(sum - s.sum[head][j + n]);
                const float a = scale * s.weight[head][j + n] * decay;
                pair[n] = j + n <= i ? a * tile[part][2 * half + n] : 0.f;
            }
            *reinterpret_cast<u32*>(s.a[head] + i * kPitchA + j) = pack_bf16(pair[0], pair[1]);
        }
    }
}

// kPassCols columns of o for one sub-chunk (HEADS = 2: the columns' half is the head).
__device__ __forceinline__ void output_pass(const Shared& s, const Problem& p, int col, OutTile& o) {
    // Opaque, or addresses are kept for other chunks in registers that the state needs.
    const int lane = opaque(lane_index()), sub = warp_index() / 2, row = sub * kSub + lane / 4;
    const int head = kHeads == 2 ? col / 64 : 0;
    add_state_product(o, s.q, sub * kSub, s.s, col);
    const float top = p.scale * exp2_approx(s.sum[head][row]);
    const float low = p.scale * exp2_approx(s.sum[head][row + 8]);
#pragma unroll
    for (int j = 0; j < kPassCols / 8; ++j)
        o[j][0] *= top, o[j][1] *= top, o[j][2] *= low, o[j][3] *= low;
    add_product(o, s.a[head], sub * kSub, s.v, col, sub + 1);
    if (!SSD || !p.skip) return;
    const float skip = p.skip[place_of(p).head + head];  // not kept from chunk to chunk
#pragma unroll
    for (int j = 0; j < kPassCols / 8; ++j) {
        const u16* x = s.v + row * kPitchV + col + 8 * j + 2 * (lane % 4);
        const u32 above = *reinterpret_cast<const u32*>(x);
        const u32 below = *reinterpret_cast<const u32*>(x + 8 * kPitchV);
        o[j][0] = fmaf(skip, bf16_low(above), o[j][0]);
        o[j][1] = fmaf(skip, bf16_high(above), o[j][1]);
        o[j][2] = fmaf(skip, bf16_low(below), o[j][2]);
        o[j][3] = fmaf(skip, bf16_high(below), o[j][3]);
    }
}

__device__ __forceinline__ void update_state(const Shared& s, StateTile& state, StatePlace at) {
    constexpr int kTiles = kStateCols / 8, kOfHead = kTiles / kHeads;
    const int t = lane_index() % 4;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
        const float decay = exp2_approx(s.sum[j / kOfHead][kChunk - 1]);
        state[j][0] *= decay, state[j][1] *= decay, state[j][2] *= decay, state[j][3] *= decay;
    }
#pragma unroll 1
    for (int b = 0; b < kSubs; ++b) {
        u32 raw[4];
        load_a_transposed(raw, s.k, kPitchK, at.row, b * kSub);
#pragma unroll
        for (int head = 0; head < kHeads; ++head) {
            const float whole = s.sum[head][kChunk - 1];
            float w[4];  // of tokens 2 t, 2 t + 1, 2 t + 8, 2 t + 9
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int token = b * kSub + 2 * t + i % 2 + i / 2 * 8;
                w[i] = s.weight[head][token] * exp2_approx(whole - s.sum[head][token]);
            }
            const u32 k[4] = {scaled(raw[0], w[0], w[1]), scaled(raw[1], w[0], w[1]),
                              scaled(raw[2], w[2], w[3]), scaled(raw[3], w[2], w[3])};
#pragma unroll
            for (int j = head * kOfHead; j < (head + 1) * kOfHead; j += 2) {
                u32 v[4];
                load_b(v, s.v, kPitchV, b * kSub, at.col + 8 * j);
                multiply(state[j], state[j + 1], k, v);
            }
        }
    }
}

// A block's state: one head's rows of dv columns, or two heads' of 64 side by side.
template <bool Write>
__device__ __forceinline__ void move_state(StateTile& s, float* states, const Problem& p,
                                           const Place& at, int segment, int segments,
                                           StatePlace part) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int j = 0; j < kStateCols / 8; ++j) {
        const int col = at.col + part.col + 8 * j + 2 * t;
        const int head = at.head + (kHeads == 2 ? col / 64 : 0);
        const int within = kHeads == 2 ? col % 64 : col;
        float* row = states + (state_row(p, at.batch, head, segment, segments) + part.row + g) * p.dv +
                     within;
        float2* top = reinterpret_cast<float2*>(row);
        float2* low = reinterpret_cast<float2*>(row + 8 * p.dv);
        if (Write) {
            *top = make_float2(s[j][0], s[j][1]), *low = make_float2(s[j][2], s[j][3]);
        } else {
            s[j][0] = top->x, s[j][1] = top->y, s[j][2] = low->x, s[j][3] = low->y;
        }
    }
}
