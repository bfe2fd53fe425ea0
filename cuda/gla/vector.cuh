// The chunked form with a gate per key dimension, safe for any gate.
//
// A chunk of 64 tokens is 4 sub-chunks of 16. Let G_i be the sum of log2 gates from the start of
// token i's sub-chunk up to and including i, and L_a the whole sum of sub-chunk a. Per key
// dimension (all exponents below are sums of gates, so they are <= 0):
//
//     q^_i = q_i 2^(G_i)              k^_j = k_j 2^(L_b - G_j)          i in a, j in b
//
//     A_ij = q^_i . F_ab k^_j         F_ab = 2^(L_{b+1} + ... + L_{a-1})  for b < a
//     o_i  = (2^(L_0 + .. + L_{a-1}) q^_i) S + sum_j A_ij v_j
//     S    = 2^(L_0 + .. + L_3) S + sum_b (2^(L_{b+1} + .. + L_3) k^_b)^T v_b
//
// On the diagonal (b = a) F_aa = 2^(-L_a) >= 1. While L_a > -kSafe, q^ stays a normal bf16 number
// and the product is as exact as the others: tensor cores. Beyond that (more than 4.3 nats per token
// for 16 tokens) the sub-chunk's 16 x 16 pairs are added up one by one with 2^(G_i - G_j) <= 1,
// before q and k are overwritten.
#pragma once
#include "common/barrier.cuh"
#include "gla/chunk.cuh"
#include "gla/pairs.cuh"

struct Shared {
    u16 q[kChunk * kPitchK];
    u16 k[kChunk * kPitchK];
    u16 v[kChunk * kPitchV];
    union {
        u16 g[kChunk * kPitchK];  // until scaled
        u16 a[kChunk * kPitchA];  // from then on
    };
    u16 s[kDk * kPitchV];
    float end[kSubs][kDk];      // 2^(L_a)
    float inverse[kSubs][kDk];  // 2^(-L_a), where safe
    float pairs[kWarps][kPairs];
    int strong[kWarps];
};

extern __shared__ __align__(16) u8 shared_bytes[];

struct Place {
    int batch, head, segment, col;
};

// Grid (columns of dv / kDv, segments, batch * heads).
__device__ __forceinline__ Place place_of(const Problem& p) {
    return {static_cast<int>(blockIdx.z) / p.heads, static_cast<int>(blockIdx.z) % p.heads,
            static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * kDv};
}

template <bool Outputs>
__device__ __forceinline__ void load_chunk(Shared& s, const Problem& p, const Place& at, int t,
                                           int end) {
    const size_t stride_k = static_cast<size_t>(p.heads) * kDk;
    const size_t from_k = token_row(at.batch, t, p.length, at.head, p.heads) * kDk;
    const size_t from_v = token_row(at.batch, t, p.length, at.head, p.heads) * p.dv + at.col;
    const int rows = end - t;
    if (Outputs) load_rows<kDk>(s.q, p.q + from_k, stride_k, rows);
    load_rows<kDk>(s.k, p.k + from_k, stride_k, rows);
    load_rows<kDk>(s.g, p.g + from_k, stride_k, rows);
    load_rows<kDv>(s.v, p.v + from_v, static_cast<size_t>(p.heads) * p.dv, rows);
    ptx::copy_async_commit();
}

// Turns q and k into q^ and k^ in place. A warp takes one sub-chunk and half of the key dimensions,
// a lane two of them for all 16 tokens.
template <bool Outputs>
__device__ __forceinline__ void scale_chunk(Shared& s, float scale) {
    const int warp = warp_index(), lane = lane_index();
    const int sub = warp / 2, pair = warp % 2 * kWarp + lane;
    const bool active = pair < kDk / 2;
    const int at = sub * kSub * kPitchK + (active ? pair : 0) * 2;
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll 2
    for (int i = 0; i < kSub; ++i) {
        const u32 gate = *reinterpret_cast<const u32*>(s.g + at + i * kPitchK);
        sum.x = fmaf(bf16_low(gate), kLog2e, sum.x);
        sum.y = fmaf(bf16_high(gate), kLog2e, sum.y);
    }
    if (Outputs) {
        const bool safe = __all_sync(kFullMask, !active || fminf(sum.x, sum.y) > -kSafe);
        if (lane == 0) s.strong[warp] = !safe;
        ptx::named_barrier_sync(1 + sub, 2 * kWarp);  // the pair decides together
        if (s.strong[warp] || s.strong[warp ^ 1])
            add_pairs(s.pairs[warp], active, scale, [&](int what, int i) {
                const u16* tile = what == kQuery ? s.q : what == kKey ? s.k : s.g;
                return *reinterpret_cast<const u32*>(tile + at + i * kPitchK);
            });
    }
    if (!active) return;
    float2 run = make_float2(0.f, 0.f);
#pragma unroll 2
    for (int i = 0; i < kSub; ++i) {
        const u32 gate = *reinterpret_cast<const u32*>(s.g + at + i * kPitchK);
        run.x = fmaf(bf16_low(gate), kLog2e, run.x);
        run.y = fmaf(bf16_high(gate), kLog2e, run.y);
        u32* k = reinterpret_cast<u32*>(s.k + at + i * kPitchK);
        *k = scaled(*k, exp2_approx(sum.x - run.x), exp2_approx(sum.y - run.y));
        if (!Outputs) continue;
        u32* q = reinterpret_cast<u32*>(s.q + at + i * kPitchK);
        *q = scaled(*q, scale * exp2_approx(run.x), scale * exp2_approx(run.y));
    }
    *reinterpret_cast<float2*>(&s.end[sub][2 * pair]) =
        make_float2(exp2_approx(sum.x), exp2_approx(sum.y));
    if (Outputs)
        *reinterpret_cast<float2*>(&s.inverse[sub][2 * pair]) =
            make_float2(exp2_approx(-sum.x), exp2_approx(-sum.y));
}

// Products of end[first .. last) at dimensions d and d + 1.
__device__ __forceinline__ float2 decay_over(const Shared& s, int first, int last, int d) {
    float2 f = make_float2(1.f, 1.f);
    for (int sub = first; sub < last; ++sub) {
        const float2 e = *reinterpret_cast<const float2*>(&s.end[sub][d]);
        f.x *= e.x, f.y *= e.y;
    }
    return f;
}

// An operand a of q^ (rows of one sub-chunk, 16 dimensions from d on), each dimension times f.
__device__ __forceinline__ void scale_a(u32 (&a)[4], float2 low, float2 high) {
    a[0] = scaled(a[0], low.x, low.y), a[1] = scaled(a[1], low.x, low.y);
    a[2] = scaled(a[2], high.x, high.y), a[3] = scaled(a[3], high.x, high.y);
}

// The 16 x 16 tile (sub, b) of A, b < sub or a safe diagonal, into left and right (8 columns each).
__device__ __forceinline__ void score_tile(const Shared& s, int sub, int b, float (&left)[4],
                                           float (&right)[4]) {
    const int t = lane_index() % 4;
#pragma unroll 2
    for (int d = 0; d < kDk; d += 16) {
        u32 q[4], k[4];
        load_a(q, s.q, kPitchK, sub * kSub, d);
        load_b_transposed(k, s.k, kPitchK, d, b * kSub);
        if (b == sub) {
            const float* f = &s.inverse[sub][d + 2 * t];
            scale_a(q, *reinterpret_cast<const float2*>(f), *reinterpret_cast<const float2*>(f + 8));
        } else if (b + 1 < sub) {
            scale_a(q, decay_over(s, b + 1, sub, d + 2 * t),
                    decay_over(s, b + 1, sub, d + 8 + 2 * t));
        }
        multiply(left, right, q, k);
    }
}

// One element of a strong diagonal tile, from both warps' shares; above the diagonal 0.
__device__ __forceinline__ float pair_sum(const Shared& s, int sub, int i, int j) {
    const int at = i * (i + 1) / 2 + j;
    return j > i ? 0.f : s.pairs[2 * sub][at] + s.pairs[2 * sub + 1][at];
}

// The lower triangle of A, one sub-chunk's row of tiles per pair of warps.
__device__ __forceinline__ void score_chunk(Shared& s) {
    const int g = lane_index() / 4, t = lane_index() % 4, sub = warp_index() / 2;
#pragma unroll 1
    for (int b = warp_index() % 2; b <= sub; b += 2) {
        float tile[2][4] = {};
        const bool strong = b == sub && (s.strong[2 * sub] || s.strong[2 * sub + 1]);
        if (!strong) score_tile(s, sub, b, tile[0], tile[1]);
#pragma unroll
        for (int part = 0; part < 2; ++part)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int i = g + 8 * half, j = 8 * part + 2 * t;
                float low = tile[part][2 * half], high = tile[part][2 * half + 1];
                if (strong) low = pair_sum(s, sub, i, j), high = pair_sum(s, sub, i, j + 1);
                if (b == sub) low = j <= i ? low : 0.f, high = j + 1 <= i ? high : 0.f;
                *reinterpret_cast<u32*>(s.a + (sub * kSub + i) * kPitchA + b * kSub + j) =
                    pack_bf16(low, high);
            }
    }
}

// q^ times the decays of the sub-chunks before its own, in place, once the scores are done: only
// the pair of warps that does this reads these rows.
__device__ __forceinline__ void carry_queries(Shared& s) {
    const int warp = warp_index(), sub = warp / 2;
    const int pair = warp % 2 * kWarp + lane_index();
    ptx::named_barrier_sync(1 + sub, 2 * kWarp);
    if (sub == 0 || pair >= kDk / 2) return;
    const float2 f = decay_over(s, 0, sub, 2 * pair);
#pragma unroll 2
    for (int i = 0; i < kSub; ++i) {
        u32* q = reinterpret_cast<u32*>(s.q + (sub * kSub + i) * kPitchK + 2 * pair);
        *q = scaled(*q, f.x, f.y);
    }
}

// o = (decayed q^) S + A v: kPassCols columns of one sub-chunk.
__device__ __forceinline__ void output_pass(const Shared& s, int col, OutTile& o) {
    const int sub = warp_index() / 2;
    add_state_product(o, s.q, sub * kSub, s.s, col);
    add_product(o, s.a, sub * kSub, s.v, col, sub + 1);
}

// S = decay S + (decayed k^)^T v on this warp's part of the state.
__device__ __forceinline__ void update_state(const Shared& s, StateTile& state, StatePlace at) {
    const int g = lane_index() / 4;
    float top = 1.f, low = 1.f;  // the whole chunk's decay of rows g and g + 8
#pragma unroll
    for (int b = 0; b < kSubs; ++b)
        top *= s.end[b][at.row + g], low *= s.end[b][at.row + g + 8];
#pragma unroll
    for (int j = 0; j < kStateCols / 8; ++j)
        state[j][0] *= top, state[j][1] *= top, state[j][2] *= low, state[j][3] *= low;
    top = low = 1.f;  // from here on 2^(L_{b+1} + .. + L_3)
#pragma unroll 1
    for (int b = kSubs - 1; b >= 0; --b) {
        u32 k[4];
        load_a_transposed(k, s.k, kPitchK, at.row, b * kSub);
        k[0] = scaled(k[0], top, top), k[2] = scaled(k[2], top, top);
        k[1] = scaled(k[1], low, low), k[3] = scaled(k[3], low, low);
#pragma unroll
        for (int j = 0; j < kStateCols / 16; ++j) {
            u32 w[4];
            load_b(w, s.v, kPitchV, b * kSub, at.col + 16 * j);
            multiply(state[2 * j], state[2 * j + 1], k, w);
        }
        top *= s.end[b][at.row + g], low *= s.end[b][at.row + g + 8];
    }
}
