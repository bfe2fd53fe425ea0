// The scan of rungs 2 and 3 and of the segment pass. `Lanes` neighbouring lanes share a channel, each
// with kStates / Lanes of its states; a warp works 32 / Lanes channels.
//
// Tokens are taken in groups of 32 bytes per channel (a sector: 16 tokens of 16 bits). Of a group,
// lane j owns tokens j * kOwn ... : it loads them, turns delta into dt once, and finishes and
// stores them. Between, every lane needs every dt and dt u (shuffles), and adds the y of its own
// states, which a transposing reduction then brings to the owners:
//
//     kGroup sums on each of Lanes lanes  ->  kOwn whole sums per lane, kGroup - kOwn shuffles
//
// B and C are the same for all channels of a group: a block turns a tile of both into fp32 in
// shared memory, tokens outermost, while it works on the tile before (two buffers).
#pragma once
#include "selective_scan/problem.cuh"

#ifndef LANES
#define LANES 1
#endif

constexpr int kThreads = 128;
constexpr int kLanes = LANES;
constexpr int kShare = kStates / kLanes;                // states of a lane
constexpr int kChannels = kThreads / kLanes;            // channels of a block
constexpr int kGroup = 32 / sizeof(Element);            // tokens of a sector
constexpr int kOwn = kGroup / kLanes;                   // tokens that a lane finishes
// Tokens of B and C in shared memory; a thread keeps 8 loads of the next tile at most.
constexpr int kTile = kStates * sizeof(Element) > 128 ? 32 : 64;
// A lane's B and C side by side; slices start in different banks for 8 lanes of a 16-byte read.
constexpr int kSlice = 2 * kShare + (kShare >= 4 ? 4 : 0);
constexpr int kRow = kLanes * kSlice;
constexpr int kVector = 16 / sizeof(Element);           // tokens of a 16-byte load
constexpr int kLoads = 2 * kStates * kTile / kVector;   // of a tile of B and C
constexpr int kLoadsPerThread = ceil_div(kLoads, kThreads);
constexpr int kSharedBytes = 2 * kTile * kRow * 4;

// Blocks per SM to leave registers for: left to itself the assembler aims higher and spills.
constexpr int kBlocks = kLanes == 1 || kStates > 16 ? 2 : 3;

static_assert(kStates % kLanes == 0 && kShare % 2 == 0, "a lane reads its states in pairs");
static_assert(kGroup % kLanes == 0, "every lane owns tokens");
static_assert(kTile % kGroup == 0, "groups do not straddle tiles");

extern __shared__ __align__(16) u8 shared_bytes[];

// Up to 16 bytes of one row, as loaded.
struct alignas(16) Raw {
    Element value[kVector];
};

// `Count` tokens of a row from `t` on; those from `end` on are zero. Whole 16-byte (or smaller,
// power of two) loads where the row allows: `aligned` says that rows start at multiples of 16 bytes.
template <int Count>
__device__ __forceinline__ void load_tokens(Element (&to)[Count], const Element* row, int t,
                                            int end, bool aligned) {
    constexpr int kBytes = Count * static_cast<int>(sizeof(Element));
    if (aligned && t + Count <= end) {
        if constexpr (kBytes % 16 == 0) {
#pragma unroll
            for (int i = 0; i < kBytes / 16; ++i)
                reinterpret_cast<uint4*>(to)[i] =
                    __ldg(reinterpret_cast<const uint4*>(row + t) + i);
        } else if constexpr (kBytes == 8) {
            *reinterpret_cast<uint2*>(to) = __ldg(reinterpret_cast<const uint2*>(row + t));
        } else if constexpr (kBytes == 4) {
            *reinterpret_cast<u32*>(to) = __ldg(reinterpret_cast<const u32*>(row + t));
        } else {
            to[0] = row[t];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < Count; ++i) to[i] = t + i < end ? row[t + i] : Element(0);
}

template <int Count>
__device__ __forceinline__ void store_tokens(const Element (&from)[Count], Element* row, int t,
                                             int end, bool aligned) {
    constexpr int kBytes = Count * static_cast<int>(sizeof(Element));
    if (aligned && t + Count <= end) {
        if constexpr (kBytes % 16 == 0) {
#pragma unroll
            for (int i = 0; i < kBytes / 16; ++i)
                reinterpret_cast<uint4*>(row + t)[i] = reinterpret_cast<const uint4*>(from)[i];
        } else if constexpr (kBytes == 8) {
            *reinterpret_cast<uint2*>(row + t) = *reinterpret_cast<const uint2*>(from);
        } else if constexpr (kBytes == 4) {
            *reinterpret_cast<u32*>(row + t) = *reinterpret_cast<const u32*>(from);
        } else {
            row[t] = from[0];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < Count; ++i)
        if (t + i < end) row[t + i] = from[i];
}

// ---------------------------------------------------------------- B and C through shared memory

// Load i of a tile: 16 bytes of row i % 2N (B's rows, then C's), neighbouring lanes in
// neighbouring rows, so that the transposing stores below meet 32 different banks.
struct TilePart {
    int row, token;
};

__device__ __forceinline__ TilePart tile_part(int i) {
    return {i % (2 * kStates), i / (2 * kStates) * kVector};
}

// Where state n of B (or C) lies in a row of shared memory.
__device__ __forceinline__ int slot(int row) {
    const int state = row % kStates;
    return state / kShare * kSlice + row / kStates * kShare + state % kShare;
}

__device__ __forceinline__ void load_tile(Raw (&parts)[kLoadsPerThread], const Problem& p, int batch,
                                          int group, int t, int end, bool aligned) {
#pragma unroll
    for (int k = 0; k < kLoadsPerThread; ++k) {
        const int i = k * kThreads + threadIdx.x;
        if (kLoads % kThreads && i >= kLoads) break;
        const TilePart part = tile_part(i);
        const Element* base = part.row < kStates ? p.b : p.c;
        load_tokens(parts[k].value, base + group_row(p, batch, group, part.row % kStates),
                    t + part.token, end, aligned);
    }
}

__device__ __forceinline__ void store_tile(float* tile, const Raw (&parts)[kLoadsPerThread]) {
#pragma unroll
    for (int k = 0; k < kLoadsPerThread; ++k) {
        const int i = k * kThreads + threadIdx.x;
        if (kLoads % kThreads && i >= kLoads) break;
        const TilePart part = tile_part(i);
        float* to = tile + part.token * kRow + slot(part.row);
#pragma unroll
        for (int t = 0; t < kVector; ++t) to[t * kRow] = widen(parts[k].value[t]);
    }
}

// ---------------------------------------------------------------- one group of tokens

// What a lane has loaded of the tokens it owns.
struct Owned {
    alignas(16) Element u[kOwn], delta[kOwn], z[kOwn];
};

struct Rows {
    const Element *u, *delta, *z;
    Element* out;
};

template <bool Outputs>
__device__ __forceinline__ void load_owned(Owned& x, const Rows& rows, int t, int end,
                                           bool aligned) {
    load_tokens(x.u, rows.u, t, end, aligned);
    load_tokens(x.delta, rows.delta, t, end, aligned);
    if (Outputs && rows.z) load_tokens(x.z, rows.z, t, end, aligned);
}

template <int State>
struct Advance {
    // States State .. kShare - 1 of one token. Four partial sums shorten the chain of additions.
    static __device__ __forceinline__ void run(float (&h)[kShare], const float (&a)[kShare],
                                               const float (&bc)[2 * kShare], float dt, float du,
                                               float (&y)[4]) {
        if constexpr (State < kShare) {
            const float w = exp2_approx(dt * a[State]);
            h[State] = fmaf(w, h[State], du * bc[State]);
            y[State % 4] = fmaf(bc[kShare + State], h[State], y[State % 4]);
            Advance<State + 1>::run(h, a, bc, dt, du, y);
        }
    }
};

template <int Token, bool Outputs>
struct Tokens {
    // Tokens Token .. kGroup - 1: every lane gets the owner's dt and dt u and works its states.
    static __device__ __forceinline__ void run(float (&h)[kShare], const float (&a)[kShare],
                                               const float (&dt)[kOwn], const float (&du)[kOwn],
                                               const float* tile, int leader,
                                               float (&sums)[kGroup]) {
        if constexpr (Token < kGroup) {
            const int from = leader + Token / kOwn;
            const float step = kLanes == 1 ? dt[Token % kOwn]
                                           : __shfl_sync(kFullMask, dt[Token % kOwn], from);
            const float input = kLanes == 1 ? du[Token % kOwn]
                                            : __shfl_sync(kFullMask, du[Token % kOwn], from);
            alignas(16) float bc[2 * kShare];
#pragma unroll
            for (int i = 0; i < 2 * kShare; i += 4)
                *reinterpret_cast<float4*>(bc + i) =
                    *reinterpret_cast<const float4*>(tile + Token * kRow + i);
            float y[4] = {};
            Advance<0>::run(h, a, bc, step, input, y);
            if (Outputs) sums[Token] = (y[0] + y[1]) + (y[2] + y[3]);
            Tokens<Token + 1, Outputs>::run(h, a, dt, du, tile, leader, sums);
        }
    }
};

// Adds the lanes' sums; afterwards sums[0 .. kOwn) are whole and those of this lane's tokens. Each
// step halves the tokens that a lane still carries and the lanes that still differ.
__device__ __forceinline__ void gather_sums(float (&sums)[kGroup], int slice) {
#pragma unroll
    for (int step = kLanes / 2, half = kGroup / 2; step > 0; step /= 2, half /= 2) {
        const bool upper = slice & step;
#pragma unroll
        for (int i = 0; i < half; ++i) {
            const float give = upper ? sums[i] : sums[i + half];
            const float keep = upper ? sums[i + half] : sums[i];
            sums[i] = keep + __shfl_xor_sync(kFullMask, give, step);
        }
    }
}

__device__ __forceinline__ void finish(const Owned& x, const float (&sums)[kGroup],
                                       const Rows& rows, float skip, int t, int end,
                                       bool aligned) {
    alignas(16) Element out[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
        float y = fmaf(skip, widen(x.u[i]), sums[i]);
        if (rows.z) y *= silu(widen(x.z[i]));
        narrow(y, out[i]);
    }
    store_tokens(out, rows.out, t, end, aligned);
}

// ---------------------------------------------------------------- a segment of the sequence

struct Place {
    int batch, segment, channel, slice, leader;
    bool valid;
};

__device__ __forceinline__ Place place_of(const Problem& p) {
    // Groups of channels are padded to whole blocks, so that a block reads one B and one C.
    const int per_group = p.channels / p.groups, blocks = ceil_div(per_group, kChannels);
    const int within = blockIdx.x % blocks * kChannels + static_cast<int>(threadIdx.x) / kLanes;
    const int lane = lane_index();
    return {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
            blockIdx.x / blocks * per_group + least(within, per_group - 1), lane % kLanes,
            lane - lane % kLanes, within < per_group};
}

// Walks the segment; h is its local state, the returned value the sum of dt over this lane's
// tokens. Channels beyond the last one repeat it and store nothing.
template <bool Outputs>
__device__ __forceinline__ float walk(const Problem& p, const Place& at, float (&h)[kShare]) {
    const int start = at.segment * p.segment_length;
    const int end = least(start + p.segment_length, p.length);
    const size_t row = row_of(p, at.batch, at.channel);
    const Rows rows = {p.u + row, p.delta + row, p.z ? p.z + row : nullptr, p.out + row};
    const float bias = p.bias ? p.bias[at.channel] : 0.f;
    const float skip = p.skip ? p.skip[at.channel] : 0.f;
    const bool aligned = p.length % kVector == 0;
    const int group = at.channel / (p.channels / p.groups);
    float a[kShare];
#pragma unroll
    for (int n = 0; n < kShare; ++n)
        a[n] = p.a[at.channel * kStates + at.slice * kShare + n] * kLog2e;

    float* tiles = reinterpret_cast<float*>(shared_bytes);
    Raw parts[kLoadsPerThread];
    load_tile(parts, p, at.batch, group, start, end, aligned);
    Owned next;
    const int own = at.slice * kOwn;
    load_owned<Outputs>(next, rows, start + own, end, aligned);
    float total = 0.f;
    int buffer = 0;
    for (int tile = start; tile < end; tile += kTile, buffer ^= 1) {
        float* here = tiles + buffer * kTile * kRow;
        store_tile(here, parts);
        __syncthreads();  // also: everyone has left the other buffer, which is filled next
        if (tile + kTile < end) load_tile(parts, p, at.batch, group, tile + kTile, end, aligned);
        const int tile_end = least(tile + kTile, end);
#pragma unroll 1
        for (int t = tile; t < tile_end; t += kGroup) {
            const Owned x = next;
            load_owned<Outputs>(next, rows, t + kGroup + own, end, aligned);
            float dt[kOwn], du[kOwn], sums[kGroup];
#pragma unroll
            for (int i = 0; i < kOwn; ++i) {
                // Beyond the end dt is 0: the state stays as it is.
                dt[i] = t + own + i < end ? step_size(p, widen(x.delta[i]), bias) : 0.f;
                du[i] = dt[i] * widen(x.u[i]);
                total += dt[i];
            }
            Tokens<0, Outputs>::run(h, a, dt, du, here + (t - tile) * kRow + at.slice * kSlice,
                                    at.leader, sums);
            if constexpr (Outputs) {
                gather_sums(sums, at.slice);
                if (at.valid) finish(x, sums, rows, skip, t + own, end, aligned);
            }
        }
    }
    return total;
}

// Rungs 2 and 3: grid (blocks of channels, segments, batch).
__device__ __forceinline__ void scan_segment(const Problem& p) {
    const Place at = place_of(p);
    float h[kShare];
    const size_t from =
        segment_row(p, at.batch, at.segment, at.channel) * kStates + at.slice * kShare;
#pragma unroll
    for (int n = 0; n < kShare; ++n) h[n] = p.first ? p.first[from + n] : 0.f;
    walk<true>(p, at, h);
    if (!p.last || !at.valid || at.segment != p.segments - 1) return;
    const size_t to = (static_cast<size_t>(at.batch) * p.channels + at.channel) * kStates +
                      at.slice * kShare;
#pragma unroll
    for (int n = 0; n < kShare; ++n) p.last[to + n] = h[n];
}
