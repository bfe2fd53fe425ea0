// arch: sm_90a
// registers: 168
// threads: 512
// dynamic_smem: 223232
// defines: DK=128 DV=128
// defines: DK=64 DV=128
//
// Gated linear attention with a gate per key dimension, on Hopper. A chunk of 64 tokens is 4 sub-chunks
// of 16; G_i is the sum of log2 gates from the start of token i's sub-chunk, L_a the sum of sub-chunk
// a. Per key dimension,
// with P_a = L_0 + .. + L_{a-1} and the anchor E_a = P_a rounded to an integer:
//
//     q^_i = q_i 2^(P_a + G_i - E_a)        q~_i = scale q_i 2^(P_a + G_i)       i in a
//     k^_j = k_j 2^(E_{b+1} - P_b - G_j)    k~_j = k_j 2^(P_4 - P_b - G_j)       j in b
//     A_ij = scale q^_i . F_ab k^_j         F_ab = 2^(E_a - E_{b+1})
//     O = q~ S + A V                        S = 2^(P_4) S + k~^T V
//
// A power of two of an integer scales bf16 exactly: between sub-chunks F_ab <= 1 costs no rounding and
// one instruction for two elements. On the diagonal F_aa >= 1; vector.cuh tells how far that is used and
// what is done beyond. Exponents are at most 1/2. q^, q~, k^, k~ are rounded once, from fp32. q^, k^ and
// q~ take the places of q, k and g; k~ goes to a ring of its own. A is made by mma.sync, whose operands
// are 16 x 16: a decay between two sub-chunks is no 64-row operand's.
//
// Limits, 1 x 8192 x 96 heads, dk=dv=128, bf16 gates, on an H200: 786,432 (token, head).
//   memory     q, k, v, g, o: 1280 bytes each: 1.0 GB, 252 us at 4.0 TB/s; per chunk 80 KB: 4600 clocks of
//              an SM's share. This should bind
//   tensor     per chunk wgmma 2 * (256 + 128 + 256) clocks, mma.sync 160 of 32 FLOP a clock and lane: 1440
//   special    4 exponentials per token and two dimensions: 16,400 per chunk: 1024 clocks
//   issue      warp-instructions a chunk: scaling 8 * 750, scores 8 * 400, state 8 * 350: 3000 clocks
// 96 blocks of 128 chunks, one block per SM, 73 % of the SMs. The longest chain is the scaling
// warpgroups': read and sum gates, scale 16 tokens in batches of 8 loads, two tiles of scores, three
// meetings: 6300 clocks a chunk, 128 * 6300 at 1.9 GHz = 0.43 ms. B=2 T=8192 H=16: 4 segments, 96 + 128
// blocks of 32 chunks: 0.16 ms.
//
// Roles: warpgroups 0 and 1 turn a chunk into q~, k~, A and its decay, a chunk ahead of 2 and 3, which
// hold S^T (hopper.cuh). The last of their warps to have read a stage sends for the chunk after next:
// a warpgroup for loads alone would cost the registers that these need.
//
// Registers: 2 * 96 + 2 * 160 = 512 = 65,536 / 128. Shared memory: two stages 131,072, k~ 32,768,
//   A 16,384, outputs 32,768, decays and strong diagonals 11,600.
#include "gla/hopper.cuh"
#include "gla/pairs.cuh"

constexpr int kStages = 2;
constexpr int kScaling = 2;       // warpgroups that scale and score: two warps a sub-chunk
constexpr int kScalers = kScaling * kWarpgroup;
constexpr int kScalerWarps = kScalers / kWarp;
constexpr int kBarrier = 1 + kStateGroups;  // the named barrier of the scaling warpgroups
constexpr int kBatch = 8;         // tokens in flight while scaling; rows of one swizzle
constexpr int kStateWarps = 4 * kStateGroups;
constexpr int kThreads = kWarpgroup * (kScaling + kStateGroups);
constexpr int kKeyBytes = kChunk * kDk * 2;
constexpr int kValueBytes = kChunk * kDv * 2;
static_assert(kScalerWarps == 2 * kSubs, "two warps a sub-chunk");

// The factors F_ab that are not 1: on the diagonal, a = 0..3; then (2, 0), (3, 1), (3, 0).
constexpr int kFactors = 7;
__device__ __forceinline__ int factor_of(int sub, int b) {
    return sub == b ? sub : sub == 2 ? 4 : 6 - b;
}

struct Shared {
    struct {
        KeyTile q, k, g;  // then q^, k^, q~
        ValueTile v;
    } stage[kStages];
    KeyTile pushed[kStages];  // k~
    Panel scores[kStages];
    Panel out[kStateGroups][2];
    float decay[kStages][kDk];  // 2^(L_0 + .. + L_3)
    float sum[kSubs][kDk];      // L_a
    u32 between[kFactors][kDk / 2];  // two dimensions each, bf16
    float pairs[kScalerWarps][kPairs];
    int strong[kScalerWarps];
    u64 full[kStages], scored[kStages];
    u32 readers[kStages];  // state warps that have read a stage, ever
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

struct Maps {
    const TensorMap *q, *k, *g, *v, *out;
};

using Ring = ptx::Ring<kStages>;

// Grid (columns of dv / kDv, segments, batch * heads).
__device__ __forceinline__ Place place_of(const Problem& p) {
    return {static_cast<int>(blockIdx.z) / p.heads, static_cast<int>(blockIdx.z) % p.heads,
            static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * kDv};
}

// ---------------------------------------------------------------- loads: whoever frees a stage

// One thread: the chunk at token t into a stage.
template <bool Outputs>
__device__ __forceinline__ void load_chunk(Shared& s, const Problem& p, const Maps& maps,
                                           const Place& at, int stage, int t) {
    const int key = at.head * kKeyPanels, value = (at.head * p.dv + at.col) / kPanelCols;
    u64* full = &s.full[stage];
    auto& to = s.stage[stage];
    ptx::mbarrier_arrive_expect(full, (Outputs ? 3 : 2) * kKeyBytes + kValueBytes);
    ptx::tma_load_4d(&to.g, maps.g, full, 0, t, key, at.batch);
    if (Outputs) ptx::tma_load_4d(&to.q, maps.q, full, 0, t, key, at.batch);
    ptx::tma_load_4d(&to.k, maps.k, full, 0, t, key, at.batch);
    ptx::tma_load_4d(&to.v, maps.v, full, 0, t, value, at.batch);
}

// The last warp to have read a stage refills it. The scaling warps read it before these do.
template <bool Outputs>
__device__ __forceinline__ void free_stage(Shared& s, const Problem& p, const Maps& maps,
                                           const Place& at, int stage, Range tokens, int n) {
    __syncwarp();
    if (lane_index() == 0) {
        __threadfence_block();
        const bool last = atomicAdd(&s.readers[stage], 1u) % kStateWarps == kStateWarps - 1;
        if (last && n + kStages < tokens.chunks())
            load_chunk<Outputs>(s, p, maps, at, stage, tokens.token<Outputs>(n + kStages));
    }
    __syncwarp();
}

// ---------------------------------------------------------------- scaling and scores: two warpgroups

// Where a scaling thread works: two key dimensions of one sub-chunk's 16 tokens.
struct Part {
    int sub, dim;
    u32 offset;   // in a tile, of the sub-chunk's first token, bytes
    bool active;  // with 64 key dimensions, the second warp of a pair has none
};

__device__ __forceinline__ Part part_of(int thread) {
    const int pair = thread % (2 * kWarp), sub = thread / (2 * kWarp);
    const bool active = pair < kDk / 2;
    const int dim = active ? 2 * pair : 0;
    const u32 panel = dim / kPanelCols * sizeof(Panel), row = sub * kSub * kPanelCols * 2;
    return {sub, dim, panel + row + dim % kPanelCols * 2, active};
}

// Two dimensions of token i of the part's sub-chunk; `element` with its arithmetic spelled out, so
// that 8 addresses serve all tokens and tiles.
__device__ __forceinline__ u32* two(KeyTile& tile, const Part& part, int i) {
    const u32 at = (part.offset ^ i % 8 * 16) + i * kPanelCols * 2;
    return reinterpret_cast<u32*>(reinterpret_cast<u8*>(&tile) + at);
}

__device__ __forceinline__ float2 sum_gates(KeyTile& g, const Part& part) {
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll 8
    for (int i = 0; i < kSub; ++i) {
        const u32 gate = *two(g, part, i);
        sum.x += bf16_low(gate), sum.y += bf16_high(gate);
    }
    return make_float2(sum.x * kLog2e, sum.y * kLog2e);
}

// Sums of gates of sub-chunks 0..3 at two dimensions, weighted 1 where `take(sub)`.
template <typename Take>
__device__ __forceinline__ float2 sum_of(const Shared& s, int dim, Take take) {
    float2 sum = make_float2(0.f, 0.f);
#pragma unroll
    for (int sub = 0; sub < kSubs; ++sub) {
        const float2 x = *reinterpret_cast<const float2*>(&s.sum[sub][dim]);
        sum.x += take(sub) ? x.x : 0.f, sum.y += take(sub) ? x.y : 0.f;
    }
    return sum;
}

__device__ __forceinline__ float2 anchor(float2 x) { return make_float2(rintf(x.x), rintf(x.y)); }

__device__ __forceinline__ void write_factor(Shared& s, int factor, int dim, float2 from,
                                             float2 to) {
    s.between[factor][dim / 2] = pack_bf16(exp2_approx(to.x - from.x), exp2_approx(to.y - from.y));
}

// q, k, g of a sub-chunk into q^, k^, q~ in place, and k~; `later` are the gates of chunks after this
// one that came before it (Outputs: none).
template <bool Outputs>
__device__ __forceinline__ void scale_part(Shared& s, int stage, const Part& part, float2 sum,
                                           float2 later, float scale) {
    auto& in = s.stage[stage];
    const float2 before = sum_of(s, part.dim, [&](int sub) { return sub < part.sub; });
    const float2 whole = sum_of(s, part.dim, [](int) { return true; });
    const float2 start = anchor(before);  // E_a, E_{a+1}
    const float2 end = anchor(make_float2(before.x + sum.x, before.y + sum.y));
    const float2 carry = make_float2(scale * exp2_approx(start.x), scale * exp2_approx(start.y));
    const float2 push = make_float2(exp2_approx(whole.x - end.x + later.x),
                                    exp2_approx(whole.y - end.y + later.y));
    const float2 span = make_float2(end.x - start.x, end.y - start.y);
    float2 run = make_float2(before.x - start.x, before.y - start.y);
#pragma unroll 1
    for (int first = 0; first < kSub; first += kBatch) {
        Part here = part;
        here.offset += first * kPanelCols * 2;
        u32 g[kBatch], k[kBatch], q[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {  // all loads before the first store
            g[i] = *two(in.g, here, i), k[i] = *two(in.k, here, i);
            if (Outputs) q[i] = *two(in.q, here, i);
        }
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
            run.x = fmaf(bf16_low(g[i]), kLog2e, run.x);
            run.y = fmaf(bf16_high(g[i]), kLog2e, run.y);
            const float low = bf16_low(k[i]) * exp2_approx(span.x - run.x);
            const float high = bf16_high(k[i]) * exp2_approx(span.y - run.y);
            *two(s.pushed[stage], here, i) = pack_bf16(low * push.x, high * push.y);
            if (!Outputs) continue;
            *two(in.k, here, i) = pack_bf16(low, high);
            const float left = bf16_low(q[i]) * exp2_approx(run.x);
            const float right = bf16_high(q[i]) * exp2_approx(run.y);
            *two(in.q, here, i) = pack_bf16(left, right);
            *two(in.g, here, i) = pack_bf16(left * carry.x, right * carry.y);
        }
    }
    if (part.sub == 0)
        *reinterpret_cast<float2*>(&s.decay[stage][part.dim]) =
            make_float2(exp2_approx(whole.x), exp2_approx(whole.y));
    if (!Outputs) return;
    write_factor(s, part.sub, part.dim, end, start);
    if (part.sub == 1 || part.sub == 2) write_factor(s, 3 + part.sub, part.dim, start, end);
    if (part.sub == 3) {
        const float2 first = *reinterpret_cast<const float2*>(&s.sum[0][part.dim]);
        write_factor(s, 6, part.dim, anchor(first), start);
    }
}

// The 16 x 16 tile (sub, b) of A, b < sub or a safe diagonal; 8 columns each in left and right.
// Neighbours (b + 1 = sub) have nothing between them.
template <bool Scaled>
__device__ __forceinline__ void score_tile(Shared& s, int stage, int sub, int b, float (&left)[4],
                                           float (&right)[4]) {
    const int lane = lane_index(), t = lane % 4;
    auto& in = s.stage[stage];
#pragma unroll 4
    for (int d = 0; d < kDk; d += 16) {
        u32 q[4], k[4];
        const int panel = d / kPanelCols, col = d % kPanelCols;
        ptx::ldmatrix_x4(q, element(in.q.panel[panel], sub * kSub + lane % 16, col + lane / 16 * 8));
        ptx::ldmatrix_x4(k, element(in.k.panel[panel], b * kSub + lane / 16 * 8 + lane % 8,
                                    col + lane / 8 % 2 * 8));
        if (Scaled) {
            const u32* f = s.between[factor_of(sub, b)] + d / 2 + t;
            q[0] = multiply_bf16(q[0], f[0]), q[1] = multiply_bf16(q[1], f[0]);
            q[2] = multiply_bf16(q[2], f[4]), q[3] = multiply_bf16(q[3], f[4]);
        }
        multiply(left, right, q, k);
    }
}

// One element of a strong diagonal tile, from both warps' shares; above the diagonal 0.
__device__ __forceinline__ float pair_sum(const Shared& s, int sub, int i, int j) {
    const int at = i * (i + 1) / 2 + j;
    return j > i ? 0.f : s.pairs[2 * sub][at] + s.pairs[2 * sub + 1][at];
}

// A warp's tiles of the lower triangle: those of its sub-chunk's row whose number has its parity. The
// tiles above the diagonal are zero from the start.
__device__ __forceinline__ void score_part(Shared& s, int stage, int warp, bool strong,
                                           float scale) {
    const int lane = lane_index(), g = lane / 4, t = lane % 4, sub = warp / 2;
#pragma unroll 1
    for (int b = warp % 2; b <= sub; b += 2) {
        float tile[2][4] = {};
        if (b + 1 == sub) score_tile<false>(s, stage, sub, b, tile[0], tile[1]);
        else if (b < sub || !strong) score_tile<true>(s, stage, sub, b, tile[0], tile[1]);
        u32 a[4];
#pragma unroll
        for (int x = 0; x < 4; ++x) {  // columns of 8, x / 2; rows of 8, x % 2
            const int i = g + x % 2 * 8, j = x / 2 * 8 + 2 * t;
            float low = tile[x / 2][x % 2 * 2], high = tile[x / 2][x % 2 * 2 + 1];
            if (b == sub) {
                if (strong) low = pair_sum(s, sub, i, j), high = pair_sum(s, sub, i, j + 1);
                low = j <= i ? low : 0.f, high = j + 1 <= i ? high : 0.f;
            }
            a[x] = pack_bf16(scale * low, scale * high);
        }
        ptx::stmatrix_x4(element(s.scores[stage], sub * kSub + lane % 16,
                                 b * kSub + lane / 16 * 8), a[0], a[1], a[2], a[3]);
    }
}

// Returns the log2 of all chunks' decay at this thread's dimensions (for a segment's own state).
template <bool Outputs>
__device__ __forceinline__ float2 scale_chunks(Shared& s, const Problem& p, int thread,
                                               Range tokens) {
    const Part part = part_of(thread);
    const int warp = thread / kWarp;
    float2 total = make_float2(0.f, 0.f);
    for (int i = thread; i < kStages * static_cast<int>(sizeof(Panel)) / 4; i += kScalers)
        reinterpret_cast<u32*>(s.scores)[i] = 0;
    Ring ring;
#pragma unroll 1
    for (int n = 0; n < tokens.chunks(); ++n) {
        auto& in = s.stage[ring.stage];
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        const float2 sum = sum_gates(in.g, part);
        if (part.active) *reinterpret_cast<float2*>(&s.sum[part.sub][part.dim]) = sum;
        if (Outputs) {
            const bool safe = !part.active || fminf(sum.x, sum.y) > -kSafe;
            const bool all = __all_sync(kFullMask, safe);
            if (lane_index() == 0) s.strong[warp] = !all;
        }
        ptx::named_barrier_sync(kBarrier, kScalers);
        const bool strong = Outputs && (s.strong[warp] || s.strong[warp ^ 1]);
        if (strong)
            add_pairs(s.pairs[warp], part.active, 1.f, [&](int what, int i) {
                Part here = part;  // opaque: 8 addresses kept in registers would spill
                here.offset = opaque(part.offset);
                return *two(what == kQuery ? in.q : what == kKey ? in.k : in.g, here, i);
            });
        if (part.active) scale_part<Outputs>(s, ring.stage, part, sum, total, p.scale);
        if (!Outputs) {
            const float2 chunk = sum_of(s, part.dim, [](int) { return true; });
            total.x += chunk.x, total.y += chunk.y;
        }
        ptx::named_barrier_sync(kBarrier, kScalers);
        if (Outputs) score_part(s, ring.stage, warp, strong, p.scale);
        ptx::fence_async_shared();
        __syncwarp();
        ptx::mbarrier_arrive(&s.scored[ring.stage]);
        ring.advance();
    }
    return total;
}

// ---------------------------------------------------------------- state: a warpgroup per 64 of dv

__device__ __forceinline__ void decay_state(State& state, const float* decay) {
    const int t = lane_index() % 4;
#pragma unroll
    for (int j = 0; j < kDk / 8; ++j) {
        const float2 f = *reinterpret_cast<const float2*>(decay + 8 * j + 2 * t);
        state[4 * j] *= f.x, state[4 * j + 1] *= f.y;
        state[4 * j + 2] *= f.x, state[4 * j + 3] *= f.y;
    }
}

// A stage's k~, A and decay are made after its inputs came and freed with them: one ring for all.
template <bool Outputs>
__device__ __forceinline__ void walk_chunks(Shared& s, const Problem& p, const Maps& maps,
                                            const Place& at, int group, State& state,
                                            Range tokens) {
    const int panel = (at.head * p.dv + at.col) / kPanelCols + group;
    Ring ring;
#pragma unroll 1
    for (int n = 0; n < tokens.chunks(); ++n) {
        auto& in = s.stage[ring.stage];
        Output o;
        u32 rounded[kDk / 16][4], v[4][4];
        if (Outputs) pack_state(rounded, state);
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        ptx::mbarrier_wait(&s.scored[ring.stage], ring.parity);
        if (Outputs) issue_carried(o, rounded, in.g);
        if (Outputs) decay_state(state, s.decay[ring.stage]);
        if (Outputs) ptx::wgmma_wait<0>();  // v takes the rounded state's registers
        load_values(v, in.v.panel[group]);
        if (Outputs) {
            ptx::pin(o);
            issue_scored(o, v, s.scores[ring.stage]);
        }
        ptx::pin(state);
        issue_update(state, v, s.pushed[ring.stage]);
        if (Outputs) {
            ptx::wgmma_wait<1>();
            ptx::pin(o);
            store_outputs(o, s.out[group], n, maps.out, group, tokens.token<true>(n), panel,
                          at.batch);
        }
        ptx::wgmma_wait<0>();
        ptx::pin(state);
        free_stage<Outputs>(s, p, maps, at, ring.stage, tokens, n);
        ring.advance();
    }
    if (Outputs && threadIdx.x % kWarpgroup == 0) ptx::bulk_wait<0>();
}

// ---------------------------------------------------------------- roles

template <bool Outputs>
__device__ __forceinline__ void start(Shared& s, const Problem& p, const Maps& maps) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(&s.full[i], 1);
            ptx::mbarrier_init(&s.scored[i], kScalerWarps * kWarp);
            s.readers[i] = 0;
        }
        ptx::fence_mbarrier_init();
        const Place at = place_of(p);
        const Range tokens = segment_of(p, at);
        for (int i = 0; i < least(kStages, tokens.chunks()); ++i)
            load_chunk<Outputs>(s, p, maps, at, i, tokens.token<Outputs>(i));
    }
    __syncthreads();
}

// Each role finds its place itself: values that live across the split would be spilled.
template <bool Outputs>
__device__ __forceinline__ void scale_role(Shared& s, const Problem& p) {
    const Place at = place_of(p);
    const int thread = threadIdx.x;
    const float2 total = scale_chunks<Outputs>(s, p, thread, segment_of(p, at));
    const Part part = part_of(thread);
    if (Outputs || blockIdx.x > 0 || part.sub > 0 || !part.active) return;
    const size_t row = state_row(p, at.batch, at.head, at.segment, p.segments);
    *reinterpret_cast<float2*>(p.decay + row + part.dim) =
        make_float2(exp2_approx(total.x), exp2_approx(total.y));
}

template <bool Outputs>
__device__ __forceinline__ void state_role(Shared& s, const Problem& p, const Maps& maps,
                                           int group) {
    const Place at = place_of(p);
    const int col = at.col + kPanelCols * group;
    const size_t rows = state_row(p, at.batch, at.head, 0, p.segments);
    State state = {};
    if (Outputs)
        start_state(state, p, at, p.local + rows * p.dv + col, col, at.head,
                    [&](int segment, int j) {
                        return *reinterpret_cast<const float2*>(
                            p.decay + rows + segment * kDk + 8 * j + lane_index() % 4 * 2);
                    });
    walk_chunks<Outputs>(s, p, maps, at, group, state, segment_of(p, at));
    finish_state<Outputs>(state, p, at, p.local + rows * p.dv + col, col, at.head);
}

template <bool Outputs>
__device__ __forceinline__ void run(const Problem& p, const Maps& maps) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    start<Outputs>(s, p, maps);
    const int role = warpgroup_index();
    if (role < kScaling) {
        ptx::registers_shrink<96>();
        scale_role<Outputs>(s, p);
    } else {
        ptx::registers_grow<160>();
        state_role<Outputs>(s, p, maps, role - kScaling);
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    gla(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
        const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
        const __grid_constant__ TensorMap out, const __grid_constant__ TensorMap g) {
    run<true>(p, {&q, &k, &g, &v, &out});
}

// Local states of all segments but the last into `local` [batch, heads, segments, dk, dv].
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    segment_states(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
                   const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                   const __grid_constant__ TensorMap out, const __grid_constant__ TensorMap g) {
    run<false>(p, {&q, &k, &g, &v, &out});
}
