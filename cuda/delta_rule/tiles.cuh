// Operands of tensor-core products from swizzled tiles, and accumulators as operands.
//
// A warp's 16 x N sums are x[4 j + i], i as in common/mma.cuh, for its columns 8 j .. 8 j + 7.
#pragma once
#include "common/async_copy.cuh"
#include "common/mma.cuh"
#include "common/special.cuh"
#include "delta_rule/problem.cuh"

constexpr int kPanels = kDk / kPanel;

// 64 tokens of keys or queries: panels of 64 columns.
struct KeyTile {
    u16 panel[kPanels][kChunk * kPanel];
};

// Operand a: rows row .. + 15, columns col .. + 15.
__device__ __forceinline__ void load_a(u32 (&a)[4], const u16* panel, int row, int col) {
    const int lane = lane_index();
    ptx::ldmatrix_x4(a, panel + swizzled(row + lane % 16, col + lane / 16 * 8));
}

// Operand b for 16 columns n .. n + 15 from a tile stored [k][n]: b[0..1] the first 8, b[2..3] the rest.
__device__ __forceinline__ void load_b(u32 (&b)[4], const u16* panel, int k, int n) {
    const int lane = lane_index();
    ptx::ldmatrix_x4_transposed(b, panel + swizzled(k + lane % 16, n + lane / 16 * 8));
}

// The same from a tile stored [n][k]: a product with the tile's transpose.
__device__ __forceinline__ void load_b_transposed(u32 (&b)[4], const u16* panel, int k, int n) {
    const int lane = lane_index();
    ptx::ldmatrix_x4(b, panel + swizzled(n + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8));
}

// Columns 8 j .. 8 j + 15 of x += a b.
template <int Count>
__device__ __forceinline__ void multiply(float (&x)[Count], int j, const u32 (&a)[4],
                                         const u32 (&b)[4]) {
    const u32 first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
    float left[4], right[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) left[i] = x[4 * j + i], right[i] = x[4 * j + 4 + i];
    ptx::mma_bf16(left, a, first);
    ptx::mma_bf16(right, a, second);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[4 * j + i] = left[i], x[4 * j + 4 + i] = right[i];
}

// Sums as the operand a of a product over their columns, 16 a step.
template <int Count>
__device__ __forceinline__ void pack_rows(u32 (&a)[Count / 8][4], const float (&x)[Count]) {
#pragma unroll
    for (int i = 0; i < Count / 8; ++i)
#pragma unroll
        for (int part = 0; part < 4; ++part)
            a[i][part] = pack_bf16(x[8 * i + 2 * part], x[8 * i + 2 * part + 1]);
}

// Rows of a [length, heads, width] array into a swizzled panel; rows from `rows` on become zero.
template <int Threads>
__device__ __forceinline__ void load_panel(u16* panel, const u16* from, size_t stride, int rows) {
    constexpr int kRows = Threads / 8;  // of a turn; its rows' numbers are the same modulo 8
    static_assert(kRows % 8 == 0, "a thread's units are mixed alike in all turns");
    const int thread = opaque(static_cast<int>(threadIdx.x) % Threads);
    const int first = thread / 8, unit = thread % 8 * 8;
    u16* to = panel + swizzled(first, unit);
    const u16* at = from + first * stride + unit;
#pragma unroll 1  // addresses kept for later would take registers that the state needs
    for (int row = first; row < kChunk; row += kRows, to += kRows * kPanel, at += kRows * stride)
        ptx::copy_async_16(to, row < rows ? at : from, row < rows);
}

template <int Threads>
__device__ __forceinline__ void load_keys(KeyTile& tile, const u16* keys, const Problem& p,
                                          int batch, int t, int head) {
    const u16* from = keys + token_row(batch, t, p.length, head, p.key_heads) * kDk;
#pragma unroll
    for (int i = 0; i < kPanels; ++i)
        load_panel<Threads>(tile.panel[i], from + i * kPanel,
                            static_cast<size_t>(p.key_heads) * kDk, p.length - t);
}
