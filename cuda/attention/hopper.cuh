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

#ifndef CONSUMERS
#define CONSUMERS (HEAD_DIM == 64 ? 3 : 2)
#endif
constexpr int kTileN = TILE_N;                       // keys per block
constexpr int kConsumers = CONSUMERS;   // warpgroups that multiply, 64 queries each
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

// In a quad, lane t hands lane i its x[i] and gets lane i's x[t]: a 4 x 4 transpose.
__device__ __forceinline__ void transpose_quad(u32 (&x)[4]) {
    const int t = lane_index() % 4;
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
        const bool upper = t & step;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & step) continue;
            const u32 given = __shfl_xor_sync(kFullMask, upper ? x[i] : x[i | step], step);
            if (upper) x[i] = given;
            else x[i | step] = given;
        }
    }
}

// A warpgroup's 64 x D outputs, straight from registers: of every 32 columns a lane has 2 in each
// of 4 groups of 8; after the transpose it has one group whole, a store of 16 bytes. Rows beyond
// the sequence's end are left out: the next sequence's queries may follow there. No staging, so
// that the next tile's queries can arrive while this one's outputs leave.
__device__ __forceinline__ void store_outputs(const Problem& p, const Work& work, int first_row,
                                              const float (&o)[kOutputs],
                                              const RowFactors& factor) {
    const int lane = opaque(lane_index());  // the addresses below, kept across tiles, would spill
    const int row = first_row + warp_index() % 4 * 16 + lane / 4;
    const size_t token = work.q_start + row;
    u16* out = p.out + (token * p.heads + work.head) * kHeadDim + lane % 4 * 8;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int j = 0; j < kHeadDim / 32; ++j) {
            u32 x[4];
#pragma unroll
            for (int i = 0; i < 4; ++i)
                x[i] = pack_pair(factor.of[half] * o[16 * j + 4 * i + 2 * half],
                                 factor.of[half] * o[16 * j + 4 * i + 2 * half + 1]);
            transpose_quad(x);
            if (row + 8 * half < work.q_len)
                *reinterpret_cast<uint4*>(out + half * 8 * p.heads * kHeadDim + 32 * j) =
                    make_uint4(x[0], x[1], x[2], x[3]);
        }
}

// The outputs of 64 queries, or of as many as there are, that see no key at all.
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
