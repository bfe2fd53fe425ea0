// arch: sm_80 sm_90a
// registers: 255
// threads: 256
// dynamic_smem: 124160
// defines: TYPE=2 STATES=16 TURNS=1
// defines: TYPE=2 STATES=16 TURNS=8
// defines: TYPE=2 STATES=16 TURNS=1 GATED=0 SOFTPLUS=0
// defines: TYPE=1 STATES=8 TURNS=4
// defines: TYPE=1 STATES=32 TURNS=1
// defines: TYPE=2 STATES=64 TURNS=1
//
// Selective scan, rung 4 (16-bit data): tensor cores do what is not an exponential, and warps that
// take turns along the sequence do the exponentials ahead of the state.
//
// For 16 channels and one token, the input of the recurrence is an outer product and its output a
// contraction, so a warp keeps h as accumulators of m16n8 products (rows channels, columns states):
//
//     P = (dt u) B^T      2 m16n8k4     k = 0, 1 carry dt u in two parts of 11 bits, B is exact
//     h = exp(dt A) h + P               fp32 multiply-adds: tensor cores truncate their sums, which
//                                       a long memory would add up; P alone is new at each token
//     y = h C             2 m16n8k8     B operand: C of 8 tokens, of which the diagonal is kept;
//                                       h is truncated to 11 bits here, once per output
//
// An accumulator's layout is an A operand's up to the order of k, so h moves nowhere, and the
// contraction adds over the lanes. B and C enter as operands of one value per lane and token, not as
// 2 N broadcasts. Per (token, channel), N=16: 48 slots (dt A, exponential, multiply-add) + 8 of
// products, B and the diagonal + 5 of shared reads, against 80 + 8 and shuffles in rung 3.
//
// The other special functions shrink: softplus(x) = max(x, 0) + log1p(e^-|x|) with log1p a polynomial (1
// instead of 2), and one reciprocal serves the silu of two tokens (1.5 instead of 2): 18.5 of 20.
//
// Turns. exp(dt A) needs no state. TURNS warps share 16 channels and take 8 tokens each in turn:
// each has its 8 * N / 2 decays per lane in registers when the state arrives, walks 8 tokens and
// hands the state to the next (named barriers, shared memory). No exponential is computed twice,
// and 4096 channels fill 132 SMs. With TURNS = 1 a warp walks on alone.
//
// Limits, B=8 L=2048 D=4096 N=16, z, bf16; 256 channels on the fullest SM (1.98 GHz):
//   special    18.5 results, 1.16 clocks per (token, channel): 306 us. This binds
//   issue      about 105 slots, 0.82 clocks
//   tensor     8 products of 8 clocks or less per warp quarter and 32 channels: 0.5 clocks
//   memory     10 bytes from L2 (B and C once per 16 channels), 8 from memory: 0.54 clocks
// With POLY of 16 exponentials on the FMA pipe (9 slots instead of 2): special (18.5 - POLY) / 16,
// issue (105 + 7 POLY) / 128: POLY = 2 is where they meet, 1.03 and 0.93.
// Predictions: B=8 L=2048: 350 us (special functions at 87 %, 16 warps an SM); POLY = 2: 320 us.
//   B=1 L=65,536: the special functions' 1.22 ms if the turns (8 tokens in 300 clocks or less) keep
//   up: 1.4 to 1.6 ms.
// Registers: 8 states, 8 rates, 64 decays (TURNS > 1), 16 of dt u, 8 of B, 4 of C.
#include "common/async_copy.cuh"
#include "common/barrier.cuh"
#include "common/mma.cuh"
#include "selective_scan/problem.cuh"

#ifndef TURNS
#define TURNS 1
#endif
#ifndef GATED
#define GATED 1
#endif
#ifndef SOFTPLUS
#define SOFTPLUS 1
#endif

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kTurns = TURNS;               // warps that share a unit of channels
constexpr int kUnits = kWarps / kTurns;     // of a block
constexpr int kRows = 16;                   // channels of a unit
constexpr int kVisit = 8;                   // tokens between two hand-overs
constexpr int kVisits = kTurns == 1 ? 2 : 1;  // of a warp's tile
constexpr int kTile = kVisit * kVisits;     // tokens that a warp loads at once
constexpr int kColumns = kStates / 8;       // products side by side
constexpr int kShare = 4 * kColumns;        // states of a lane: 2 columns of 2 channels each
constexpr int kStages = 2;
constexpr bool kAlone = kTurns == 1;
constexpr int kBuffers = kAlone ? 2 : 1;  // alone, a warp prepares the next visit while it walks one
constexpr int kReads = kVisit / 2;        // tokens read from shared memory at once

static_assert(TYPE != TYPE_FP32, "11 bits of the state reach an output");

// A warp's tile of u, delta, z, B and C as loaded, a row per channel or state; rows of 48 or 16
// bytes put the reads of 8 rows into different banks (with 64 states there is no room for 48).
constexpr int kLoadRows = 3 * kRows + 2 * kStates;
constexpr int kStride = kVisits == 1 || kStates == 64 ? kTile : kTile + 8;
constexpr int kStage = kLoadRows * kStride;
constexpr int kChunks = kTile / 8;  // 16-byte pieces of a row
enum Part { kU = 0, kDelta = kRows, kZ = 2 * kRows, kB = 3 * kRows, kC = 3 * kRows + kStates };

// What all lanes of a g share (see Lane): tokens 2 t and 2 t + 1 of channels g and g + 8 in place [g][t].
// Rows of 80 bytes put 8 rows into different banks.
using Shared8x4 = float4[8][5];

struct alignas(16) WarpShared {
    Element raw[kStages][kLoadRows][kStride];
    Shared8x4 dt[kBuffers], input[kBuffers][3];        // dt; dt u in two parts, and zeros
    float4 rates[kAlone ? 1 : kColumns][kWarp];        // A
    float4 state[kAlone ? 1 : kColumns][kWarp];        // the state handed to this warp
    float2 constants[kRows];                           // bias and D of a channel
    u64 handed, unused;
};

extern __shared__ __align__(16) u8 shared_bytes[];

// ---------------------------------------------------------------- a warp's place and its loads

struct Place {
    int batch, segment, group, channel, rows, turn, warp;  // channel: the first of `rows` valid ones
};

__device__ __forceinline__ Place place_of(const Problem& p) {
    const int warp = warp_index(), per_group = p.channels / p.groups;
    const int units = ceil_div(per_group, kRows), blocks = ceil_div(units, kUnits);
    const int group = blockIdx.x / blocks, unit = blockIdx.x % blocks * kUnits + warp / kTurns;
    return {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y), group,
            group * per_group + unit * kRows, least(per_group - unit * kRows, kRows),
            warp % kTurns, warp};
}

// Of a warp's tile a lane copies 16 bytes of some rows: `own` of u, delta and z, `shared` of B and C, as
// elements of those arrays.
struct Source {
    size_t own, shared;
};

constexpr int kAtOnce = kWarp / kChunks;  // rows that a warp copies at once

__device__ __forceinline__ Source source_of(const Problem& p, const Place& at, int t) {
    const int row = lane_index() / kChunks, token = t + lane_index() % kChunks * 8;
    return {row_of(p, at.batch, at.channel + least(row % kRows, at.rows - 1)) + token,
            group_row(p, at.batch, at.group, row % kStates) + token};
}

// Calls copy(row of the tile, from, what stands for a missing token) for each piece of this lane.
template <typename Copy>
__device__ __forceinline__ void each_piece(const Problem& p, const Source& from, Copy copy) {
    // delta beyond the end: softplus(-infinity) = 0 keeps the state as it is.
    constexpr Element kNever = TYPE == TYPE_FP16 ? 0xfc00 : 0xff80;
    const int row = lane_index() / kChunks;
    if (row < kRows) {
        copy(kU + row, p.u + from.own, 0);
        copy(kDelta + row, p.delta + from.own, kNever);
        if (GATED) copy(kZ + row, p.z + from.own, 0);
    }
    if constexpr (kAtOnce > kStates) {  // B and C side by side
        if (row < 2 * kStates) copy(kB + row, (row < kStates ? p.b : p.c) + from.shared, 0);
    } else {
#pragma unroll
        for (int n = 0; n < kStates; n += kAtOnce) {
            const size_t rows = from.shared + static_cast<size_t>(n) * p.length;
            copy(kB + n + row, p.b + rows, 0);
            copy(kC + n + row, p.c + rows, 0);
        }
    }
}

// Starts the copies of a tile of which `left` tokens exist. Rows that are no multiple of 16 bytes are
// read element by element.
__device__ __forceinline__ void load(const Problem& p, const Source& from,
                                     Element (&to)[kLoadRows][kStride], int left) {
    const int column = lane_index() % kChunks * 8;
    if (left >= kTile && p.length % 8 == 0) {
        each_piece(p, from, [&](int row, const Element* source, Element) {
            ptx::copy_async_16(&to[row][column], source);
        });
    } else if (left > 0) {
        each_piece(p, from, [&](int row, const Element* source, Element missing) {
#pragma unroll 1
            for (int i = 0; i < 8; ++i) to[row][column + i] = column + i < left ? source[i] : missing;
        });
    }
    ptx::copy_async_commit();
}

// ---------------------------------------------------------------- before: dt and dt u

// Lane 4 g + t owns tokens 2 t and 2 t + 1 of channels g and g + 8: it makes their dt and dt u and
// finishes their outputs. All lanes of g need them in between. Element i of a lane is channel
// g + 8 (i % 2) at token 2 t + i / 2. The pointers are into the warp's shared memory, stage 0.
struct Lane {
    int g, t;
    const Element* own;    // u of channel g, token 2 t
    const Element* b;      // of state g, token 0
    const Element* c;      // of state 2 t, token g
    float4* mine;          // this lane's place in dt
    const float4* dt;      // row g of dt
    const float4* input;   // row g of what the lane gives as row t of dt u: k = 2 and 3 are zeros
    const float2* constants;
};

__device__ __forceinline__ Lane lane_of(WarpShared& s) {
    const int g = lane_index() / 4, t = lane_index() % 4;
    const Element* raw = &s.raw[0][0][0];
    return {g, t, raw + (kU + g) * kStride + 2 * t, raw + (kB + g) * kStride,
            raw + (kC + 2 * t) * kStride + g, &s.dt[0][g][t], s.dt[0][g], s.input[0][least(t, 2)][g],
            &s.constants[g]};
}

constexpr int kPlane = sizeof(Shared8x4) / sizeof(float4);

// `visit` is where the visit lies in raw: stage * kStage + token.
template <int Part>
__device__ __forceinline__ void read_owned(const Lane& lane, int visit, u32 (&to)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r)
        to[r] = *reinterpret_cast<const u32*>(lane.own + visit + (Part + 8 * r) * kStride);
}

__device__ __forceinline__ void prepare(const Lane& lane, int visit, int buffer, int left) {
    u32 u[2], delta[2];
    read_owned<kU>(lane, visit, u);
    read_owned<kDelta>(lane, visit, delta);
    float dt[4], high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const u32 pair = delta[i % 2];
        dt[i] = (i < 2 ? widen_low(pair) : widen_high(pair)) + lane.constants[i % 2 * 8].x;
        if (SOFTPLUS) dt[i] = softplus(dt[i]);
        else dt[i] = 2 * lane.t + i / 2 < left ? dt[i] : 0.f;
        const float du = dt[i] * (i < 2 ? widen_low(u[i % 2]) : widen_high(u[i % 2]));
        high[i] = __uint_as_float(__float_as_uint(du) & 0xffffe000u);
        low[i] = du - high[i];
    }
    float4* dts = lane.mine + buffer * kPlane;
    float4* inputs = lane.mine + (kBuffers + 3 * buffer) * kPlane;
    dts[0] = make_float4(dt[0], dt[1], dt[2], dt[3]);
    inputs[0] = make_float4(high[0], high[1], high[2], high[3]);
    inputs[kPlane] = make_float4(low[0], low[1], low[2], low[3]);
}

// ---------------------------------------------------------------- 8 tokens

// Tokens First .. First + kReads - 1 of a row; to[2 token + r]: channel g + 8 r.
template <int First>
__device__ __forceinline__ void read_rows(const float4* from, float (&to)[2 * kVisit]) {
#pragma unroll
    for (int pair = First / 2; pair < (First + kReads) / 2; ++pair) {
        const float4 x = from[pair];
        to[4 * pair] = x.x, to[4 * pair + 1] = x.y, to[4 * pair + 2] = x.z, to[4 * pair + 3] = x.w;
    }
}

// The decays of one token.
template <int Token>
__device__ __forceinline__ void decays(float (&w)[kShare], const float (&a)[kShare],
                                       const float (&dt)[2 * kVisit]) {
#pragma unroll
    for (int i = 0; i < kShare; ++i) w[i] = exp2_approx(dt[2 * Token + i % 4 / 2] * a[i]);
}

// Those of all tokens of a visit, before the state is there.
template <int Token>
struct DecaysAhead {
    static __device__ __forceinline__ void run(float (&w)[kVisit][kShare], const float (&a)[kShare],
                                               const float (&dt)[2 * kVisit]) {
        if constexpr (Token < kVisit) {
            decays<Token>(w[Token], a, dt);
            DecaysAhead<Token + 1>::run(w, a, dt);
        }
    }
};

// What the products of 8 tokens read from shared memory.
struct Operands {
    float dt[2 * kVisit], du[2 * kVisit];
    u32 b[kColumns][kVisit / 2];
    float c[kColumns][2];
};

template <int First>
__device__ __forceinline__ void read_dt(const Lane& lane, int buffer, Operands& x) {
    read_rows<First>(lane.dt + buffer * kPlane, x.dt);
}

template <int First>
__device__ __forceinline__ void read_inputs(const Lane& lane, int visit, int buffer, Operands& x) {
    read_rows<First>(lane.input + 3 * buffer * kPlane, x.du);
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int i = 0; i < kReads / 4; ++i) {
            const Element* from = lane.b + visit + 8 * n * kStride + First + 4 * i;
            const uint2 b = *reinterpret_cast<const uint2*>(from);
            x.b[n][First / 2 + 2 * i] = b.x, x.b[n][First / 2 + 2 * i + 1] = b.y;
        }
}

__device__ __forceinline__ void read_c(const Lane& lane, int visit, Operands& x) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) x.c[n][i] = widen(lane.c[visit + (8 * n + i) * kStride]);
}

// One token of the recurrence: w becomes the new state.
template <int Token>
__device__ __forceinline__ void advance(const float (&h)[kShare], float (&w)[kShare], const Operands& x) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
        float in[4];
        const u32 b = x.b[n][Token / 2];
        ptx::mma_tf32_k4(in, x.du[2 * Token], x.du[2 * Token + 1],
                         Token % 2 ? widen_high(b) : widen_low(b));
#pragma unroll
        for (int i = 0; i < 4; ++i) w[4 * n + i] = fmaf(w[4 * n + i], h[4 * n + i], in[i]);
    }
}

// Its output, into the lanes that own it.
template <int Token>
__device__ __forceinline__ void contract(const float (&h)[kShare], const Operands& x, int quarter,
                                         float (&y)[4]) {
    float out[4] = {};
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
        // k = t is column 2 t, k = t + 4 column 2 t + 1.
        ptx::mma_tf32_k8(out, h[4 * n], h[4 * n + 2], h[4 * n + 1], h[4 * n + 3], x.c[n][0], x.c[n][1]);
    if (quarter == Token / 2)
        y[2 * (Token % 2)] = out[Token % 2], y[2 * (Token % 2) + 1] = out[2 + Token % 2];
}

// Tokens Token .. End - 1 by a warp alone: decays as they are needed.
template <int Token, int End>
struct Walk {
    static __device__ __forceinline__ void run(const float (&a)[kShare], const Operands& x, int quarter,
                                               float (&h)[kShare], float (&y)[4]) {
        if constexpr (Token < End) {
            float w[kShare];
            decays<Token>(w, a, x.dt);
            advance<Token>(h, w, x);
            contract<Token>(w, x, quarter, y);
#pragma unroll
            for (int i = 0; i < kShare; ++i) h[i] = w[i];
            Walk<Token + 1, End>::run(a, x, quarter, h, y);
        }
    }
};

// Tokens 0 .. 7 with their decays at hand, which become their states; then their outputs.
template <int Token>
struct Follow {
    static __device__ __forceinline__ void states(const float (&h)[kShare], float (&w)[kVisit][kShare],
                                                  const Operands& x) {
        advance<Token>(h, w[Token], x);
        if constexpr (Token + 1 < kVisit) Follow<Token + 1>::states(w[Token], w, x);
    }
    static __device__ __forceinline__ void outputs(const float (&w)[kVisit][kShare], const Operands& x,
                                                   int quarter, float (&y)[4]) {
        contract<Token>(w[Token], x, quarter, y);
        if constexpr (Token + 1 < kVisit) Follow<Token + 1>::outputs(w, x, quarter, y);
    }
};

// ---------------------------------------------------------------- after: skip, gate, store

// Of a visit whose states are done: what its outputs still need.
struct Pending {
    float y[4];
    u32 u[2], z[2];  // pairs of tokens, as loaded
};

__device__ __forceinline__ void keep(const Lane& lane, int visit, Pending& x) {
    read_owned<kU>(lane, visit, x.u);
    if (GATED) read_owned<kZ>(lane, visit, x.z);
}

// out[r]: the two outputs of channel g + 8 r.
__device__ __forceinline__ void finish(const Lane& lane, const Pending& x, u32 (&out)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const float skip = lane.constants[8 * r].y;
        float low = fmaf(skip, widen_low(x.u[r]), x.y[r]);
        float high = fmaf(skip, widen_high(x.u[r]), x.y[2 + r]);
        if (GATED) low *= silu(widen_low(x.z[r])), high *= silu(widen_high(x.z[r]));
        out[r] = narrow_pair(low, high);
    }
}

// `to`: token 2 t of channel g.
__device__ __forceinline__ void store(const Problem& p, const Place& at, const Lane& lane, Element* to,
                                      int left, const u32 (&out)[2]) {
    const s64 below = 8 * static_cast<s64>(p.length);
    if (left >= kVisit && at.rows == kRows && p.length % 2 == 0) {
        *reinterpret_cast<u32*>(to) = out[0];
        *reinterpret_cast<u32*>(to + below) = out[1];
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (lane.g + 8 * (i % 2) < at.rows && 2 * lane.t + i / 2 < left)
            to[i % 2 * below + i / 2] = static_cast<Element>(out[i % 2] >> 16 * (i / 2));
}

// ---------------------------------------------------------------- states and their hand-over

// Register i of a lane: product i / 4, channel g + 8 (i % 4 / 2), state 2 t + i % 2 of its 8.
__device__ __forceinline__ int state_of(int t, int i) { return i / 4 * 8 + 2 * t + i % 2; }

__device__ __forceinline__ int channel_of(const Place& at, int g, int i) {
    return at.channel + least(g + i % 4 / 2 * 8, at.rows - 1);
}

__device__ __forceinline__ void first_state(const Problem& p, const Place& at, const Lane& lane,
                                            float (&h)[kShare]) {
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
        const size_t row = segment_row(p, at.batch, at.segment, channel_of(at, lane.g, i));
        h[i] = p.first ? p.first[row * kStates + state_of(lane.t, i)] : 0.f;
    }
}

__device__ __forceinline__ void last_state(const Problem& p, const Place& at, const float (&h)[kShare]) {
    if (!p.last || at.segment != p.segments - 1) return;
    const int own = opaque(lane_index());  // else its addresses are those of the first state, kept all the way
    const int g = own / 4, t = own % 4;
#pragma unroll
    for (int i = 0; i < kShare; ++i)
        if (g + i % 4 / 2 * 8 < at.rows)
            p.last[(static_cast<size_t>(at.batch) * p.channels + channel_of(at, g, i)) * kStates +
                   state_of(t, i)] = h[i];
}

// A lane's registers in shared memory, in the order in which products take them.
template <int Columns>
__device__ __forceinline__ void put(float4 (&to)[Columns][kWarp], const float (&h)[kShare]) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
        to[n][lane_index()] = make_float4(h[4 * n], h[4 * n + 2], h[4 * n + 1], h[4 * n + 3]);
}

template <int Columns>
__device__ __forceinline__ void get(const float4 (&from)[Columns][kWarp], float (&h)[kShare]) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
        const float4 x = from[n][lane_index()];
        h[4 * n] = x.x, h[4 * n + 2] = x.y, h[4 * n + 1] = x.z, h[4 * n + 3] = x.w;
    }
}

__device__ __forceinline__ int next_warp(const Place& at) {
    return at.warp - at.turn + (at.turn + 1) % kTurns;
}

// The state for the next visit of warp `to`. It has read the one before: that one has come around.
__device__ __forceinline__ void give_state(WarpShared& to, const float (&h)[kShare]) {
    put(to.state, h);
    __syncwarp();
    if (lane_index() == 0) ptx::mbarrier_arrive(&to.handed);
}

// A sum that needs every decay of a visit: products take ten values each.
__device__ __forceinline__ float tied(const float (&w)[kVisit][kShare]) {
    constexpr int kCount = kVisit * kShare, kEach = 10;
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < kCount; i += kEach) {
        float x[kEach];
#pragma unroll
        for (int k = 0; k < kEach; ++k) x[k] = w[least(i + k, kCount - 1) / kShare][least(i + k, kCount - 1) % kShare];
        float d[4] = {x[6], x[7], x[8], x[9]};
        ptx::mma_tf32_k8(d, x[0], x[1], x[2], x[3], x[4], x[5]);
        sum += d[0];
    }
    return sum;
}

// Left to itself, the assembler computes the decays behind the wait, where the other warps wait for
// them; so the barrier's address is made to depend on them (`none` is 0, which it does not know).
__device__ __forceinline__ void take_state(WarpShared& s, u32& parity, u32 none, float (&h)[kShare]) {
    ptx::mbarrier_wait(&s.handed + none, parity);
    parity ^= 1;
    get(s.state, h);
}

// ---------------------------------------------------------------- a segment of the sequence

// Warps in turns: the next visit's state comes from the warp before.
__device__ __forceinline__ void walk_in_turns(const Problem& p, const Place& at, const Lane& lane,
                                              WarpShared* all, int start, int end, float (&a)[kShare],
                                              float (&h)[kShare]) {
    constexpr int kRound = kTurns * kVisit;
    WarpShared& s = all[at.warp];
    u32 parity = 0;
    int stage = 0, left = end - start - at.turn * kVisit;
    Source from = source_of(p, at, end - left);
    Element* to = p.out + row_of(p, at.batch, at.channel + lane.g) + end - left + 2 * lane.t;
    load(p, from, s.raw[0], left);
#pragma unroll 1
    for (; left > 0; left -= kRound, stage ^= 1, to += kRound) {
        ptx::copy_async_wait_all();
        __syncwarp();  // also: everyone has left the other stage and dt, which are filled next
        from.own += kRound, from.shared += kRound;
        load(p, from, s.raw[stage ^ 1], left - kRound);
        const int visit = stage * kStage;
        prepare(lane, visit, 0, left);
        __syncwarp();
        float w[kVisit][kShare];
        Operands x;
        get(s.rates, a);
        read_dt<0>(lane, 0, x), read_dt<kReads>(lane, 0, x);
        DecaysAhead<0>::run(w, a, x.dt);
        read_inputs<0>(lane, visit, 0, x);
        take_state(s, parity, __float_as_uint(tied(w)) & static_cast<u32>(at.warp) >> 8, h);
        read_inputs<kReads>(lane, visit, 0, x);
        Follow<0>::states(h, w, x);
        if (left > kVisit) give_state(all[next_warp(at)], w[kVisit - 1]);
        else put(s.state, w[kVisit - 1]);
        read_c(lane, visit, x);
        Pending done;
        Follow<0>::outputs(w, x, lane.t, done.y);
        keep(lane, visit, done);
        u32 out[2];
        finish(lane, done, out);
        store(p, at, lane, to, left, out);
    }
    get(s.state, h);
}

// One visit of a warp alone: it finishes the visit before and prepares the next one on the way, so that
// their waits are filled by this one's exponentials.
template <int Buffer>
__device__ __forceinline__ void visit_alone(const Lane& lane, int visit, int next, int left,
                                            const float (&a)[kShare], float (&h)[kShare],
                                            Pending& done, u32 (&out)[2]) {
    Operands x;
    float y[4];
    read_dt<0>(lane, Buffer, x), read_inputs<0>(lane, visit, Buffer, x);
    read_c(lane, visit, x);
    if (GATED) finish(lane, done, out);
    Walk<0, kReads>::run(a, x, lane.t, h, y);
    if (!GATED) finish(lane, done, out);        // little to do: it fits in later
    if (!GATED || kStates == 64) __syncwarp();  // else more is read ahead than registers hold
    read_dt<kReads>(lane, Buffer, x), read_inputs<kReads>(lane, visit, Buffer, x);
    prepare(lane, next, Buffer ^ 1, left - kVisit);
    Walk<kReads, kVisit>::run(a, x, lane.t, h, y);
    keep(lane, visit, done);
#pragma unroll
    for (int i = 0; i < 4; ++i) done.y[i] = y[i];
}

__device__ __forceinline__ void walk_alone(const Problem& p, const Place& at, const Lane& lane,
                                           WarpShared& s, int start, int end, const float (&a)[kShare],
                                           float (&h)[kShare]) {
    int stage = 0, left = end - start;
    Source from = source_of(p, at, start);
    Element* to = p.out + row_of(p, at.batch, at.channel + lane.g) + start + 2 * lane.t;
    load(p, from, s.raw[0], left);
    ptx::copy_async_wait_all();
    __syncwarp();
    prepare(lane, 0, 0, left);
    Pending done = {};
    u32 out[2];
#pragma unroll 1
    for (; left > 0; left -= kTile, stage ^= 1) {
        __syncwarp();  // dt of the first visit is there; everyone has left the other stage
        from.own += kTile, from.shared += kTile;
        load(p, from, s.raw[stage ^ 1], left - kTile);
        const int visit = stage * kStage;
        visit_alone<0>(lane, visit, visit + kVisit, left, a, h, done, out);
        if (left < end - start) store(p, at, lane, to - kVisit, kVisit, out);
        if (left <= kVisit) break;
        ptx::copy_async_wait_all();
        __syncwarp();
        visit_alone<1>(lane, visit + kVisit, (stage ^ 1) * kStage, left - kVisit, a, h, done, out);
        store(p, at, lane, to, kVisit, out);
        to += kTile;
    }
    const int last = (end - start - 1) / kVisit * kVisit;
    finish(lane, done, out);
    store(p, at, lane, p.out + row_of(p, at.batch, at.channel + lane.g) + start + last + 2 * lane.t,
          end - start - last, out);
}

// ---------------------------------------------------------------- the kernel

// Blocks per SM to leave registers for; before sm_90 shared memory holds one.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBlocks = 1;
#else
constexpr int kBlocks = kStates <= 16 ? 2 : 1;
#endif

// Grid (units of a group / kUnits * groups, segments, batch).
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    selective_scan(const __grid_constant__ Problem p) {
    const Place at = place_of(p);
    WarpShared* all = reinterpret_cast<WarpShared*>(shared_bytes);
    WarpShared& s = all[at.warp];
    const Lane lane = lane_of(s);
    const int start = at.segment * p.segment_length;
    const int end = least(start + p.segment_length, p.length);

    if (kTurns > 1 && lane_index() == 0) ptx::mbarrier_init(&s.handed, 1);
    if (kTurns > 1) __syncthreads();
    if (at.rows <= 0) return;
#pragma unroll
    for (int buffer = 0; buffer < kBuffers; ++buffer)
        s.input[buffer][2][lane.g][lane.t] = make_float4(0.f, 0.f, 0.f, 0.f);
    if (lane_index() < kRows) {
        const int channel = at.channel + least(lane_index(), at.rows - 1);
        s.constants[lane_index()] =
            make_float2(p.bias ? p.bias[channel] : 0.f, p.skip ? p.skip[channel] : 0.f);
    }
    float a[kShare], h[kShare];
#pragma unroll
    for (int i = 0; i < kShare; ++i)
        a[i] = p.a[channel_of(at, lane.g, i) * kStates + state_of(lane.t, i)] * kLog2e;
    if constexpr (!kAlone) put(s.rates, a);
    first_state(p, at, lane, h);
    if constexpr (kTurns > 1)
        if (at.turn == 0) give_state(s, h);

    if constexpr (kAlone)
        walk_alone(p, at, lane, s, start, end, a, h);
    else
        walk_in_turns(p, at, lane, all, start, end, a, h);
    if (kTurns == 1 || (ceil_div(end - start, kVisit) - 1) % kTurns == at.turn) last_state(p, at, h);
}
