// The chunked form on Hopper: tiles by TMA, products by wgmma, one role per warpgroup. What the
// scalar (05) and the vector gate (06) share.
//
// The state is kept transposed, S^T [dv x dk], in the registers of warpgroups that own 64 columns of
// dv each, from the first chunk to the last. Then both of its uses take it, or v, as the operand
// that wgmma reads from registers, and no state ever goes through shared memory:
//
//     O^T = S^T Q^T + V^T A^T      [64 of dv x 64 tokens]    S^T rounded to bf16 where it lies; V^T by
//     S^T = diag S^T + V^T K       [64 of dv x dk]           ldmatrix, transposed on the way
//
// Q, K and A lie in shared memory as they came: rows of tokens. A state warpgroup waits for nothing
// but its own products and barriers that others have long passed: the scores A of a chunk are made
// one or two chunks ahead by a warpgroup that needs no state.
//
// A tile of 64 tokens and D columns is D / 64 panels of 64 rows of 128 bytes, as one TMA load with a
// 128-byte swizzle writes it from a map of (batch, panels, tokens, 64).
#pragma once
#include "common/barrier.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "gla/fragments.cuh"

constexpr int kPanelCols = 64;
constexpr int kKeyPanels = kDk / kPanelCols;
constexpr int kStateGroups = kDv / kPanelCols;  // warpgroups that hold the state
constexpr int kStateRegisters = kDk / 2;        // of S^T, 64 rows and dk columns a warpgroup

struct Panel {
    u16 at[kChunk * kPanelCols];
};
struct KeyTile {
    Panel panel[kKeyPanels];
};
struct ValueTile {
    Panel panel[kStateGroups];
};

extern __shared__ __align__(1024) u8 shared_bytes[];

using State = float[kStateRegisters];
using Output = float[kChunk / 2];  // of O^T: 64 rows of dv, 64 tokens

struct Place {
    int batch, head, segment, col;
};

// A segment's tokens. Outputs need its chunks from the first on; its own state is summed from the last
// on: then what the blocks of this pass read last is what those of the next read first, from L2.
struct Range {
    int start, end;

    __device__ __forceinline__ int chunks() const { return ceil_div(end - start, kChunk); }

    template <bool Forward>
    __device__ __forceinline__ int token(int n) const {
        return start + (Forward ? n : chunks() - 1 - n) * kChunk;
    }
};

__device__ __forceinline__ Range segment_of(const Problem& p, const Place& at) {
    const int start = at.segment * p.segment_length;
    return {start, least(start + p.segment_length, p.length)};
}

// A panel's element: 16-byte units of a row are mixed with the row's number.
__device__ __forceinline__ u16* element(Panel& p, int row, int col) {
    return p.at + row * kPanelCols + (((col / 8) ^ (row % 8)) * 8 + col % 8);
}

// For what the tensor cores and the copy engine read or write. Where lanes read or write themselves, each
// arrives for itself, kWarp arrivals a warp: racecheck follows a thread's own arrivals, but not those
// of a lane for the others that it has met before.
__device__ __forceinline__ void arrive_warp(u64* barrier) {
    __syncwarp();
    if (lane_index() == 0) ptx::mbarrier_arrive(barrier);
}

// Lane i's row of a 16 x 16 block for ldmatrix and stmatrix with transposition: tokens along the
// rows of the tile, dv along its columns, and the other way round in registers. `token` is a multiple of
// 8, `col` of 16: so the lane's part is the same for all tokens, and tokens are constants of addresses.
__device__ __forceinline__ u16* transposed_row(Panel& p, int token, u32 col) {
    const u32 lane = threadIdx.x % kWarp, row = lane / 16 * 8 + lane % 8;
    const u32 unit = (col / 8 + lane / 8 % 2) ^ lane % 8;
    return p.at + row * kPanelCols + unit * 8 + token * kPanelCols;
}

// First of a warp's 16 rows of its warpgroup's 64; not from a shuffle, which a loop would do again.
__device__ __forceinline__ u32 own_row() { return threadIdx.x / kWarp % 4 * 16; }

// This warp's 16 rows of V^T over all tokens, as operand a.
__device__ __forceinline__ void load_values(u32 (&v)[4][4], Panel& values) {
#pragma unroll
    for (int step = 0; step < 4; ++step)
        ptx::ldmatrix_x4_transposed(v[step], transposed_row(values, 16 * step, own_row()));
}

__device__ __forceinline__ void pack_state(u32 (&a)[kDk / 16][4], const State& s) {
#pragma unroll
    for (int step = 0; step < kDk / 16; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i)
            a[step][i] = pack_bf16(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
}

// O^T = S^T Q^T, issued and committed.
__device__ __forceinline__ void issue_carried(Output& o, const u32 (&state)[kDk / 16][4],
                                              const KeyTile& q) {
    const u64 b = ptx::k_major_128(&q);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDk / 16; ++step)
        ptx::wgmma_bf16(o, state[step],
                        b + step / 4 * (sizeof(Panel) >> 4) + step % 4 * ptx::kDescriptorStepK,
                        step > 0);
    ptx::wgmma_commit();
}

// O^T += V^T A^T, issued and committed; A [i][j] is K-major.
__device__ __forceinline__ void issue_scored(Output& o, const u32 (&v)[4][4], const Panel& a) {
    const u64 b = ptx::k_major_128(&a);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step)
        ptx::wgmma_bf16(o, v[step], b + step * ptx::kDescriptorStepK, 1);
    ptx::wgmma_commit();
}

// S^T += V^T K, issued and committed. K has dk contiguous (MN-major): groups of 64 columns are a
// panel apart, groups of 8 tokens 1024 bytes, a step of 16 tokens 2048.
__device__ __forceinline__ void issue_update(State& s, const u32 (&v)[4][4], const KeyTile& k) {
    const u64 b = ptx::matrix_descriptor(&k, sizeof(Panel), 1024, ptx::Swizzle::k128);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step)
        ptx::wgmma_bf16<1>(s, v[step], b + step * (2048 >> 4), 1);
    ptx::wgmma_commit();
}

// This warpgroup's part of a state [dk, dv] in memory; `at` is its first row and column.
template <bool Write>
__device__ __forceinline__ void move_state(State& s, float* at, int dv) {
    const int row = warp_index() % 4 * 16 + lane_index() / 4;
    float* base = at + row + static_cast<size_t>(lane_index() % 4 * 2) * dv;
#pragma unroll
    for (int j = 0; j < kDk / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float* x = base + static_cast<size_t>(8 * j + i % 2) * dv + i / 2 * 8;
            if (Write) *x = s[4 * j + i];
            else s[4 * j + i] = *x;
        }
}

// The state at the start of a segment: the initial one, then past each earlier segment, whose own
// state from zero is in `local` (its first; segments follow each other): S = decay S + local.
// `decay(segment, j)` is that of columns 8 j + 2 t, + 1.
template <typename Decay>
__device__ __forceinline__ void start_state(State& s, const Problem& p, const Place& at,
                                            float* local, int col, int head, Decay decay) {
    if (p.first) {
        const size_t row = state_row(p, at.batch, head, 0, 1);
        move_state<false>(s, const_cast<float*>(p.first) + row * p.dv + col, p.dv);
    }
#pragma unroll 1
    for (int segment = 0; segment < at.segment; ++segment) {
        State x;
        move_state<false>(x, local + static_cast<size_t>(segment) * kDk * p.dv, p.dv);
#pragma unroll
        for (int j = 0; j < kDk / 8; ++j) {
            const float2 f = decay(segment, j);
#pragma unroll
            for (int i = 0; i < 4; ++i)
                s[4 * j + i] = fmaf(i % 2 ? f.y : f.x, s[4 * j + i], x[4 * j + i]);
        }
    }
}

// A segment's own state, or the last one's as the sequence's.
template <bool Outputs>
__device__ __forceinline__ void finish_state(State& s, const Problem& p, const Place& at,
                                             float* local, int col, int head) {
    const size_t row = state_row(p, at.batch, head, 0, 1);
    if (!Outputs)
        move_state<true>(s, local + static_cast<size_t>(at.segment) * kDk * p.dv, p.dv);
    else if (p.last && at.segment == p.segments - 1)
        move_state<true>(s, p.last + row * p.dv + col, p.dv);
}

// O^T of the segment's chunk n into a staging panel as [token][column], and from there by TMA, which
// leaves out tokens beyond the sequence's end. One thread of the warpgroup issues the copies. Two
// panels: when all have met over chunk n, the copy of chunk n - 1 has been read, and its panel is
// free for chunk n + 1.
__device__ __forceinline__ void store_outputs(const Output& o, Panel (&staged)[2], int n,
                                              const TensorMap* map, int group, int token, int panel,
                                              int batch) {
    const bool issuer = threadIdx.x % kWarpgroup == 0;
    Panel& to = staged[n % 2];
#pragma unroll
    for (int c = 0; c < 4; ++c)
        ptx::stmatrix_x4_transposed(transposed_row(to, 16 * c, own_row()),
                                    pack_bf16(o[8 * c], o[8 * c + 1]),
                                    pack_bf16(o[8 * c + 2], o[8 * c + 3]),
                                    pack_bf16(o[8 * c + 4], o[8 * c + 5]),
                                    pack_bf16(o[8 * c + 6], o[8 * c + 7]));
    ptx::fence_async_shared();
    if (issuer) ptx::bulk_wait_read<0>();
    ptx::named_barrier_sync(1 + group, kWarpgroup);
    if (issuer) {
        ptx::tma_store_4d(map, &to, 0, token, panel, batch);
        ptx::bulk_commit();
    }
}
