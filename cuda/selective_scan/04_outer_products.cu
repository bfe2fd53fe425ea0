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
// 2 N broadcasts. Per (token, channel), N=16: 48 slots (dt A, exponential, multiply-add) + 16 for
// products, B and the diagonal, against 80 + 8 and shuffles in rung 3. softplus takes one special
// function (its logarithm is a polynomial), so that 19 of 20 are left.
//
// A warp alone (TURNS = 1) walks visits of 8 tokens; in each it also prepares dt and dt u of the next
// visit and finishes the outputs of the one before, whose waits the exponentials fill.
//
// Turns. exp(dt A) needs no state. TURNS warps share 16 channels and take 8 tokens each in turn:
// a warp has its 8 N / 2 decays per lane in registers when the state arrives, walks 8 tokens and hands
// the state on (an mbarrier and shared memory) before it makes its outputs. No exponential is computed
// twice, and 4096 channels fill 132 SMs.
//
// Limits, B=8 L=2048 D=4096 N=16, z, bf16; 256 channels on the fullest SM (1.98 GHz):
//   special    19 results, 1.19 clocks per (token, channel): 314 us. This binds
//   issue      108 slots alone, 134 in turns (machine code): 0.84 and 1.05 clocks
//   tensor     4 products a token, 8 clocks or less each: 0.5 clocks
//   memory     10 bytes from L2 (B and C once per 16 channels), 8 from memory: 0.54 clocks
// What a warp's latency leaves of them: 4 warps a scheduler, in order, reach 75 % of the special
// functions when a visit takes 1900 clocks beside its 608 of exponentials (closed queue, mean values);
// the prepared and finished visits within one take that to 1300, 88 %.
// Predictions: B=8 L=2048: 314 / 0.85 = 370 us. B=1 L=65,536: 1.26 ms / 0.7 = 1.8 ms.
// Registers: 8 states, 8 rates, 64 decays (in turns), 16 of dt u, 8 of B, 4 of C.
#include "common/async_copy.cuh"
#include "common/barrier.cuh"
#include "common/mma.cuh"
#include "common/shared.cuh"
#include "selective_scan/problem.cuh"

#ifndef TURNS
#define TURNS 1
#endif
#ifndef GATED
#define GATED 1
#endif
#ifndef ALIGNED
#define ALIGNED 1
#endif
#ifndef SOFTPLUS
#define SOFTPLUS 1
#endif
#ifndef WARPS
#define WARPS 8
#endif
#ifndef RESIDENT
#define RESIDENT 16
#endif
#ifndef EVEN
#define EVEN 0
#endif

constexpr int kWarps = WARPS;               // of a block
constexpr int kThreads = kWarps * kWarp;
constexpr int kResident = RESIDENT;         // warps of an SM to leave registers for
constexpr bool kShort = kResident > 16;     // of registers
constexpr int kTurns = TURNS;               // warps that share a unit of channels
constexpr int kUnits = kWarps / kTurns;     // of a block
constexpr int kHalves = kStates == 8 ? 1 : 2;  // of the states: rows g of a product have one, rows g + 8 the other
constexpr int kPer = 2 / kHalves;           // channels of a lane: with 8 states, row g + 8 is another channel
constexpr int kRows = 8 * kPer;             // channels of a unit
constexpr int kVisit = 16;                  // tokens between two hand-overs, and of a tile
constexpr int kOwn = kVisit / 4;            // tokens that a lane prepares and finishes
constexpr int kColumns = kStates / (8 * kHalves);  // products side by side
constexpr int kShare = 4 * kColumns;        // states of a lane
constexpr int kStages = 2;
constexpr bool kAlone = kTurns == 1;

static_assert(TYPE != TYPE_FP32, "11 bits of the state reach an output");

// A warp's tile of u, delta, z, B and C as loaded, a row of 32 bytes per channel or state.
constexpr int kLoadRows = 3 * kRows + 2 * kStates;
constexpr int kRowBytes = kVisit * sizeof(Element);
constexpr int kStageBytes = kLoadRows * kRowBytes;
enum Part { kU = 0, kDelta = kRows, kZ = 2 * kRows, kB = 3 * kRows, kC = 3 * kRows + kStates };

// 16 bytes per channel for the four tokens of each t. An odd multiple of 32 bytes from t to t spreads what
// the four t write over the banks.
using Steps = float4[4][kRows + 2];
constexpr int kNextT = sizeof(float4) * (kRows + 2);

struct alignas(16) WarpShared {
    Element raw[kStages][kLoadRows][kVisit];
    Steps dt;              // dt
    Steps input;           // dt u as the products take it, of tokens 0, 2, 1 and 3
    float4 constants[kRows];                           // bias and D of a channel
    float4 rates[kAlone ? 1 : kColumns][kWarp];        // A
    float4 state[kAlone ? 1 : kColumns][kWarp];        // the state handed to this warp
    u64 handed, unused;
};

extern __shared__ __align__(16) u8 shared_bytes[];  // WarpShared[kWarps], then two barriers

__device__ __forceinline__ u64* laps_of(WarpShared* all) { return reinterpret_cast<u64*>(all + kWarps); }

// ---------------------------------------------------------------- a warp's place and its loads

struct Place {
    int batch, segment, group, channel, rows, turn, warp;  // channel: the first of `rows` valid ones
    int busy;                                              // warps of the block that have channels
};

__device__ __forceinline__ Place place_of(const Problem& p) {
    const int warp = warp_index(), per_group = p.channels / p.groups;
    const int units = ceil_div(per_group, kRows), blocks = ceil_div(units, kUnits);
    const int group = blockIdx.x / blocks, first = blockIdx.x % blocks * kUnits, unit = first + warp / kTurns;
    return {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y), group,
            group * per_group + unit * kRows, least(per_group - unit * kRows, kRows),
            warp % kTurns, warp, least(units - first, kUnits) * kTurns};
}

// Of a warp's tile a lane copies 8 tokens (16 bytes) of rows lane / 2, and of rows 16 further: bytes from the
// starts of u, delta and z (`own`), of B and C (`shared`).
constexpr int kAtOnce = kWarp / 2;

struct Source {
    size_t own, shared;
};

__device__ __forceinline__ int copied_column() { return lane_index() % 2 * 8; }

__device__ __forceinline__ Source source_of(const Problem& p, const Place& at, int t) {
    const int row = lane_index() / 2, token = t + copied_column();
    return {sizeof(Element) * (row_of(p, at.batch, at.channel + least(row % kRows, at.rows - 1)) + token),
            sizeof(Element) * (group_row(p, at.batch, at.group, row % kStates) + token)};
}

__device__ __forceinline__ void move(Source& from, int tokens) {
    from.own += tokens * static_cast<s64>(sizeof(Element)), from.shared += tokens * static_cast<s64>(sizeof(Element));
}

__device__ __forceinline__ const Element* at_byte(const Element* base, size_t offset) {
    return reinterpret_cast<const Element*>(reinterpret_cast<const u8*>(base) + offset);
}

// Calls copy(row of the tile less lane / 2, from, whether other warps read it too) for each piece of this lane.
template <typename Copy>
__device__ __forceinline__ void each_piece(const Problem& p, const Source& from, Copy copy) {
    constexpr bool kKept = true, kOnce = false;
    const int row = lane_index() / 2;
    if (row < kRows) {
        copy(kU, at_byte(p.u, from.own), kOnce);
        copy(kDelta, at_byte(p.delta, from.own), kOnce);
        if (GATED) copy(kZ, at_byte(p.z, from.own), kOnce);
    }
    if (kAtOnce > kStates) {  // B and C side by side
        copy(kB, at_byte(row < kStates ? p.b : p.c, from.shared), kKept);
    } else {
#pragma unroll
        for (int n = 0; n < kStates; n += kAtOnce) {
            const size_t rows = from.shared + sizeof(Element) * static_cast<size_t>(n) * p.length;
            copy(kB + n, at_byte(p.b, rows), kKept);
            copy(kC + n, at_byte(p.c, rows), kKept);
        }
    }
}

// Starts the copies of a tile of which `left` tokens exist, zeros for the others. Rows that are no multiple
// of 16 bytes are read element by element.
template <bool Aligned>
__device__ __forceinline__ void load(const Problem& p, const Source& from, ptx::Shared to, int left) {
    if (left > 0) {
        const int column = copied_column();
        const bool valid = column < left;
        each_piece(p, from, [&](int row, const Element* source, bool kept) {
            const ptx::Shared place = to + row * kRowBytes;
            if constexpr (Aligned) {
                ptx::copy_async_16(place, source, valid, kept);
            } else {
#pragma unroll 1
                for (int i = 0; i < 8; ++i)
                    ptx::store_2(place + 2 * i, column + i < left ? source[i] : Element(0));
            }
        });
    }
    ptx::copy_async_commit();
}

// ---------------------------------------------------------------- before: dt and dt u

// Lane 4 g + t owns tokens 4 t .. 4 t + 3 of channel g (with 8 states, of channel g + 8 too): it makes their
// dt and dt u and finishes their outputs. All lanes of g need them in between. Places are of stage 0.
struct Lane {
    int g, t;
    int first[kPer];       // token of the visit, 4 t; beyond any if there is no channel g + 8 r
    ptx::Shared copied;    // where this lane's 16 bytes of row 0 land
    ptx::Shared own;       // u of channel g, token 4 t
    ptx::Shared b;         // this lane's state, token 0
    ptx::Shared c;         // this lane's state, token 4 (g / 2)
    ptx::Shared mine;      // dt of channel g at this t
    ptx::Shared dt;        // dt of channel g at t = 0
    ptx::Shared input;     // what this lane gives of dt u, at t = 0
    u32 even, odd;         // which halves of a pair of B this lane gives to the products
};

constexpr int kFromDt = kStages * kStageBytes, kToInput = sizeof(Steps);  // of WarpShared
constexpr int kToConstants = 2 * sizeof(Steps), kToRest = kFromDt + kToConstants + 16 * kRows;

__device__ __forceinline__ Lane lane_of(const WarpShared& s, int rows) {
    const int g = lane_index() / 4, t = lane_index() % 4;
    constexpr int kHalf = kHalves == 2 ? 8 : 0;
    constexpr u32 kNone = 0x4444;  // bytes of the second operand, which is 0
    constexpr u32 kLow = TYPE == TYPE_BF16 ? 0x1010 : 0x3232, kHigh = 0x3232;
    const ptx::Shared base = ptx::shared_at(&s), dt = base + (kFromDt + 16 * g);
    constexpr int kBeyond = 1 << 30;
    Lane lane = {g, t, {}, ptx::pinned(base + 16 * lane_index()), ptx::pinned(base + 8 * lane_index()),
            ptx::pinned(base + (kB + g + t % 2 * kHalf) * kRowBytes),
            ptx::pinned(base + ((kC + 2 * t + g % 2 * kHalf) * kRowBytes + g / 2 * 8)),
            ptx::pinned(dt + t * kNextT), ptx::pinned(dt),
            ptx::pinned(dt + (kToInput + t / 2 * 8 + (kPer == 2 ? t % 2 * 128 : 0))),
            t < 2 ? kLow : kNone, t < 2 ? kNone : kHigh};
#pragma unroll
    for (int r = 0; r < kPer; ++r) lane.first[r] = g + 8 * r < rows ? kOwn * t : kBeyond;
    return lane;
}

// The four tokens that a lane owns, as loaded: of channel g + 8 r.
template <int Stage, int Part>
__device__ __forceinline__ uint2 read_owned(const Lane& lane, int r) {
    return ptx::load_8(lane.own + (Stage * kStageBytes + (Part + 8 * r) * kRowBytes));
}

// x and y of `constants` of channel g + 8 r.
__device__ __forceinline__ float constant(const Lane& lane, int r, int which) {
    return __uint_as_float(ptx::load_4(lane.dt + (kToConstants + 128 * r + 4 * which)));
}

__device__ __forceinline__ void widen_four(uint2 x, float (&to)[4]) {
    to[0] = widen_low(x.x), to[1] = widen_high(x.x), to[2] = widen_low(x.y), to[3] = widen_high(x.y);
}

// An fp32 value as two of bf16, side by side: 16 bits of it.
__device__ __forceinline__ u32 two_parts(float x) {
    const float high = __uint_as_float(pack_bf16(0.f, x));
    return pack_bf16(x - high, x);
}

template <int Stage>
__device__ __forceinline__ void prepare(const Lane& lane, int left) {
#pragma unroll
    for (int r = 0; r < kPer; ++r) {
        float u[4], dt[4];
        u32 w[4];
        widen_four(read_owned<Stage, kDelta>(lane, r), dt);
        const float bias = constant(lane, r, 0);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            dt[i] += bias;
            if (SOFTPLUS) dt[i] = softplus(dt[i]);
        }
        if (left < kVisit)  // beyond the end, the state stays as it is
#pragma unroll
            for (int i = 0; i < 4; ++i) dt[i] = kOwn * lane.t + i < left ? dt[i] : 0.f;
        widen_four(read_owned<Stage, kU>(lane, r), u);
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = two_parts(dt[i] * u[i]);
        ptx::store_16(lane.mine + 128 * r, make_float4(dt[0], dt[1], dt[2], dt[3]));
        ptx::store_16(lane.mine + (kToInput + 128 * r), make_uint4(w[0], w[2], w[1], w[3]));
    }
}

// ---------------------------------------------------------------- 16 tokens

// The same place, reached only when `decay` is known: it is no less than 0, so its sign adds nothing.
__device__ __forceinline__ ptx::Shared after(ptx::Shared at, float decay) {
    return at + static_cast<int>(__float_as_uint(decay) >> 31);
}

// dt of the four tokens of t = quarter.
__device__ __forceinline__ void read_dt(ptx::Shared from, int quarter, float (&dt)[kPer][4]) {
#pragma unroll
    for (int r = 0; r < kPer; ++r) {
        const float4 x = ptx::load_floats(from + (quarter * kNextT + 128 * r));
        dt[r][0] = x.x, dt[r][1] = x.y, dt[r][2] = x.z, dt[r][3] = x.w;
    }
}

// Their dt u as the products take it: two tokens in a column, of rows g or of rows g + 8.
__device__ __forceinline__ uint2 read_input(ptx::Shared from, int quarter) {
    return ptx::load_8(from + quarter * kNextT);
}

// B of 8 tokens from 8 half on.
template <int Stage>
__device__ __forceinline__ void read_b(ptx::Shared from, int half, uint4 (&b)[kColumns]) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
        b[n] = ptx::load_16(from + (Stage * kStageBytes + 8 * kHalves * n * kRowBytes + 16 * half));
}

template <int Stage>
__device__ __forceinline__ void read_c(const Lane& lane, float (&c)[kColumns][2][4]) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i)
            widen_four(ptx::load_8(lane.c + (Stage * kStageBytes + (8 * kHalves * n + i) * kRowBytes)), c[n][i]);
}

// The decays of token s of a quarter.
__device__ __forceinline__ void decays(float (&w)[kShare], const float (&a)[kShare],
                                       const float (&dt)[kPer][4], int s) {
#pragma unroll
    for (int i = 0; i < kShare; ++i) w[i] = exp2_approx(dt[kPer == 2 ? i % 4 / 2 : 0][s] * a[i]);
}

// The product (dt u) B^T of a token whose pairs of dt u and B are given.
__device__ __forceinline__ void product(const Lane& lane, float (&in)[4], u32 input, u32 pair, bool odd) {
    const u32 a0 = lane.t % 2 ? 0 : input, a1 = lane.t % 2 ? input : 0, which = odd ? lane.odd : lane.even;
    if (TYPE == TYPE_BF16) {
        ptx::mma_bf16_k8(in, a0, a1, __byte_perm(pair, 0, which));
    } else {  // 11 bits of B are two parts
        const float b = odd ? widen_high(pair) : widen_low(pair);
        const u32 high = __float_as_uint(b) & 0xffff0000u, low = __float_as_uint(b - __uint_as_float(high));
        ptx::mma_bf16_k8(in, a0, a1, __byte_perm(high, 0, which));
        ptx::mma_bf16_k8_add(in, a0, a1, __byte_perm(low, 0, which));
    }
}

__device__ __forceinline__ u32 pair_of(uint4 b, int pair) {
    return pair == 0 ? b.x : pair == 1 ? b.y : pair == 2 ? b.z : b.w;
}

// One token of the recurrence: w becomes the new state.
__device__ __forceinline__ void advance(const Lane& lane, const float (&h)[kShare], float (&w)[kShare],
                                        uint2 input, const uint4 (&b)[kColumns], int token) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
        float in[4];
        product(lane, in, token % 4 < 2 ? input.x : input.y, pair_of(b[n], token % 8 / 2), token % 2);
#pragma unroll
        for (int i = 0; i < 4; ++i) w[4 * n + i] = fmaf(w[4 * n + i], h[4 * n + i], in[i]);
    }
}

// Its output, into the lanes that own it.
__device__ __forceinline__ void contract(const Lane& lane, const float (&h)[kShare],
                                         const float (&c)[kColumns][2][4], int token,
                                         float (&y)[kPer][4]) {
    float out[4] = {};
    const int s = token % 4;
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
        // k = t is column 2 t, k = t + 4 column 2 t + 1.
        ptx::mma_tf32_k8(out, h[4 * n], h[4 * n + 2], h[4 * n + 1], h[4 * n + 3], c[n][0][s], c[n][1][s]);
    if (lane.t == token / 4) {
        if (kPer == 1) y[0][s] = out[0] + out[3];
        else y[0][s] = out[0], y[kPer - 1][s] = out[3];
    }
}

// ---------------------------------------------------------------- after: skip, gate, store

// silu(z) = z (1 + tanh(z / 2)) / 2: one special function instead of two.
__device__ __forceinline__ float gate(float z) {
    const float half = 0.5f * z;
    return fmaf(half, tanh_approx(half), half);
}

// Of a visit whose states are done: what its outputs still need.
struct Pending {
    float y[kPer][4];
    uint2 u[kPer], z[kPer];  // as loaded
};

template <int Stage>
__device__ __forceinline__ void keep(const Lane& lane, Pending& x) {
#pragma unroll
    for (int r = 0; r < kPer; ++r) {
        x.u[r] = read_owned<Stage, kU>(lane, r);
        if (GATED) x.z[r] = read_owned<Stage, kZ>(lane, r);
    }
}

__device__ __forceinline__ void finish(const Lane& lane, const Pending& x, uint2 (&out)[kPer]) {
#pragma unroll
    for (int r = 0; r < kPer; ++r) {
        const float skip = constant(lane, r, 1);
        float u[4], z[4], y[4];
        widen_four(x.u[r], u);
        if (GATED) widen_four(x.z[r], z);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            y[i] = fmaf(skip, u[i], x.y[r][i]);
            if (GATED) y[i] *= gate(z[i]);
        }
        out[r] = make_uint2(narrow_pair(y[0], y[1]), narrow_pair(y[2], y[3]));
    }
}

// `to`: token 4 t of channel g.
template <bool Aligned>
__device__ __forceinline__ void store(const Problem& p, const Lane& lane, Element* to,
                                      int left, const uint2 (&out)[kPer]) {
#pragma unroll
    for (int r = 0; r < kPer; ++r) {
        Element* row = to + 8 * r * static_cast<s64>(p.length);
        if (Aligned) {
            if (lane.first[r] < left) *reinterpret_cast<uint2*>(row) = out[r];
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (lane.first[r] + i < left)
                    row[i] = static_cast<Element>((i < 2 ? out[r].x : out[r].y) >> 16 * (i % 2));
        }
    }
}

// ---------------------------------------------------------------- states and their hand-over

// Register i of a lane: product i / 4, its row g + 8 (i % 4 / 2) and column 2 t + i % 2.
__device__ __forceinline__ int state_of(int t, int i) {
    return i / 4 * 8 * kHalves + (kHalves == 2 ? i % 4 / 2 * 8 : 0) + 2 * t + i % 2;
}

__device__ __forceinline__ int row_at(int g, int i) { return g + (kHalves == 2 ? 0 : i % 4 / 2 * 8); }

__device__ __forceinline__ int channel_of(const Place& at, int g, int i) {
    return at.channel + least(row_at(g, i), at.rows - 1);
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
        if (row_at(g, i) < at.rows)
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
// Every lane arrives for what it wrote, which costs nothing and spares the wait for the others.
__device__ __forceinline__ void give_state(WarpShared& to, const float (&h)[kShare]) {
    put(to.state, h);
    ptx::mbarrier_arrive(&to.handed);
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

// A scheduler favours some of its warps. Those would end early and leave the last ones alone, with nobody to
// hide their waits; so no warp of a block starts a lap of two visits before all have started the one before.
// (Of a visit more or less at the end, the last lap is the one that some do not start: nobody waits for it.)
__device__ __forceinline__ void start_lap(u64* laps, u32 lap) {
    if (!EVEN) return;
    if (lane_index() == 0) ptx::mbarrier_arrive(&laps[lap % 2]);
    if (lap > 0) ptx::mbarrier_wait(&laps[(lap - 1) % 2], (lap - 1) / 2 % 2);
}

// What a warp carries through its visits.
struct Walk {
    Source from;      // of the tile that is loaded next
    Element* to;      // token 4 t of channel g of this visit
    int left;         // tokens from this visit's first on
    u32 parity;
};

constexpr int kRound = kTurns * kVisit;  // tokens from a warp's visit to its next

// Short of registers, the offsets of the sequence's end wait in shared memory.
__device__ __forceinline__ void rest(const Lane& lane, Source from, int left) {
    move(from, left);
    ptx::store_16(lane.copied + kToRest, make_uint4(static_cast<u32>(from.own), static_cast<u32>(from.own >> 32),
                                                    static_cast<u32>(from.shared), static_cast<u32>(from.shared >> 32)));
}

__device__ __forceinline__ Source resting(const Lane& lane, int left) {
    const uint4 x = ptx::load_16(lane.copied + kToRest);
    Source from = {static_cast<size_t>(x.y) << 32 | x.x, static_cast<size_t>(x.w) << 32 | x.z};
    move(from, -left);
    return from;
}

template <bool Aligned>
__device__ __forceinline__ Walk start_of(const Problem& p, const Place& at, const Lane& lane, int start, int end) {
    const int first = start + at.turn * kVisit;
    Walk x = {source_of(p, at, first), p.out + row_of(p, at.batch, at.channel + lane.g) + first + kOwn * lane.t,
              end - first, 0};
    load<Aligned>(p, x.from, lane.copied, x.left);
    move(x.from, kRound);
    return x;
}

// Warps in turns: the next visit's state comes from the warp before.
template <bool Aligned, int Stage>
__device__ __forceinline__ void visit_in_turn(const Problem& p, const Place& at, const Lane& lane,
                                              WarpShared* all, Walk& x) {
    WarpShared& s = all[at.warp];
    __syncwarp();  // dt is there
    float w[kVisit][kShare], a[kShare], h[kShare];
    get(s.rates, a);
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        float dt[kPer][4];
        read_dt(lane.dt, q, dt);
#pragma unroll
        for (int i = 0; i < 4; ++i) decays(w[4 * q + i], a, dt, i);
    }
    uint2 input[4];
    uint4 b[2][kColumns];
    const auto read = [&](int half) {
        input[2 * half] = read_input(lane.input, 2 * half), input[2 * half + 1] = read_input(lane.input, 2 * half + 1);
        read_b<Stage>(lane.b, half, b[half]);
    };
    if (TYPE == TYPE_BF16) read(0);  // two parts of B would take more registers than there are
    take_state(s, x.parity, __float_as_uint(tied(w)) & static_cast<u32>(at.warp) >> 8, h);
    if (TYPE != TYPE_BF16) read(0);
    read(1);
#pragma unroll
    for (int i = 0; i < kVisit; ++i) advance(lane, i ? w[i - 1] : h, w[i], input[i / 4], b[i / 8], i);
    if (x.left > kVisit) give_state(all[next_warp(at)], w[kVisit - 1]);
    else put(s.state, w[kVisit - 1]);
    Pending done;
    float c[kColumns][2][4];
    read_c<Stage>(lane, c);
    keep<Stage>(lane, done);
    ptx::copy_async_wait_all();
    __syncwarp();  // everyone has left this stage and dt, which are filled next
    load<Aligned>(p, x.from, lane.copied + Stage * kStageBytes, x.left - 2 * kRound);
    move(x.from, kRound);
    // The next visit's dt beside this one's outputs: each fills the other's waits.
    prepare<Stage ^ 1>(lane, x.left - kRound);
#pragma unroll
    for (int i = 0; i < kVisit; ++i) contract(lane, w[i], c, i, done.y);
    uint2 out[kPer];
    finish(lane, done, out);
    store<Aligned>(p, lane, x.to, x.left, out);
    x.to += kRound, x.left -= kRound;
}

template <bool Aligned>
__device__ __forceinline__ void walk_in_turns(const Problem& p, const Place& at, const Lane& lane,
                                              WarpShared* all, int start, int end, float (&h)[kShare]) {
    Walk x = start_of<Aligned>(p, at, lane, start, end);
    ptx::copy_async_wait_all();
    __syncwarp();
    prepare<0>(lane, x.left);
    load<Aligned>(p, x.from, lane.copied + kStageBytes, x.left - kRound);
    move(x.from, kRound);
#pragma unroll 1
    for (u32 lap = 0; x.left > 0; ++lap) {
        start_lap(laps_of(all), lap);
        visit_in_turn<Aligned, 0>(p, at, lane, all, x);
        if (x.left <= 0) break;
        visit_in_turn<Aligned, 1>(p, at, lane, all, x);
    }
    get(all[at.warp].state, h);
}

// A warp alone.
template <bool Aligned, int Stage>
__device__ __forceinline__ void visit_alone(const Problem& p, const Place& at, const Lane& lane,
                                            const float (&a)[kShare], float (&h)[kShare], Walk& x) {
    ptx::copy_async_wait_all();
    __syncwarp();  // the tile is there; everyone has left the other stage, dt and dt u
    load<Aligned>(p, kShort ? resting(lane, x.left - kVisit) : x.from, lane.copied + (Stage ^ 1) * kStageBytes,
                  x.left - kVisit);
    if (!kShort) move(x.from, kVisit);
    prepare<Stage>(lane, x.left);
    __syncwarp();
    Pending done;
    float c[kColumns][2][4];
    uint4 b[kColumns];
    float gone = 0.f;  // a decay of the quarter before
    read_c<Stage>(lane, c);
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        float dt[kPer][4], w[kShare];
        // Short of registers, a quarter is read when the one before has begun, not ahead.
        if (!kShort) gone = 0.f;
        read_dt(after(lane.dt, gone), q, dt);
        const uint2 input = read_input(after(lane.input, gone), q);
        if (q % 2 == 0) read_b<Stage>(after(lane.b, gone), q / 2, b);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            decays(w, a, dt, i);
            if (i == 0) gone = w[0];
            advance(lane, h, w, input, b, 4 * q + i);
            contract(lane, w, c, 4 * q + i, done.y);
#pragma unroll
            for (int n = 0; n < kShare; ++n) h[n] = w[n];
        }
    }
    keep<Stage>(lane, done);
    uint2 out[kPer];
    finish(lane, done, out);
    store<Aligned>(p, lane, x.to, x.left, out);
    x.to += kVisit, x.left -= kVisit;
}

template <bool Aligned>
__device__ __forceinline__ void walk_alone(const Problem& p, const Place& at, const Lane& lane,
                                           WarpShared* all, int start, int end, const float (&a)[kShare], float (&h)[kShare]) {
    Walk x = start_of<Aligned>(p, at, lane, start, end);
    if (kShort) rest(lane, x.from, x.left - kRound);
#pragma unroll 1
    for (u32 lap = 0; x.left > 0; ++lap) {
        start_lap(laps_of(all), lap);
        visit_alone<Aligned, 0>(p, at, lane, a, h, x);
        if (x.left <= 0) break;
        visit_alone<Aligned, 1>(p, at, lane, a, h, x);
    }
}

template <bool Aligned>
__device__ __forceinline__ void walk(const Problem& p, const Place& at, const Lane& lane, WarpShared* all,
                                     int start, int end, const float (&a)[kShare], float (&h)[kShare]) {
    if constexpr (kAlone)
        walk_alone<Aligned>(p, at, lane, all, start, end, a, h);
    else
        walk_in_turns<Aligned>(p, at, lane, all, start, end, h);
}

// ---------------------------------------------------------------- the kernel

// Before sm_90 shared memory holds one block.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBlocks = 1;
#else
constexpr int kBlocks = kResident / kWarps;
#endif

// Grid (units of a group / kUnits * groups, segments, batch).
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    selective_scan(const __grid_constant__ Problem p) {
    const Place at = place_of(p);
    WarpShared* all = reinterpret_cast<WarpShared*>(shared_bytes);
    WarpShared& s = all[at.warp];
    const Lane lane = lane_of(s, at.rows);
    const int start = at.segment * p.segment_length;
    const int end = least(start + p.segment_length, p.length);

    if (kTurns > 1 && lane_index() == 0) ptx::mbarrier_init(&s.handed, kWarp);
    if (EVEN && threadIdx.x < 2) ptx::mbarrier_init(&laps_of(all)[threadIdx.x], at.busy);
    if (kTurns > 1 || EVEN) __syncthreads();
    if (at.rows <= 0) return;
    if (lane_index() < kRows) {
        const int channel = at.channel + least(lane_index(), at.rows - 1);
        s.constants[lane_index()] =
            make_float4(p.bias ? p.bias[channel] : 0.f, p.skip ? p.skip[channel] : 0.f, 0.f, 0.f);
    }
    float a[kShare], h[kShare];
#pragma unroll
    for (int i = 0; i < kShare; ++i)
        a[i] = p.a[channel_of(at, lane.g, i) * kStates + state_of(lane.t, i)] * kLog2e;
    if constexpr (!kAlone) put(s.rates, a);
    first_state(p, at, lane, h);
    if constexpr (kTurns > 1)
        if (at.turn == 0) give_state(s, h);

    walk<ALIGNED>(p, at, lane, all, start, end, a, h);
    if (kTurns == 1 || (ceil_div(end - start, kVisit) - 1) % kTurns == at.turn) last_state(p, at, h);
}
