// arch: sm_90a
// registers: 168
// threads: 512
// dynamic_smem: 224256
// defines: DK=128 DV=128
// defines: DK=64 DV=128
// defines: DK=128 DV=128 HEADS=2 SSD=1 SHARED=1
// defines: DK=128 DV=128 HEADS=2 SSD=1 SHARED=1 CLUSTER=2
//
// Gated linear attention with one gate per head, no gate, and SSD (Mamba-2) on Hopper. Per chunk of 64
// tokens, with G_i the running sum of log2 gates, w_j the token's weight (SSD: dt_j; else 1):
//
//     A_ij = scale (q_i . k_j) 2^(G_i - G_j) w_j, j <= i      (SSD: + D on the diagonal)
//     O    = scale 2^(G_i) Q S + A V            S = 2^(G_C) S + (w_j 2^(G_C - G_j) V_j)^T K, transposed
//
// Limits, SSD at B=8 L=4096, 80 heads of P=64, N=128, one group, on an H200: a block works two heads,
// whose x lie side by side: 320 pairs of 64 chunks, 20,480 chunks for 132 SMs. Heads of a group share
// q k^T: 07_shared_scores makes it once (SHARED).
//   memory  x, y, delta, B, C, states: 704 MB: 176 us at 4.0 TB/s; 32 KB a chunk
//   tensor  per chunk and head 256 + 128 clocks for O^T, 256 for S^T: 1280 of two heads, 113 us at
//           1.755 GHz. Without SHARED 256 more for the scores (m64n64, 8 steps)
//   shared  B operands 80 KB, x, q, k in 48, x out 16, A in 16, outputs in and out 32, factors: 1600 clocks
//   issue   warp-instructions a chunk: state 8 * 330, scores 4 * 330, gates 2 * 120: 4200 of 4 a clock
//   L2      q, k once per two pairs, x, scores: 37 KB a chunk: 760 MB beside 336 MB of stores
// None of them is what shows. Power is: at 730 W the card lowers its clock until what a chunk's products,
// bytes and instructions cost in joules takes as long as it takes (refkernels/ssd/README.md): so
// nothing is made or moved twice that once would do.
// One gate, B=2 T=8192 H=16 dk=dv=128: 268 MB, 67 us; k and v of 3 of 4 segments again, 25 us.
//
// Schedule: 4 roles. Warpgroup 0: one thread loads q, k, v (3 stages of 48 KB: 96 KB in flight), a warp
// per head sums its gates. Warpgroup 1 makes A, up to two chunks ahead. Warpgroups 2 and 3 hold S^T.
// Few sequences are cut into segments: a block sums its segment's own state, from the last chunk to the
// first, lets later segments know, then makes its outputs from the first chunk on; only the state waits
// for earlier segments, loads and scores run on. Where four heads share q and k and no sequence is cut,
// two blocks of a cluster walk the same chunks, two heads each: one loads q for both, the other k.
//
// Loads that a warp waits for itself are few and come early: under full memory load they take a chunk's
// time. Two sets of registers in turn do not make them two chunks early: all such loads share a scoreboard,
// and waiting for the older is waiting for the newer. Hence steps through shared memory, by cp.async,
// whose groups are waited for in order, and scores one chunk early, moved to other registers first.
//
// Registers: 40 + 104 + 2 * 184 (without SHARED 40 + 120 + 2 * 176) = 512 = 65,536 / 128. A state
//   warpgroup: 64 of S^T, 32 of O^T, 32 of rounded S^T, then in their place 16 of V^T scaled; 16 of V^T
//   as it is; 16 of carries, read under the product that they scale.
// Shared memory: stages 147,456, A of two chunks and heads 32,768, outputs 32,768,
//   gates 6 * 1424, steps 2048.
#include "common/async_copy.cuh"
#include "gla/hopper.cuh"

#ifndef HEADS
#define HEADS 1
#endif
#ifndef SSD
#define SSD 0
#endif
#ifndef SHARED
#define SHARED 0
#endif
#ifndef CLUSTER
#define CLUSTER 1
#endif
constexpr int kHeads = HEADS;  // of a block, sharing q and k
constexpr int kCluster = CLUSTER;  // blocks side by side that q and k come to at once
static_assert(kHeads == 1 || kDv == 128, "two heads of 64 columns");
static_assert(kHeads == 1 || SHARED, "scores of two heads come ready");
// Registers by role. Where scores come ready, who weighs them needs few, and states find room for the
// carries that they will need next.
constexpr int kScoreRegisters = SHARED ? 104 : 120, kOwnRegisters = SHARED ? 184 : 176;
constexpr bool kEarly = SHARED;

constexpr int kStages = 3;
constexpr int kAhead = 2;  // chunks whose scores are ready
constexpr int kGatesAhead = 2;  // chunks whose gates are on their way
constexpr int kStepsAhead = 4;  // chunks whose steps are
constexpr int kThreads = kWarpgroup * (2 + kStateGroups);
constexpr int kKeyBytes = kChunk * kDk * 2;
constexpr int kValueBytes = kChunk * kDv * 2;

// What the gates of a chunk and head come to.
struct Gates {
    float sum[kChunk];     // G_i
    float weight[kChunk];  // scale w_j
    float rise[kChunk];    // scale 2^(G_i - start of its sub-chunk)
    float fall[kChunk];    // w_j 2^(end of its sub-chunk - G_j)
    float carry[kChunk];   // scale 2^(G_i)
    u32 push[kChunk / 2];  // w_j 2^(G_C - G_j) of two tokens, bf16
    float decay;           // 2^(G_C)
    float unused[3];
};

struct Shared {
    struct {
        KeyTile q, k;
        ValueTile v;
    } stage[kStages];
    Panel scores[kAhead][kHeads];
    Panel out[kStateGroups][2];
    Gates gates[kStages][kHeads];
    float steps[kHeads][kStepsAhead][kChunk];
    u64 full[kStages], gated[kStages], empty[kStages];
    u64 scored[kAhead], used[kAhead];
    u32 signals;  // that this block has given in earlier launches
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

struct Maps {
    const TensorMap *q, *k, *v, *out;
};

using Ring = ptx::Ring<kStages>;

// A run of chunks of one place: a whole sequence, a segment of one, or a piece that another block
// begins (`taken`) or ends (`handed`).
struct Part {
    Place at;
    Range tokens;
    bool taken, handed;
};

// The parts of a block. Where there are more sequences (of columns of heads) than SMs, as many blocks
// as SMs share all their chunks evenly: block x has chunks [first, last) of the sequences laid end to
// end. It works them from the last sequence to the first: the beginning of a sequence, which the next
// block ends, comes first, and the end of one, which the block before begins, comes last; nobody has
// to wait for the state in between. A block has at least one sequence's chunks. Where shares repeat
// after `period` sequences, those are numbered so that blocks walk neighbouring ones side by side.
// Grid (blocks, segments).
struct Share {
    int chunks, sequences, first, last;

    __device__ __forceinline__ explicit Share(const Problem& p) : chunks(ceil_div(p.length, kChunk)) {
        sequences = p.dv * kHeads / kDv * (p.heads / (kHeads * kCluster)) * p.batch;
        const s64 total = static_cast<s64>(sequences) * chunks;
        const int block = blockIdx.x / kCluster, blocks = gridDim.x / kCluster;
        first = static_cast<int>(total * block / blocks);
        last = static_cast<int>(total * (block + 1) / blocks);
    }

    __device__ __forceinline__ int parts() const {
        return ceil_div(last, chunks) - first / chunks;
    }

    __device__ __forceinline__ Part part(const Problem& p, int i) const {
        const int nth = ceil_div(last, chunks) - 1 - i, from = nth * chunks;
        const int sequence = nth % p.period * (sequences / p.period) + nth / p.period;
        const int start = most(first - from, 0), end = least(last - from, chunks);
        const int columns = p.dv * kHeads / kDv, groups = p.heads / (kHeads * kCluster);
        const int group = sequence / columns, own = blockIdx.x % kCluster * kHeads;
        const Place at = {group / groups, group % groups * (kHeads * kCluster) + own,
                          static_cast<int>(blockIdx.y), sequence % columns * kDv};
        if (p.segments > 1) return {at, segment_of(p, at), false, false};
        return {at, {start * kChunk, least(end * kChunk, p.length)}, start > 0, end < chunks};
    }
};

// ---------------------------------------------------------------- loader: one thread

template <bool Outputs>
__device__ __forceinline__ void load_chunks(Shared& s, const Problem& p, const Maps& maps,
                                            const Part& part, Ring& ring) {
    const Place at = part.at;
    const Range tokens = part.tokens;
    const int key = at.head / (p.heads / p.key_heads) * kKeyPanels;
    const int value = (at.head * p.dv + at.col) / kPanelCols;
    for (int n = 0; n < tokens.chunks(); ++n) {
        const int t = tokens.token<Outputs>(n);
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        u64* full = &s.full[ring.stage];
        auto& to = s.stage[ring.stage];
        ptx::mbarrier_arrive_expect(full, (Outputs ? 2 : 1) * kKeyBytes + kValueBytes);
        if (kCluster > 1) {  // one block loads q for both, the other k
            const bool first = blockIdx.x % kCluster == 0;
            ptx::tma_load_4d_multicast(first ? &to.q : &to.k, first ? maps.q : maps.k, full, 3, 0, t,
                                       key, at.batch);
        } else {
            if (Outputs) ptx::tma_load_4d(&to.q, maps.q, full, 0, t, key, at.batch);
            ptx::tma_load_4d(&to.k, maps.k, full, 0, t, key, at.batch);
        }
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

// What turns a head's gates into decays and weights.
struct HeadGates {
    const u16* first;  // token 0's; null: no gate
    int stride, last;  // tokens
    float a, bias;     // SSD
    int softplus;
};

__device__ __forceinline__ HeadGates head_gates(const Problem& p, const Place& at, int head,
                                                Range tokens) {
    return {p.g ? p.g + token_row(at.batch, 0, p.length, head, p.heads) : nullptr, p.heads,
            tokens.end - 1, SSD ? p.a[head] : 1.f, SSD && p.bias ? p.bias[head] : 0.f, p.softplus};
}

// Lane's two neighbouring tokens as they lie in memory; beyond the end the last one again. Nothing
// here waits for them: they are used two chunks later. (32 bits: packing 16 would wait.)
struct RawPair {
    u32 gate[2];
};

__device__ __forceinline__ RawPair read_gates(const HeadGates& h, int t) {
    const int token = t + 2 * lane_index();
    if (!h.first) return {0, 0};
    return {h.first[static_cast<size_t>(least(token, h.last)) * h.stride],
            h.first[static_cast<size_t>(least(token + 1, h.last)) * h.stride]};
}

// In log2; beyond the end the gate is 0 and the weight too.
struct Pair {
    float gate[2], weight[2];
};

__device__ __forceinline__ Pair weigh_gates(const HeadGates& h, const RawPair& raw, int t) {
    Pair x;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const float delta = bf16_low(raw.gate[i]) + h.bias;
        const float inside = t + 2 * lane_index() + i <= h.last ? 1.f : 0.f;
        const float step = SSD ? (h.softplus ? softplus(delta) : delta) : 1.f;
        x.weight[i] = inside * step;
        x.gate[i] = inside * (SSD ? step * h.a : delta) * kLog2e;
    }
    return x;
}

// `later`: the sum of the gates of the chunks after this one, where they come first. Returns G_C.
__device__ __forceinline__ float write_gates(Gates& to, const Pair& x, float scale, float later) {
    const int lane = lane_index();
    const float both = x.gate[0] + x.gate[1];
    float sum = both;
#pragma unroll
    for (int by = 1; by < kWarp; by *= 2) {
        const float below = __shfl_up_sync(kFullMask, sum, by);
        if (lane >= by) sum += below;
    }
    const float whole = __shfl_sync(kFullMask, sum, kWarp - 1);
    const float end = __shfl_sync(kFullMask, sum, lane / 8 * 8 + 7);
    const float before = __shfl_sync(kFullMask, sum, most(lane / 8 * 8 - 1, 0));
    const float start = lane < 8 ? 0.f : before;
    const float g[2] = {sum - both + x.gate[0], sum};
    float push[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int token = 2 * lane + i;
        to.sum[token] = g[i];
        to.weight[token] = scale * x.weight[i];
        to.rise[token] = scale * exp2_approx(g[i] - start);
        to.fall[token] = x.weight[i] * exp2_approx(end - g[i]);
        to.carry[token] = scale * exp2_approx(g[i]);
        push[i] = x.weight[i] * exp2_approx(whole - g[i] + later);
    }
    to.push[lane] = pack_bf16(push[0], push[1]);
    if (lane == 0) to.decay = exp2_approx(whole);
    return whole;
}

// The gates of the next two chunks are on their way while this one's are summed. Returns the sum of all.
template <bool Outputs>
__device__ __forceinline__ float sum_gates(Shared& s, const Problem& p, const Part& part, int nth,
                                           Ring& ring) {
    const Range tokens = part.tokens;
    const HeadGates head = head_gates(p, part.at, part.at.head + nth, tokens);
    const int chunks = tokens.chunks();
    float total = 0.f;
    RawPair raw[kGatesAhead];
#pragma unroll
    for (int i = 0; i < kGatesAhead; ++i)
        raw[i] = read_gates(head, tokens.token<Outputs>(least(i, chunks - 1)));
#pragma unroll 1
    for (int first = 0; first < chunks; first += kGatesAhead) {
#pragma unroll
        for (int i = 0; i < kGatesAhead; ++i) {  // unrolled, for a move between registers would wait
            const int n = first + i;
            if (n == chunks) break;
            const Pair x = weigh_gates(head, raw[i], tokens.token<Outputs>(n));
            ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
            total += write_gates(s.gates[ring.stage][nth], x, p.scale, Outputs ? 0.f : total);
            ptx::mbarrier_arrive(&s.gated[ring.stage]);
            raw[i] = read_gates(head, tokens.token<Outputs>(least(n + kGatesAhead, chunks - 1)));
            ring.advance();
        }
    }
    return total;
}

// Steps that came ready, see 07_shared_scores: through shared memory, several chunks ahead.
template <bool Outputs>
__device__ __forceinline__ float sum_steps(Shared& s, const Problem& p, const Part& part, int nth,
                                           Ring& ring) {
    const Range tokens = part.tokens;
    const int chunks = tokens.chunks(), lane = lane_index(), head = part.at.head + nth;
    const float* steps = p.steps + steps_row(p, part.at.batch, head) + 4 * lane;
    const float a = p.a[head] * kLog2e;
    float(&slots)[kStepsAhead][kChunk] = s.steps[nth];
    const auto read = [&](int n) {
        if (n < chunks && lane < kChunk / 4)
            ptx::copy_async_16(&slots[n % kStepsAhead][4 * lane], steps + tokens.token<Outputs>(n));
        ptx::copy_async_commit();
    };
    float total = 0.f;
#pragma unroll
    for (int n = 0; n < kStepsAhead; ++n) read(n);
#pragma unroll 1
    for (int n = 0; n < chunks; ++n) {
        ptx::copy_async_wait<kStepsAhead - 1>();
        __syncwarp();
        const float2 step = *reinterpret_cast<const float2*>(&slots[n % kStepsAhead][2 * lane]);
        __syncwarp();
        read(n + kStepsAhead);
        const Pair x = {{step.x * a, step.y * a}, {step.x, step.y}};
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        total += write_gates(s.gates[ring.stage][nth], x, p.scale, Outputs ? 0.f : total);
        ptx::mbarrier_arrive(&s.gated[ring.stage]);
        ring.advance();
    }
    ptx::copy_async_wait_all();
    __syncwarp();
    return total;
}

template <bool Outputs>
__device__ __forceinline__ float work_gates(Shared& s, const Problem& p, const Part& part, int nth,
                                            Ring& ring) {
    return SHARED ? sum_steps<Outputs>(s, p, part, nth, ring)
                  : sum_gates<Outputs>(s, p, part, nth, ring);
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

// A warp's tile of scores: columns of 8 in x[4 ..], rows of 8 in x[2 ..], two columns a lane.
using Tile = float[8];

// A lane's place in tile (a, b) of A among a head's gates: its first row and column, and the last tokens
// before sub-chunk a and of sub-chunk b.
struct TilePlace {
    int row, col, start, end;
};

constexpr int kGateFloats = sizeof(Gates) / 4, kPanel = kChunk * kPanelCols;
constexpr int kWeight = kChunk, kRise = 2 * kChunk, kFall = 3 * kChunk;  // in a head's gates

__device__ __forceinline__ TilePlace place_of(int a, int b) {
    return {kSub * a + lane_index() / 4, kSub * b + lane_index() % 4 * 2, most(kSub * a - 1, 0),
            kSub * b + kSub - 1};
}

__device__ __forceinline__ float2 pair_at(const float* x) {
    return *reinterpret_cast<const float2*>(x);
}

// Tile (a, b) of A, b < a: three factors of at most 1,
// 2^(G_i - G_j) = 2^(G_i - start_a) 2^(start_a - end_b) 2^(end_b - G_j), the outer two per token.
__device__ __forceinline__ void weigh_past(u32 (&to)[4], const float* x, const float* gates,
                                           const TilePlace& at) {
    const float gap = exp2_approx(gates[at.start] - gates[at.end]);
    const float row[2] = {gates[kRise + at.row] * gap, gates[kRise + at.row + 8] * gap};
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // columns of 8, i / 2; rows of 8, i % 2
        const float2 w = pair_at(gates + kFall + at.col + i / 2 * 8);
        to[i] = pack_bf16(x[i / 2 * 4 + i % 2 * 2] * row[i % 2] * w.x,
                          x[i / 2 * 4 + i % 2 * 2 + 1] * row[i % 2] * w.y);
    }
}

// The tile on the diagonal: the difference first, so that no exponent of a used element is positive.
__device__ __forceinline__ void weigh_diagonal(u32 (&to)[4], const Tile& x, const float* gates,
                                               const TilePlace& at, float skip) {
    const int g = lane_index() / 4, t = lane_index() % 4;
    const float sum[2] = {gates[at.row], gates[at.row + 8]};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int row = g + i % 2 * 8, col = i / 2 * 8 + 2 * t;
        const float2 past = pair_at(gates + at.col + i / 2 * 8);
        const float2 w = pair_at(gates + kWeight + at.col + i / 2 * 8);
        const float* pair = x + i / 2 * 4 + i % 2 * 2;
        const float low = pair[0] * w.x * exp2_approx(fminf(sum[i % 2] - past.x, 0.f));
        const float high = pair[1] * w.y * exp2_approx(fminf(sum[i % 2] - past.y, 0.f));
        to[i] = pack_bf16(fmaf(col <= row ? 1.f : 0.f, low, col == row ? skip : 0.f),
                          fmaf(col + 1 <= row ? 1.f : 0.f, high, col + 1 == row ? skip : 0.f));
    }
}

__device__ __forceinline__ void pick_diagonal(Tile& to, const float (&x)[kChunk / 2]) {
    const int warp = warp_index() % 4;
#pragma unroll
    for (int i = 0; i < 8; ++i)
        to[i] = warp < 2 ? (warp == 0 ? x[i] : x[8 + i]) : (warp == 2 ? x[16 + i] : x[24 + i]);
}

// This warp's 16 rows of A for one head: the tiles before the diagonal and the one on it.
struct Rows {
    u32 past[kSubs - 1][4], last[4];
};

// Tiles that are not past are computed too and never stored: no branch comes between the tiles' loads.
__device__ __forceinline__ void weigh_rows(Rows& to, const float (&x)[kChunk / 2],
                                           const float* gates, float skip) {
    const int warp = warp_index() % 4;
    Tile diagonal;
    pick_diagonal(diagonal, x);
#pragma unroll
    for (int block = 0; block < kSubs - 1; ++block)
        weigh_past(to.past[block], x + 8 * block, gates, place_of(warp, block));
    weigh_diagonal(to.last, diagonal, gates, place_of(warp, warp), skip);
}

// The tiles above the diagonal are zero from the start. 16-byte units are mixed with the row's number,
// which is the lane's modulo 8, see element.
// The lane's row of tile (a, b) for stmatrix.
__device__ __forceinline__ int tile_row(int a, int b, int lane) {
    return (kSub * a + lane % 16) * kPanelCols + ((2 * b + lane / 16) ^ lane % 8) * 8;
}

__device__ __forceinline__ void write_tile(u16* row, const u32 (&x)[4]) {
    ptx::stmatrix_x4(row, x[0], x[1], x[2], x[3]);
}

__device__ __forceinline__ void write_rows(Panel& to, const Rows& rows) {
    const int warp = warp_index() % 4, lane = opaque(lane_index());
#pragma unroll
    for (int block = 0; block < kSubs - 1; ++block)
        if (block < warp) write_tile(to.at + tile_row(warp, block, lane), rows.past[block]);
    write_tile(to.at + tile_row(warp, warp, lane), rows.last);
}

// Scores that came ready (07_shared_scores). A warp has one or two of a chunk's 6 past tiles and its own
// sub-chunk's diagonal, for all heads.
constexpr int kPairs = kSubs * (kSubs - 1) / 2;
constexpr int kPast = ceil_div(kPairs, 4);

// A tile's place among a chunk's that came, among the first head's gates, and in the first head's A (2-byte
// elements): found once, for all chunks.
struct Job {
    int from, to;
    TilePlace at;
};

__device__ __forceinline__ Job job_of(int a, int b) {
    return {tile_of(a, b) * kWarp + lane_index(), tile_row(a, b, lane_index()), place_of(a, b)};
}

struct Jobs {
    Job past[kPast], last;
    bool both;  // past tiles, or one
};

__device__ __forceinline__ Jobs jobs_of(int warp) {
    Jobs jobs;
#pragma unroll
    for (int i = 0; i < kPast; ++i) {
        const int nth = least(4 * i + warp, kPairs - 1), a = nth < 1 ? 1 : nth < 3 ? 2 : 3;
        jobs.past[i] = job_of(a, nth - a * (a - 1) / 2);
    }
    jobs.last = job_of(warp, warp);
    jobs.both = warp < kPairs - 4;
    return jobs;
}

struct RawTiles {
    uint4 past[kPast], last;
};

// Waits for them.
__device__ __forceinline__ void pin_tiles(RawTiles& x) {
    u32(&words)[sizeof(RawTiles) / 4] = reinterpret_cast<u32(&)[sizeof(RawTiles) / 4]>(x);
    ptx::pin(words);
}

__device__ __forceinline__ RawTiles read_tiles(const uint4* tiles, const Jobs& jobs) {
    RawTiles raw = {};
    raw.past[0] = tiles[jobs.past[0].from];
    if (jobs.both) raw.past[1] = tiles[jobs.past[1].from];
    raw.last = tiles[jobs.last.from];
    return raw;
}

__device__ __forceinline__ void widen_tile(Tile& to, const uint4& raw) {
    const u32 pairs[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) to[2 * i] = bf16_low(pairs[i]), to[2 * i + 1] = bf16_high(pairs[i]);
}

__device__ __forceinline__ void weigh_tile(u16* to, const uint4& raw, const Job& job,
                                           const float* gates) {
    Tile x;
    widen_tile(x, raw);
    u32 a[kHeads][4];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) weigh_past(a[h], x, gates + h * kGateFloats, job.at);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) write_tile(to + h * kPanel + job.to, a[h]);
}

__device__ __forceinline__ void weigh_tiles(u16* to, const RawTiles& raw, const Jobs& jobs,
                                            const float* gates, const float (&skip)[kHeads]) {
    Tile x;
    widen_tile(x, raw.last);
    u32 a[kHeads][4];
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
        weigh_diagonal(a[h], x, gates + h * kGateFloats, jobs.last.at, skip[h]);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) write_tile(to + h * kPanel + jobs.last.to, a[h]);
    weigh_tile(to, raw.past[0], jobs.past[0], gates);
    if (jobs.both) weigh_tile(to, raw.past[1], jobs.past[1], gates);
}

__device__ __forceinline__ void finish_scores(Shared& s, Ring& ring, ptx::Ring<kAhead>& turn) {
    ptx::fence_async_shared();
    arrive_warp(&s.scored[turn.stage]);
    ptx::mbarrier_arrive(&s.empty[ring.stage]);
    ring.advance(), turn.advance();
}

// The next chunk's tiles are on their way while this one's are weighed. Not two chunks', in turn: all such
// loads share a scoreboard, and waiting for the older is waiting for the newer.
__device__ __forceinline__ void weigh_chunks(Shared& s, const Problem& p, const Part& part,
                                             const Jobs& jobs,
                                             const float (&skip)[kHeads], Ring& ring,
                                             ptx::Ring<kAhead>& turn) {
    const int chunks = part.tokens.chunks();
    const int key_head = part.at.head / (p.heads / p.key_heads);
    const uint4* tiles =
        reinterpret_cast<const uint4*>(p.scores) +
        scores_row(p, part.at.batch, key_head, part.tokens.start / kChunk) * kWarp;
    RawTiles next = read_tiles(tiles, jobs);
#pragma unroll 1
    for (int n = 0; n < chunks; ++n) {
        RawTiles now = next;
        pin_tiles(now);
        if (n + 1 < chunks) tiles += kTiles * kWarp;
        next = read_tiles(tiles, jobs);
        ptx::mbarrier_wait(&s.gated[ring.stage], ring.parity);
        ptx::mbarrier_wait(&s.used[turn.stage], turn.parity ^ 1);
        weigh_tiles(s.scores[turn.stage][0].at, now, jobs, s.gates[ring.stage][0].sum, skip);
        finish_scores(s, ring, turn);
    }
}

// Scores that nobody else takes are made here.
__device__ __forceinline__ void make_chunks(Shared& s, const Part& part,
                                            const float (&skip)[kHeads], Ring& ring,
                                            ptx::Ring<kAhead>& turn) {
#pragma unroll 1
    for (int n = 0; n < part.tokens.chunks(); ++n) {
        float x[kChunk / 2];
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        issue_scores(x, s.stage[ring.stage].q, s.stage[ring.stage].k);
        ptx::mbarrier_wait(&s.gated[ring.stage], ring.parity);
        ptx::mbarrier_wait(&s.used[turn.stage], turn.parity ^ 1);
        ptx::wgmma_wait<0>();
        ptx::pin(x);
        Rows rows;
        weigh_rows(rows, x, s.gates[ring.stage][0].sum, skip[0]);
        write_rows(s.scores[turn.stage][0], rows);
        finish_scores(s, ring, turn);
    }
}

__device__ __forceinline__ void score_chunks(Shared& s, const Problem& p, const Part& part,
                                             const Jobs& jobs, Ring& ring, ptx::Ring<kAhead>& turn) {
    float skip[kHeads] = {};
    if (SSD && p.skip)
        for (int h = 0; h < kHeads; ++h) skip[h] = p.skip[part.at.head + h];
    if (SHARED) weigh_chunks(s, p, part, jobs, skip, ring, turn);
    else make_chunks(s, part, skip, ring, turn);
}

// The segment's own state takes no scores: its chunks are only let go.
__device__ __forceinline__ void pass_chunks(Shared& s, int chunks, Ring& ring) {
#pragma unroll 1
    for (int n = 0; n < chunks; ++n) {
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        ptx::mbarrier_arrive(&s.empty[ring.stage]);
        ring.advance();
    }
}

// ---------------------------------------------------------------- state: a warpgroup per 64 of dv

__device__ __forceinline__ void push_values(u32 (&to)[4][4], const u32 (&v)[4][4],
                                            const Gates& gates) {
    const int t = lane_index() % 4;
#pragma unroll
    for (int step = 0; step < 4; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            to[step][i] = multiply_bf16(v[step][i], gates.push[8 * step + i / 2 * 4 + t]);
        ptx::pin(to[step]);  // now, not between the products that follow
    }
}

__device__ __forceinline__ void load_carry(float2 (&to)[kChunk / 8], const Gates& gates) {
    const float* from = gates.carry + lane_index() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kChunk / 8; ++j) to[j] = pair_at(from + 8 * j);
}

__device__ __forceinline__ void scale_outputs(Output& o, const float2 (&carry)[kChunk / 8]) {
#pragma unroll
    for (int j = 0; j < kChunk / 8; ++j) {
        const float2 c = carry[j];
        o[4 * j] *= c.x, o[4 * j + 1] *= c.y, o[4 * j + 2] *= c.x, o[4 * j + 3] *= c.y;
    }
}

// Where a state warpgroup is, from part to part.
struct Walk {
    Ring ring;
    ptx::Ring<kAhead> turn;
    int stored = 0;
};

// A state warpgroup has done with a stage, also with the part of it that came from the other block.
__device__ __forceinline__ void let_go(u64* empty) {
    ptx::mbarrier_arrive(empty);
    if (kCluster > 1) {
        __syncwarp();
        if (lane_index() == 0) ptx::mbarrier_arrive_cluster(empty, ptx::cluster_rank() ^ 1);
    }
}

template <bool Outputs>
__device__ __forceinline__ void walk_chunks(Shared& s, const Problem& p, const TensorMap* out,
                                            const Part& part, int group, State& state, Walk& walk) {
    const int head = kHeads == 2 ? group : 0;
    const int panel = (part.at.head * p.dv + part.at.col) / kPanelCols + group;
    Ring& ring = walk.ring;
    auto& turn = walk.turn;
#pragma unroll 1
    for (int n = 0; n < part.tokens.chunks(); ++n) {
        auto& in = s.stage[ring.stage];
        const Gates& gates = s.gates[ring.stage][head];
        Output o;
        u32 rounded[kDk / 16][4];
        if (Outputs) pack_state(rounded, state);
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        if (Outputs) issue_carried(o, rounded, in.q);
        ptx::mbarrier_wait(&s.gated[ring.stage], ring.parity);
        if (Outputs) {
            const float decay = gates.decay;
#pragma unroll
            for (int i = 0; i < kStateRegisters; ++i) state[i] *= decay;
            ptx::pin(state);
        }
        u32 v[4][4], pushed[4][4];
        load_values(v, in.v.panel[group]);
        push_values(pushed, v, gates);
        if (Outputs) {
            float2 carry[kChunk / 8];
            if (kEarly) load_carry(carry, gates);
            ptx::wgmma_wait<0>();
            ptx::pin(o);
            if (!kEarly) load_carry(carry, gates);
            scale_outputs(o, carry);
            ptx::mbarrier_wait(&s.scored[turn.stage], turn.parity);
            ptx::pin(o);
            issue_scored(o, v, s.scores[turn.stage][head]);
        }
        ptx::pin(state);
        issue_update(state, pushed, in.k);
        if (Outputs) {
            ptx::wgmma_wait<1>();
            ptx::pin(o);
            arrive_warp(&s.used[turn.stage]);
            store_outputs(o, s.out[group], walk.stored++, out, group,
                          part.tokens.token<true>(n), panel, part.at.batch);
        }
        ptx::wgmma_wait<0>();
        ptx::pin(state);
        let_go(&s.empty[ring.stage]);
        ring.advance();
        if (Outputs) turn.advance();
    }
}

// ---------------------------------------------------------------- between blocks

// Signals of a block to those of later segments: a warpgroup's own state, a head's decay.
constexpr int kSignals = kStateGroups + kHeads;

__device__ __forceinline__ u32* signals_of(const Problem& p, int segment) {
    return p.handed + static_cast<size_t>(blockIdx.x) * p.segments + segment;
}

// The decay of a block's segments, head `nth`.
__device__ __forceinline__ float* decay_of(const Problem& p, int nth) {
    return p.decay + (static_cast<size_t>(blockIdx.x) * kHeads + nth) * p.segments;
}

// Does the block begin with its segment's own state? The last segment's is nobody's start.
__device__ __forceinline__ bool has_own_state(const Problem& p) {
    return static_cast<int>(blockIdx.y) < p.segments - 1;
}

// Waits for the earlier segments. Their blocks stand before this one in the grid and wait for still
// earlier ones only, so whatever is on the device goes on.
__device__ __forceinline__ void await_segments(const Shared& s, const Problem& p, int segment,
                                               int group) {
    for (int i = threadIdx.x % kWarpgroup; i < segment; i += kWarpgroup)
        while (ptx::load_acquire(signals_of(p, i)) != s.signals + kSignals) {
        }
    ptx::named_barrier_sync(1 + group, kWarpgroup);
}

// A state on its way from the block that begins a sequence to the one that ends it, in the order of
// registers.
template <bool Write>
__device__ __forceinline__ void pass_state(State& s, const Problem& p, int block, int group) {
    const int thread = threadIdx.x % kWarpgroup, slot = block * kStateGroups + group;
    float* at = p.passed + static_cast<size_t>(slot) * kStateRegisters * kWarpgroup + thread;
    if (!Write) {
        if (thread == 0) ptx::await(p.handed + slot);
        ptx::named_barrier_sync(1 + group, kWarpgroup);
    }
#pragma unroll
    for (int i = 0; i < kStateRegisters; ++i) {
        if (Write) at[i * kWarpgroup] = s[i];
        else s[i] = __ldcg(at + i * kWarpgroup);
    }
    if (Write) {
        ptx::named_barrier_sync(1 + group, kWarpgroup);
        if (thread == 0) ptx::signal(p.handed + slot);
    }
}

// ---------------------------------------------------------------- roles

__device__ __forceinline__ void init_shared(Shared& s, const Problem& p) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(&s.full[i], 1);
            ptx::mbarrier_init(&s.gated[i], kHeads * kWarp);
            // of every own thread that reads it, and of each warp beside that holds a state
            ptx::mbarrier_init(&s.empty[i], (kStateGroups + 1) * kWarpgroup +
                                                (kCluster - 1) * 4 * kStateGroups);
        }
        for (int i = 0; i < kAhead; ++i) {
            ptx::mbarrier_init(&s.scored[i], 4);
            ptx::mbarrier_init(&s.used[i], 4 * kStateGroups);
        }
        ptx::fence_mbarrier_init();
        if (p.segments > 1) {
            u32* own = signals_of(p, blockIdx.y);
            s.signals = *own;
            if (!has_own_state(p)) *own = s.signals + kSignals;  // keeps count with the others
        }
    }
    __syncthreads();
}

// This warpgroup's part of a state: 64 columns of one head, or the whole of another.
__device__ __forceinline__ void work_state(Shared& s, const Problem& p, const Maps& maps,
                                           const Part& part, int group, Walk& walk) {
    const Place at = part.at;
    const int nth = kHeads == 2 ? group : 0, head = at.head + nth, block = blockIdx.x;
    const int col = kHeads == 2 ? 0 : at.col + kPanelCols * group;
    float* local = p.local + state_row(p, at.batch, head, 0, p.segments) * p.dv + col;
    if (has_own_state(p)) {
        State state = {};
        walk_chunks<false>(s, p, maps.out, part, group, state, walk);
        move_state<true>(state, local + static_cast<size_t>(at.segment) * kDk * p.dv, p.dv);
        ptx::named_barrier_sync(1 + group, kWarpgroup);
        if (threadIdx.x % kWarpgroup == 0) ptx::signal_add(signals_of(p, at.segment));
    }
    State state = {};
    if (part.taken) {
        pass_state<false>(state, p, block - kCluster, group);
    } else {
        if (at.segment > 0) await_segments(s, p, at.segment, group);
        const float* decay = decay_of(p, nth);
        start_state(state, p, at, local, col, head, [&](int segment, int) {
            return make_float2(decay[segment], decay[segment]);
        });
    }
    walk_chunks<true>(s, p, maps.out, part, group, state, walk);
    if (part.handed) pass_state<true>(state, p, block, group);
    else finish_state<true>(state, p, at, local, col, head);
}

__device__ __forceinline__ void state_role(Shared& s, const Problem& p, const Maps& maps,
                                           int group) {
    const Share share(p);
    Walk walk;
#pragma unroll 1
    for (int i = 0; i < share.parts(); ++i) work_state(s, p, maps, share.part(p, i), group, walk);
    if (threadIdx.x % kWarpgroup == 0) ptx::bulk_wait<0>();
}

__device__ __forceinline__ void supply_role(Shared& s, const Problem& p, const Maps& maps) {
    const Share share(p);
    const int nth = warp_index() - 1;
    Ring ring;
    if (nth < 0) {
        if (ptx::elect_one())
            for (int i = 0; i < share.parts(); ++i) {
                const Part part = share.part(p, i);
                if (has_own_state(p)) load_chunks<false>(s, p, maps, part, ring);
                load_chunks<true>(s, p, maps, part, ring);
            }
        __syncwarp();
    } else if (nth < kHeads) {
        for (int i = 0; i < share.parts(); ++i) {
            const Part part = share.part(p, i);
            if (has_own_state(p)) {
                const float total = work_gates<false>(s, p, part, nth, ring);
                if (lane_index() == 0) {
                    decay_of(p, nth)[part.at.segment] = exp2_approx(total);
                    ptx::signal_add(signals_of(p, part.at.segment));
                }
                __syncwarp();
            }
            work_gates<true>(s, p, part, nth, ring);
        }
    }
}

__device__ __forceinline__ void score_role(Shared& s, const Problem& p) {
    const int thread = threadIdx.x % kWarpgroup;
    for (int i = thread; i < static_cast<int>(sizeof s.scores) / 4; i += kWarpgroup)
        reinterpret_cast<u32*>(s.scores)[i] = 0;
    ptx::named_barrier_sync(1 + kStateGroups, kWarpgroup);
    const Jobs jobs = jobs_of(warp_index() % 4);
    Ring ring;
    ptx::Ring<kAhead> turn;
    if (has_own_state(p)) pass_chunks(s, Share(p).part(p, 0).tokens.chunks(), ring);
    const Share share(p);
#pragma unroll 1
    for (int i = 0; i < share.parts(); ++i) score_chunks(s, p, share.part(p, i), jobs, ring, turn);
}

// Each role finds its place itself: values that live across the split would be spilled.
#if CLUSTER > 1
#define IN_CLUSTERS __cluster_dims__(CLUSTER, 1, 1)
#else
#define IN_CLUSTERS
#endif
extern "C" __global__ void IN_CLUSTERS __launch_bounds__(kThreads, 1)
    gla(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
        const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
        const __grid_constant__ TensorMap out) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const Maps maps = {&q, &k, &v, &out};
    init_shared(s, p);
    if (kCluster > 1) ptx::cluster_sync();
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_shrink<40>();
        supply_role(s, p, maps);
    } else if (role == 1) {
        ptx::registers_shrink<kScoreRegisters>();
        score_role(s, p);
    } else {
        ptx::registers_grow<kOwnRegisters>();
        state_role(s, p, maps, role - 2);
    }
    if (kCluster > 1) ptx::cluster_sync();  // the other's copies and arrivals come here
}
