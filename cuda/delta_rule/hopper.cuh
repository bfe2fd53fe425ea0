// The walk on Hopper: tiles by TMA, products by wgmma with the left operand in registers.
//
// A warpgroup has 64 columns of dv: 64 rows of S^T, 16 a warp, as walk.cuh has them. Tiles lie in shared
// memory as TMA's 128-byte swizzle writes them, T and A already so in global memory.
#pragma once
#include "common/barrier.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "delta_rule/walk.cuh"

struct Panel {
    u16 at[kChunk * kPanel];
};

constexpr int kKeyBytes = kChunk * kDk * 2;
constexpr int kStageBytes = 2 * kKeyBytes + static_cast<int>(sizeof(Panel) + sizeof(Prepared));

// What a chunk needs.
struct alignas(1024) Stage {
    KeyTile k, q;
    Panel v;
    Prepared made;
};

struct Maps {
    const TensorMap *q, *k, *v, *out;
};

struct Place {
    int batch, head, col;
};

// x (+)= state tile^T over key dimensions 16 First .. 16 Last - 1: X from K, outputs from Q.
template <int First, int Last>
__device__ __forceinline__ void issue_read(float (&x)[kTokenSums], const u32 (&state)[kDk / 16][4],
                                           const KeyTile& tile) {
    const u64 b = ptx::k_major_128(&tile);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = First; step < Last; ++step)
        ptx::wgmma_bf16(x, state[step],
                        b + step / 4 * (sizeof(Panel) >> 4) + step % 4 * ptx::kDescriptorStepK,
                        step > 0);
    ptx::wgmma_commit();
}

// x (+)= a tile^T over tokens: T or A, [i][j], K-major.
__device__ __forceinline__ void issue_mix(float (&x)[kTokenSums], const u32 (&a)[kTokenSteps][4],
                                          const u16* tile, int accumulate) {
    const u64 b = ptx::k_major_128(tile);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTokenSteps; ++step)
        ptx::wgmma_bf16(x, a[step], b + step * ptx::kDescriptorStepK, step > 0 ? 1 : accumulate);
    ptx::wgmma_commit();
}

// S^T += a K. K has dk contiguous (MN-major): groups of 64 columns are a panel apart, groups of 8
// tokens 1024 bytes, a step of 16 tokens 2048.
__device__ __forceinline__ void issue_update(float (&s)[kStateSums], const u32 (&a)[kTokenSteps][4],
                                             const KeyTile& k) {
    const u64 b = ptx::matrix_descriptor(&k, sizeof(Panel), 1024, ptx::Swizzle::k128);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTokenSteps; ++step)
        ptx::wgmma_bf16<1>(s, a[step], b + step * (2048 >> 4), 1);
    ptx::wgmma_commit();
}

// Lane's row of a 16 x 16 block for ldmatrix and stmatrix with transposition: tokens along the rows
// of the panel, dv along its columns, and the other way round in registers.
__device__ __forceinline__ int transposed_row(int token, int col) {
    const int lane = lane_index();
    return swizzled(token + lane / 16 * 8 + lane % 8, col + lane / 8 % 2 * 8);
}

// This warp's 16 rows of V^T over all tokens, as operand a.
__device__ __forceinline__ void load_values(u32 (&v)[kTokenSteps][4], const Panel& values) {
    const int row = warp_index() % 4 * 16;
#pragma unroll
    for (int step = 0; step < kTokenSteps; ++step)
        ptx::ldmatrix_x4_transposed(v[step], values.at + transposed_row(16 * step, row));
}

// O^T into a panel as [token][column], and from there by TMA, which leaves out tokens beyond the
// sequence's end. Two panels take turns: when all have passed the barrier of one, the copy of the
// other, a chunk old, has been read.
__device__ __forceinline__ void store_outputs(const float (&o)[kTokenSums], Panel& panel,
                                              const TensorMap* map, int token, int column,
                                              int batch) {
    const int row = warp_index() % 4 * 16;
#pragma unroll
    for (int c = 0; c < kTokenSteps; ++c)
        ptx::stmatrix_x4_transposed(panel.at + transposed_row(16 * c, row),
                                    pack_bf16(o[8 * c], o[8 * c + 1]),
                                    pack_bf16(o[8 * c + 2], o[8 * c + 3]),
                                    pack_bf16(o[8 * c + 4], o[8 * c + 5]),
                                    pack_bf16(o[8 * c + 6], o[8 * c + 7]));
    ptx::fence_async_shared();
    const bool issuer = threadIdx.x % kWarpgroup == 0;
    if (issuer) ptx::bulk_wait_read<0>();
    ptx::named_barrier_sync(1, kWarpgroup);
    if (issuer) {
        ptx::tma_store_4d(map, &panel, 0, token, column, batch);
        ptx::bulk_commit();
    }
}
