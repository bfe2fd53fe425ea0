// Tiles of a chunk in shared memory and their products on the tensor cores (mma.sync, sm_80).
//
// Rows are padded by 16 bytes, so that the 8 rows of an ldmatrix meet 8 different bank groups.
#pragma once
#include "common/async_copy.cuh"
#include "gla/fragments.cuh"

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
// Blocks per SM that shared memory allows (an A100 has 164 KiB, an H200 228).
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBlocks = 1;
#else
constexpr int kBlocks = 2;
#endif
constexpr int kPad = 8;
constexpr int kPitchK = kDk + kPad;
constexpr int kPitchV = kDv + kPad;
constexpr int kPitchA = kChunk + kPad;

// Warps over the state: 16 rows each, and the columns in as many parts as warps are left.
constexpr int kStateRows = kDk / 16;
constexpr int kStateParts = kWarps / kStateRows;
constexpr int kStateCols = kDv / kStateParts;
// Warps over the output: a sub-chunk each, two halves of the columns, in passes that hold few sums
// in registers beside the state.
constexpr int kOutCols = kDv / 2;
constexpr int kPassCols = least(32, kOutCols);
constexpr int kPasses = kOutCols / kPassCols;
using OutTile = float[kPassCols / 8][4];

static_assert(kDk == 64 || kDk == 128, "16 rows of the state per warp");
static_assert(kDv == 64 || kDv == 128, "columns of a block");

// Rows of a [length, heads, Width] array, 16 bytes per thread and turn; missing rows are zero.
template <int Width>
__device__ __forceinline__ void load_rows(u16* tile, const u16* base, size_t stride, int rows) {
    constexpr int kUnits = Width / 8;
    // Opaque, or addresses are kept in registers that the state needs.
    const int thread = opaque(threadIdx.x);
#pragma unroll 1
    for (int i = 0; i < kChunk * kUnits / kThreads; ++i) {
        const int part = i * kThreads + thread, row = part / kUnits, unit = part % kUnits;
        const bool valid = row < rows;
        ptx::copy_async_16(tile + row * (Width + kPad) + unit * 8,
                           base + (valid ? row * stride + unit * 8 : 0), valid);
    }
}

// Operand a: rows row .. row + 15, columns col .. col + 15 of a row-major tile.
__device__ __forceinline__ void load_a(u32 (&a)[4], const u16* tile, int pitch, int row, int col) {
    const int lane = lane_index();
    ptx::ldmatrix_x4(a, tile + (row + lane % 16) * pitch + col + lane / 16 * 8);
}

// Operand a = tile^T: rows of a are columns row .. row + 15 of the tile, k its rows k .. k + 15.
__device__ __forceinline__ void load_a_transposed(u32 (&a)[4], const u16* tile, int pitch, int row,
                                                  int k) {
    const int lane = lane_index(), matrix = lane / 8;
    ptx::ldmatrix_x4_transposed(
        a, tile + (k + matrix / 2 * 8 + lane % 8) * pitch + row + matrix % 2 * 8);
}

// Operand b for 16 columns n .. n + 15 from a tile stored [k][n]: b[0..1] the first 8, b[2..3] the rest.
__device__ __forceinline__ void load_b(u32 (&b)[4], const u16* tile, int pitch, int k, int n) {
    const int lane = lane_index();
    ptx::ldmatrix_x4_transposed(b, tile + (k + lane % 16) * pitch + n + lane / 16 * 8);
}

// Operand b for 16 columns from a tile stored [n][k]: a product with the tile's transpose.
__device__ __forceinline__ void load_b_transposed(u32 (&b)[4], const u16* tile, int pitch, int k,
                                                  int n) {
    const int lane = lane_index();
    ptx::ldmatrix_x4(b, tile + (n + lane / 16 * 8 + lane % 8) * pitch + k + lane / 8 % 2 * 8);
}

// The part of the state that a warp holds: rows row + g (+ 8), columns col + 8 j + 2 t (+ 1).
struct StatePlace {
    int row, col;
};

__device__ __forceinline__ StatePlace state_place() {
    const int warp = warp_index();
    return {warp % kStateRows * 16, warp / kStateRows * kStateCols};
}

using StateTile = float[kStateCols / 8][4];

// The fp32 state as bf16, for the products that read it.
__device__ __forceinline__ void publish_state(u16* tile, const StateTile& s, StatePlace at) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int j = 0; j < kStateCols / 8; ++j) {
        u16* to = tile + (at.row + g) * kPitchV + at.col + 8 * j + 2 * t;
        *reinterpret_cast<u32*>(to) = pack_bf16(s[j][0], s[j][1]);
        *reinterpret_cast<u32*>(to + 8 * kPitchV) = pack_bf16(s[j][2], s[j][3]);
    }
}

// `rows` is the state's first row of dv columns, `col` the block's first column.
__device__ __forceinline__ void read_state(StateTile& s, const float* rows, int dv, int col,
                                           StatePlace at) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int j = 0; j < kStateCols / 8; ++j) {
        const float* from =
            rows ? rows + static_cast<size_t>(at.row + g) * dv + col + at.col + 8 * j + 2 * t
                 : nullptr;
        const float2 zero = make_float2(0.f, 0.f);
        const float2 top = from ? *reinterpret_cast<const float2*>(from) : zero;
        const float2 low = from ? *reinterpret_cast<const float2*>(from + 8 * dv) : zero;
        s[j][0] = top.x, s[j][1] = top.y, s[j][2] = low.x, s[j][3] = low.y;
    }
}

__device__ __forceinline__ void write_state(const StateTile& s, float* rows, int dv, int col,
                                            StatePlace at) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int j = 0; j < kStateCols / 8; ++j) {
        float* to = rows + static_cast<size_t>(at.row + g) * dv + col + at.col + 8 * j + 2 * t;
        *reinterpret_cast<float2*>(to) = make_float2(s[j][0], s[j][1]);
        *reinterpret_cast<float2*>(to + 8 * dv) = make_float2(s[j][2], s[j][3]);
    }
}

// First column (of the block) that a warp works in a pass.
__device__ __forceinline__ int pass_col(int pass) {
    return warp_index() % 2 * kOutCols + pass * kPassCols;
}

// A warp's outputs: rows g (+ 8) of its sub-chunk, columns col + 8 j + 2 t. `base` is the chunk's
// first row at the block's first column.
__device__ __forceinline__ void store_outputs(u16* base, size_t stride, int rows, int col,
                                              const OutTile& o) {
    const int g = lane_index() / 4, t = lane_index() % 4, row = warp_index() / 2 * kSub;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = row + g + 8 * half;
        if (r >= rows) continue;
#pragma unroll
        for (int j = 0; j < kPassCols / 8; ++j)
            *reinterpret_cast<u32*>(base + r * stride + col + 8 * j + 2 * t) =
                pack_bf16(o[j][2 * half], o[j][2 * half + 1]);
    }
}

// o += q_tile[row .. row + 15][0 .. dk) state[0 .. dk)[col ..].
__device__ __forceinline__ void add_state_product(OutTile& o, const u16* q_tile, int row,
                                                  const u16* state, int col) {
#pragma unroll 1
    for (int d = 0; d < kDk; d += 16) {
        u32 q[4];
        load_a(q, q_tile, kPitchK, row, d);
#pragma unroll
        for (int j = 0; j < kPassCols / 16; ++j) {
            u32 w[4];
            load_b(w, state, kPitchV, d, col + 16 * j);
            multiply(o[2 * j], o[2 * j + 1], q, w);
        }
    }
}

// o += a_tile[row .. row + 15][0 .. 16 count) v[0 .. 16 count)[col ..]: count k-steps.
__device__ __forceinline__ void add_product(OutTile& o, const u16* a_tile, int row, const u16* v,
                                            int col, int count) {
#pragma unroll 1
    for (int b = 0; b < count; ++b) {
        u32 a[4];
        load_a(a, a_tile, kPitchA, row, b * 16);
#pragma unroll
        for (int j = 0; j < kPassCols / 16; ++j) {
            u32 w[4];
            load_b(w, v, kPitchV, b * 16, col + 16 * j);
            multiply(o[2 * j], o[2 * j + 1], a, w);
        }
    }
}
