// arch: sm_90a
// registers: 168
// threads: 512
// dynamic_smem: 201984
// defines: DK=128 DV=128
// defines: DK=64 DV=64
// defines: DK=128 DV=128 HEADS=2 SSD=1
//
// Gated linear attention with one gate per head, no gate, and SSD (Mamba-2) on Hopper. Per chunk of 64
// tokens, with G_i the running sum of log2 gates, w_j the token's weight (SSD: dt_j; else 1):
//
//     A_ij = scale (q_i . k_j) 2^(G_i - G_j) w_j, j <= i      (SSD: + D on the diagonal)
//     O    = scale 2^(G_i) Q S + A V            S = 2^(G_C) S + (w_j 2^(G_C - G_j) V_j)^T K, transposed
//
// Limits, SSD at B=8 L=4096, 80 heads of P=64, N=128, one group, on an H200: a block works two heads,
// whose x lie side by side, with one q k^T; 320 blocks of 64 chunks, one block per SM.
//   memory  x, y, delta, B, C, states: 704 MB: 176 us at 4.0 TB/s. This should bind
//   tensor  per chunk of two heads: scores 256 clocks (m64n64, 8 steps), per head 256 + 128 for O^T and
//           256 for S^T: 1536: 20,480 chunks on 132 SMs: 135 us at 1.755 GHz
//   L2      B and C once per block and chunk, x: 48 KB: 983 MB beside 336 MB of stores
//   waves   320 blocks on 132 SMs are 3 turns of 2.42: 64 chunks * 3 * t
// One gate, B=2 T=8192 H=16 dk=dv=128: 268 MB, 67 us; k and v again in the states' pass 34.
//
// Schedule: 4 roles. Warpgroup 0: one thread loads q, k, v (3 stages of 48 KB: 96 KB in flight), a warp
// per head sums its gates. Warpgroup 1 makes A, up to two chunks ahead. Warpgroups 2 and 3 hold S^T.
//   chunk time of a state warpgroup alone: 640 clocks of products, about 250 instructions a warp to
//   round S, scale S, O and V and store O, 5 waits of about 60: 1200; two of them and the scores
//   share the tensor cores: 1600 to 1800 clocks.  192 * 1700 / 1.755 GHz = 186 us.
//
// Registers: 40 + 88 + 2 * 192 = 512 = 65,536 / 128. A state warpgroup: 64 of S^T, 32 of O^T, 32 of
//   rounded S^T, then in their place 32 of V^T as it is and scaled.
// Shared memory: stages 147,456, A of two chunks and heads 32,768, outputs 16,384, gates 6 * 1040.
#include "gla/hopper.cuh"

#ifndef HEADS
#define HEADS 1
#endif
#ifndef SSD
#define SSD 0
#endif
constexpr int kHeads = HEADS;  // of a block, sharing q and k
static_assert(kHeads == 1 || kDv == 128, "two heads of 64 columns");

constexpr int kStages = 3;
constexpr int kAhead = 2;  // chunks whose scores are ready
constexpr int kThreads = kWarpgroup * (2 + kStateGroups);
constexpr int kKeyBytes = kChunk * kDk * 2;
constexpr int kValueBytes = kChunk * kDv * 2;

// What the gates of a chunk and head come to.
struct Gates {
    float sum[kChunk];     // G_i
    float weight[kChunk];  // scale w_j
    float carry[kChunk];   // scale 2^(G_i)
    float push[kChunk];    // w_j 2^(G_C - G_j)
    float decay;           // 2^(G_C)
    float unused[3];
};

struct Shared {
    struct {
        KeyTile q, k;
        ValueTile v;
    } stage[kStages];
    Panel scores[kAhead][kHeads];
    Panel out[kStateGroups];
    Gates gates[kStages][kHeads];
    u64 full[kStages], gated[kStages], empty[kStages];
    u64 scored[kAhead], used[kAhead];
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

struct Maps {
    const TensorMap *q, *k, *v, *out;
};

struct Range {
    int start, end;  // tokens
};

using Ring = ptx::Ring<kStages>;

// Grid (columns of dv / kDv, or 1; segments; batch * heads / kHeads).
__device__ __forceinline__ Place place_of(const Problem& p) {
    const int per_batch = p.heads / kHeads;
    const int head = static_cast<int>(blockIdx.z) % per_batch * kHeads;
    return {static_cast<int>(blockIdx.z) / per_batch, head,
            static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * kDv};
}

// ---------------------------------------------------------------- loader: one thread

template <bool Outputs>
__device__ __forceinline__ void load_chunks(Shared& s, const Problem& p, const Maps& maps,
                                            const Place& at, Range tokens) {
    const int key = at.head / (p.heads / p.key_heads) * kKeyPanels;
    const int value = (at.head * p.dv + at.col) / kPanelCols;
    Ring ring;
    for (int t = tokens.start; t < tokens.end; t += kChunk) {
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        u64* full = &s.full[ring.stage];
        auto& to = s.stage[ring.stage];
        ptx::mbarrier_arrive_expect(full, (Outputs ? 2 : 1) * kKeyBytes + kValueBytes);
        if (Outputs) ptx::tma_load_4d(&to.q, maps.q, full, 0, t, key, at.batch);
        ptx::tma_load_4d(&to.k, maps.k, full, 0, t, key, at.batch);
        ptx::tma_load_4d(&to.v, maps.v, full, 0, t, value, at.batch);
        ring.advance();
    }
}

// ---------------------------------------------------------------- gates: a warp per head

__device__ __forceinline__ float softplus(float x) {
    const float w = exp2_approx(x * kLog2e);
    const float series = w * fmaf(w, fmaf(w, fmaf(w, -0.25f, 1.f / 3.f), -0.5f), 1.f);
    return x > 20.f ? x : w < 0.03125f ? series : log2_approx(1.f + w) * kLn2;
}

// Lane's two neighbouring tokens; beyond the end their gate is 0 and their weight too.
struct Pair {
    float gate[2], weight[2];
};

__device__ __forceinline__ Pair read_gates(const Problem& p, const Place& at, int head, int t,
                                           int end) {
    Pair x = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int token = t + 2 * lane_index() + i;
        if (token >= end) continue;
        const float raw =
            p.g ? from_bf16(p.g[token_row(at.batch, token, p.length, head, p.heads)]) : 0.f;
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

__device__ __forceinline__ void write_gates(Gates& to, const Pair& x, float scale, float& total) {
    const int lane = lane_index();
    const float both = x.gate[0] + x.gate[1];
    float sum = both;
#pragma unroll
    for (int by = 1; by < kWarp; by *= 2) {
        const float below = __shfl_up_sync(kFullMask, sum, by);
        if (lane >= by) sum += below;
    }
    const float whole = __shfl_sync(kFullMask, sum, kWarp - 1);
    const float g[2] = {sum - both + x.gate[0], sum};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int token = 2 * lane + i;
        to.sum[token] = g[i];
        to.weight[token] = scale * x.weight[i];
        to.carry[token] = scale * exp2_approx(g[i]);
        to.push[token] = x.weight[i] * exp2_approx(whole - g[i]);
    }
    if (lane == 0) to.decay = exp2_approx(whole);
    total += whole;
}

// The next chunk's gates are on their way while this one's are summed.
__device__ __forceinline__ float sum_gates(Shared& s, const Problem& p, const Place& at, int part,
                                           Range tokens) {
    const int head = at.head + part;
    float total = 0.f;
    Pair next = read_gates(p, at, head, tokens.start, tokens.end);
    Ring ring;
    for (int t = tokens.start; t < tokens.end; t += kChunk) {
        const Pair x = next;
        next = read_gates(p, at, head, t + kChunk, tokens.end);
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        write_gates(s.gates[ring.stage][part], x, p.scale, total);
        arrive_warp(&s.gated[ring.stage]);
        ring.advance();
    }
    return total;
}

// ---------------------------------------------------------------- scores: one warpgroup

// q k^T, issued and committed: 64 x 64 over dk.
__device__ __forceinline__ void issue_scores(float (&x)[kChunk / 2], const KeyTile& q,
                                             const KeyTile& k) {
    const u64 a = ptx::k_major_128(&q), b = ptx::k_major_128(&k);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDk / 16; ++step) {
        const u64 at = step / 4 * (sizeof(Panel) >> 4) + step % 4 * ptx::kDescriptorStepK;
        ptx::wgmma_bf16(x, a + at, b + at, step > 0);
    }
    ptx::wgmma_commit();
}

// 16 columns of this warp's 16 rows of A for one head; the warps above the diagonal have none.
__device__ __forceinline__ void weigh(u32 (&a)[4], const float* x, const Gates& gates, int block,
                                      float skip) {
    const int warp = warp_index() % 4, g = lane_index() / 4, t = lane_index() % 4;
    const int row = 16 * warp + g;
    const float sum[2] = {gates.sum[row], gates.sum[row + 8]};
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // columns of 8, i / 2; rows of 8, i % 2
        const int col = 16 * block + i / 2 * 8 + 2 * t, at = row + i % 2 * 8;
        const float2 past = *reinterpret_cast<const float2*>(&gates.sum[col]);
        const float2 weight = *reinterpret_cast<const float2*>(&gates.weight[col]);
        // Above the diagonal the exponent would be positive: it is not used.
        float low = x[i / 2 * 4 + i % 2 * 2] * weight.x * exp2_approx(sum[i % 2] - past.x);
        float high = x[i / 2 * 4 + i % 2 * 2 + 1] * weight.y * exp2_approx(sum[i % 2] - past.y);
        if (block == warp) {
            low = col < at ? low : col == at ? low + skip : 0.f;
            high = col + 1 < at ? high : col + 1 == at ? high + skip : 0.f;
        }
        a[i] = pack_bf16(low, high);
    }
}

__device__ __forceinline__ void write_scores(Panel& to, const float (&x)[kChunk / 2],
                                             const Gates& gates, float skip) {
    const int warp = warp_index() % 4, lane = lane_index();
#pragma unroll
    for (int block = 0; block < 4; ++block) {
        u32 a[4] = {};
        if (block <= warp) weigh(a, x + 8 * block, gates, block, skip);
        ptx::stmatrix_x4(element(to, 16 * warp + lane % 16, 16 * block + lane / 16 * 8), a[0],
                         a[1], a[2], a[3]);
    }
}

__device__ __forceinline__ void score_chunks(Shared& s, const Problem& p, const Place& at,
                                             Range tokens) {
    float skip[kHeads] = {};
    if (SSD && p.skip)
        for (int h = 0; h < kHeads; ++h) skip[h] = p.skip[at.head + h];
    Ring ring;
    ptx::Ring<kAhead> turn;
#pragma unroll 1
    for (int t = tokens.start; t < tokens.end; t += kChunk) {
        float x[kChunk / 2];
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        issue_scores(x, s.stage[ring.stage].q, s.stage[ring.stage].k);
        ptx::mbarrier_wait(&s.gated[ring.stage], ring.parity);
        ptx::mbarrier_wait(&s.used[turn.stage], turn.parity ^ 1);
        ptx::wgmma_wait<0>();
        ptx::pin(x);
#pragma unroll
        for (int h = 0; h < kHeads; ++h)
            write_scores(s.scores[turn.stage][h], x, s.gates[ring.stage][h], skip[h]);
        ptx::fence_async_shared();
        arrive_warp(&s.scored[turn.stage]);
        arrive_warp(&s.empty[ring.stage]);
        ring.advance(), turn.advance();
    }
}

// ---------------------------------------------------------------- state: a warpgroup per 64 of dv

__device__ __forceinline__ void push_values(u32 (&to)[4][4], const u32 (&v)[4][4],
                                            const Gates& gates) {
    const int t = lane_index() % 4;
#pragma unroll
    for (int step = 0; step < 4; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float2 w =
                *reinterpret_cast<const float2*>(&gates.push[16 * step + i / 2 * 8 + 2 * t]);
            to[step][i] = pack_bf16(bf16_low(v[step][i]) * w.x, bf16_high(v[step][i]) * w.y);
        }
}

__device__ __forceinline__ void scale_outputs(Output& o, const Gates& gates) {
    const int t = lane_index() % 4;
#pragma unroll
    for (int j = 0; j < kChunk / 8; ++j) {
        const float2 c = *reinterpret_cast<const float2*>(&gates.carry[8 * j + 2 * t]);
        o[4 * j] *= c.x, o[4 * j + 1] *= c.y, o[4 * j + 2] *= c.x, o[4 * j + 3] *= c.y;
    }
}

template <bool Outputs>
__device__ __forceinline__ void walk_chunks(Shared& s, const Problem& p, const TensorMap* out,
                                            const Place& at, int group, State& state,
                                            Range tokens) {
    const int part = kHeads == 2 ? group : 0;
    const int panel = (at.head * p.dv + at.col) / kPanelCols + group;
    Ring ring;
    ptx::Ring<kAhead> turn;
#pragma unroll 1
    for (int t = tokens.start; t < tokens.end; t += kChunk) {
        auto& in = s.stage[ring.stage];
        const Gates& gates = s.gates[ring.stage][part];
        Output o;
        u32 rounded[kDk / 16][4];
        if (Outputs) pack_state(rounded, state);
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        if (Outputs) issue_carried(o, rounded, in.q);
        ptx::mbarrier_wait(&s.gated[ring.stage], ring.parity);
        const float decay = gates.decay;
#pragma unroll
        for (int i = 0; i < kStateRegisters; ++i) state[i] *= decay;
        u32 v[4][4], pushed[4][4];
        load_values(v, in.v.panel[group]);
        push_values(pushed, v, gates);
        if (Outputs) {
            ptx::wgmma_wait<0>();
            ptx::pin(o);
            scale_outputs(o, gates);
            ptx::mbarrier_wait(&s.scored[turn.stage], turn.parity);
            ptx::pin(o);
            issue_scored(o, v, s.scores[turn.stage][part]);
        }
        ptx::pin(state);
        issue_update(state, pushed, in.k);
        if (Outputs) {
            ptx::wgmma_wait<1>();
            ptx::pin(o);
            arrive_warp(&s.used[turn.stage]);
            store_outputs(o, s.out[group], out, group, t, panel, at.batch);
        }
        ptx::wgmma_wait<0>();
        ptx::pin(state);
        arrive_warp(&s.empty[ring.stage]);
        ring.advance(), turn.advance();
    }
    if (Outputs && threadIdx.x % kWarpgroup == 0) ptx::bulk_wait<0>();
}

// ---------------------------------------------------------------- roles

__device__ __forceinline__ void init_barriers(Shared& s, int readers) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(&s.full[i], 1);
            ptx::mbarrier_init(&s.gated[i], kHeads);
            ptx::mbarrier_init(&s.empty[i], readers);
        }
        for (int i = 0; i < kAhead; ++i) {
            ptx::mbarrier_init(&s.scored[i], 4);
            ptx::mbarrier_init(&s.used[i], 4 * kStateGroups);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
}

// Where this warpgroup's part of a state lies: 64 columns of one head, or the whole of another.
__device__ __forceinline__ float* state_of(const float* states, const Problem& p, const Place& at,
                                           int group, int segment, int segments) {
    const int head = at.head + (kHeads == 2 ? group : 0);
    const int col = kHeads == 2 ? 0 : at.col + kPanelCols * group;
    return const_cast<float*>(states) + state_row(p, at.batch, head, segment, segments) * p.dv + col;
}

template <bool Outputs>
__device__ __forceinline__ void run(const Problem& p, const Maps& maps) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = place_of(p);
    const int start = at.segment * p.segment_length;
    const Range tokens = {start, least(start + p.segment_length, p.length)};
    init_barriers(s, 4 * kStateGroups + (Outputs ? 4 : 0));
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_shrink<40>();
        const int part = warp_index() - 1;
        if (part < 0) {
            if (ptx::elect_one()) load_chunks<Outputs>(s, p, maps, at, tokens);
            __syncwarp();
        } else if (part < kHeads) {
            const float total = sum_gates(s, p, at, part, tokens);
            const size_t row = static_cast<size_t>(at.batch) * p.heads + at.head + part;
            if (!Outputs && blockIdx.x == 0 && lane_index() == 0)
                p.decay[row * p.segments + at.segment] = exp2_approx(total);
        }
    } else if (role == 1) {
        ptx::registers_shrink<88>();
        if (Outputs) score_chunks(s, p, at, tokens);
    } else {
        ptx::registers_grow<192>();
        const int group = role - 2;
        State state = {};
        if (Outputs && p.first)
            move_state<false>(state, state_of(p.first, p, at, group, at.segment, p.segments), p.dv);
        walk_chunks<Outputs>(s, p, maps.out, at, group, state, tokens);
        if (!Outputs)
            move_state<true>(state, state_of(p.last, p, at, group, at.segment, p.segments), p.dv);
        else if (p.last && at.segment == p.segments - 1)
            move_state<true>(state, state_of(p.last, p, at, group, 0, 1), p.dv);
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    gla(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
        const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
        const __grid_constant__ TensorMap out) {
    run<true>(p, {&q, &k, &v, &out});
}

// Local states of all segments but the last into `last` [batch, heads, segments, dk, dv].
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    segment_states(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
                   const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                   const __grid_constant__ TensorMap out) {
    run<false>(p, {&q, &k, &v, &out});
}
