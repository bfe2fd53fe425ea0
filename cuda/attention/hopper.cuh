// What the Hopper rungs share: tile shapes, tiles in shared memory, products by wgmma, stores.
//
// A tile of R rows (tokens) and D columns lies in shared memory as D / 64 panels of R rows of 128
// bytes, as one TMA load with a 128-byte swizzle writes it from a map of (panels, heads, tokens,
// 64). Panels start at multiples of 1024 bytes because R is a multiple of 8.
#pragma once
#include "attention/problem.cuh"
#include "attention/rows.cuh"
#include "common/barrier.cuh"
#include "common/mma.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"

#ifndef TILE_N
#define TILE_N (HEAD_DIM == 256 ? 80 : 128)
#endif

constexpr int kTileN = TILE_N;                       // keys per block
constexpr int kConsumers = kHeadDim == 64 ? 3 : 2;   // warpgroups that multiply, 64 queries each
constexpr int kTileM = 64 * kConsumers;
constexpr int kPanels = kHeadDim / 64;
constexpr int kPanelCols = 64;
constexpr int kScores = kTileN / 2;    // fp32 registers per thread that hold 64 x kTileN
constexpr int kOutputs = kHeadDim / 2;
constexpr int kTileBytes = kTileN * kHeadDim * 2;
constexpr int kQueryBytes = 64 * kHeadDim * 2;
static_assert(kTileN % 16 == 0 && kTileN <= 256, "a block of keys is a whole number of k-steps");

struct QueryTile {
    u16 panel[kPanels][64 * kPanelCols];
};

struct KeyTile {
    u16 panel[kPanels][kTileN * kPanelCols];
};

extern __shared__ __align__(1024) u8 shared_bytes[];

__device__ __forceinline__ void load_tile(void* tile, const TensorMap* map, u64* full, u32 bytes,
                                          int token, int head) {
    ptx::mbarrier_arrive_expect(full, bytes);
    ptx::tma_load_4d(tile, map, full, 0, token, head, 0);
}

// s = q k^T, issued and committed; 64 x kTileN over D in steps of 16. Both operands are K-major.
__device__ __forceinline__ void issue_scores(float (&s)[kScores], const QueryTile& q,
                                             const KeyTile& k) {
    const u64 a = ptx::k_major_128(&q), b = ptx::k_major_128(&k);
    ptx::wgmma_fence();
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel)
#pragma unroll
        for (int step = 0; step < 4; ++step) {
            const u64 da = a + panel * (sizeof(q.panel[0]) >> 4) + step * ptx::kDescriptorStepK;
            const u64 db = b + panel * (sizeof(k.panel[0]) >> 4) + step * ptx::kDescriptorStepK;
            if constexpr (FP16) ptx::wgmma_f16(s, da, db, panel + step > 0);
            else ptx::wgmma_bf16(s, da, db, panel + step > 0);
        }
    ptx::wgmma_commit();
}

// o (+)= p v, issued and committed; the weights p come from registers, 16 keys a step. v has its
// columns contiguous (MN-major): groups of 64 columns are a panel apart (the leading offset),
// groups of 8 keys 1024 bytes (the stride offset), a step of 16 keys 2048.
__device__ __forceinline__ void issue_values(float (&o)[kOutputs], const u32 (&p)[kTileN / 16][4],
                                             const KeyTile& v, int accumulate) {
    const u64 b = ptx::matrix_descriptor(&v, sizeof(v.panel[0]), 1024, ptx::Swizzle::k128);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileN / 16; ++step) {
        const u64 db = b + step * (2048 >> 4);
        if constexpr (FP16) ptx::wgmma_f16<1>(o, p[step], db, step > 0 ? 1 : accumulate);
        else ptx::wgmma_bf16<1>(o, p[step], db, step > 0 ? 1 : accumulate);
    }
    ptx::wgmma_commit();
}

// Byte address of 16-byte unit `unit` of `row` in a panel with the 128-byte swizzle.
__device__ __forceinline__ u8* swizzled(u16* panel, int row, int unit) {
    return reinterpret_cast<u8*>(panel) + row * 128 + ((unit ^ (row % 8)) << 4);
}

// A warpgroup's 64 x D outputs: registers -> `staging` (its own query tile, read by now) -> rows of
// 16-byte stores, of which those beyond the sequence's end are left out: the next sequence's
// queries may follow there. Each warp stages and stores its own 16 rows.
__device__ __forceinline__ void store_outputs(const Problem& p, const Work& work,
                                              int first_row, QueryTile& staging,
                                              const float (&o)[kOutputs]) {
    const int lane = opaque(lane_index());  // the addresses below, kept across tiles, would spill
    const int warp_row = warp_index() % 4 * 16;
#pragma unroll
    for (int j = 0; j < kOutputs / 4; j += 2) {
        const int column = 8 * (j + lane / 16);
        ptx::stmatrix_x4(
            swizzled(staging.panel[column / kPanelCols], warp_row + lane % 16,
                     column % kPanelCols / 8),
            pack_pair(o[4 * j], o[4 * j + 1]), pack_pair(o[4 * j + 2], o[4 * j + 3]),
            pack_pair(o[4 * j + 4], o[4 * j + 5]), pack_pair(o[4 * j + 6], o[4 * j + 7]));
    }
    __syncwarp();
    constexpr int kUnits = kHeadDim / 8;      // of 16 bytes per row
    constexpr int kUnitsAtOnce = least(kUnits, kWarp);
    constexpr int kRowsAtOnce = kWarp / kUnitsAtOnce;
    const int unit = lane % kUnitsAtOnce;
#pragma unroll
    for (int i = 0; i < 16; i += kRowsAtOnce) {
        const int row = warp_row + i + lane / kUnitsAtOnce;
        const uint4 value =
            *reinterpret_cast<uint4*>(swizzled(staging.panel[unit / 8], row, unit % 8));
        if (first_row + row < work.q_len) {
            const size_t token = work.q_start + first_row + row;
            *reinterpret_cast<uint4*>(p.out + (token * p.heads + work.head) * kHeadDim +
                                      unit * 8) = value;
        }
    }
}

// The outputs of a tile whose queries see no key at all.
__device__ __forceinline__ void store_nothing_seen(const Problem& p, const Work& work,
                                                   int first_row, int thread) {
    constexpr int kUnits = kHeadDim / 8;
    for (int i = thread; i < 64 * kUnits; i += kWarpgroup) {
        const int row = first_row + i / kUnits;
        if (row >= work.q_len) return;
        const size_t token = work.q_start + row;
        *reinterpret_cast<uint4*>(p.out + (token * p.heads + work.head) * kHeadDim +
                                  i % kUnits * 8) = make_uint4(0, 0, 0, 0);
        if (i % kUnits == 0 && p.lse != nullptr)
            p.lse[static_cast<size_t>(work.head) * p.tokens + token] = minus_infinity();
    }
}
