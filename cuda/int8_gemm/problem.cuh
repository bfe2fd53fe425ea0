// What every rung shares: the problem as the host passes it, the order in which tiles are worked,
// and the dequantisation into one of four output types.
//
//     y[i, j] = row_scale[i] * col_scale[j] * sum_k a[i, k] b[j, k]  (+ bias[j])
//
// a [m, k] and b [n, k] are signed bytes with k innermost. Rows start at multiples of 16 bytes
// (`lda`, `ldb` in elements; the host pads where k is no multiple of 16), and so do the rows of
// the output. The sum is exact in 32 bits up to k = 131,071 even if every byte is -128.
#pragma once
#include "common/types.cuh"

struct Problem {
    const s8* a;
    const s8* b;
    void* out;
    const float* row_scale;
    const float* col_scale;
    const float* bias;  // null: none
    const int* outlier_count;  // LLM.int8() only: outlier columns found, on the device
    int m, n, k;
    int lda, ldb, ldo;
    int outlier_cap;  // columns that the compacted 16-bit operands can hold
};

// Output types; the host compiles one kernel per type with -DOUT=...
#define OUT_INT32 0
#define OUT_FP32 1
#define OUT_FP16 2
#define OUT_BF16 3
#ifndef OUT
#define OUT OUT_BF16
#endif

constexpr bool kRawSums = OUT == OUT_INT32;
constexpr int kOutBytes = OUT == OUT_FP16 || OUT == OUT_BF16 ? 2 : 4;

// 16-bit outputs: two neighbours in one register.
__device__ __forceinline__ u32 pack_out(float low, float high) {
    return OUT == OUT_FP16 ? pack_f16(low, high) : pack_bf16(low, high);
}

__device__ __forceinline__ float dequantise(s32 sum, float row_scale, float col_scale,
                                            float bias) {
    return fmaf(static_cast<float>(sum) * row_scale, col_scale, bias);
}

// values[col], values[col + 1] for an even col, zero from `count` on. `values` may be null.
__device__ __forceinline__ float2 load_pair(const float* values, int col, int count) {
    float2 pair = make_float2(0.f, 0.f);
    if (values == nullptr) return pair;
    if (col < count) pair.x = __ldg(values + col);
    if (col + 1 < count) pair.y = __ldg(values + col + 1);
    return pair;
}

// The same without a branch, so that the loads of many stores can be under way together; what lies
// beyond `count` repeats the last value, which nobody stores.
__device__ __forceinline__ float2 load_pair_clamped(const float* values, int col, int count) {
    if (values == nullptr) return make_float2(0.f, 0.f);
    return make_float2(__ldg(values + least(col, count - 1)),
                       __ldg(values + least(col + 1, count - 1)));
}

__device__ __forceinline__ float load_or_zero(const float* values, int index, int count) {
    return values != nullptr && index < count ? __ldg(values + index) : 0.f;
}

// Two neighbouring outputs of one row straight from registers to global memory. `col` is even, so
// a whole pair is one aligned store.
__device__ __forceinline__ void store_pair(const Problem& p, int row, int col, s32 sum0, s32 sum1,
                                           float row_scale) {
    const bool inside = row < p.m && col < p.n, both = col + 1 < p.n;
    const size_t at = static_cast<size_t>(row) * p.ldo + col;
    if constexpr (kRawSums) {
        s32* out = static_cast<s32*>(p.out) + at;
        if (inside && both) *reinterpret_cast<int2*>(out) = make_int2(sum0, sum1);
        else if (inside) *out = sum0;
        return;
    }
    const float2 scale = load_pair_clamped(p.col_scale, col, p.n);
    const float2 bias = load_pair_clamped(p.bias, col, p.n);
    const float y0 = dequantise(sum0, row_scale, scale.x, bias.x);
    const float y1 = dequantise(sum1, row_scale, scale.y, bias.y);
    if constexpr (kOutBytes == 4) {
        float* out = static_cast<float*>(p.out) + at;
        if (inside && both) *reinterpret_cast<float2*>(out) = make_float2(y0, y1);
        else if (inside) *out = y0;
    } else {
        u16* out = static_cast<u16*>(p.out) + at;
        const u32 packed = pack_out(y0, y1);
        if (inside && both) *reinterpret_cast<u32*>(out) = packed;
        else if (inside) *out = static_cast<u16>(packed);
    }
}

// Tiles are worked in bands of `band` tile rows, down a column of the band before the next column:
// the tiles in flight at one moment then cover a near-square patch of the output, whose rows of a
// and b are the fewest bytes to hold in L2.
struct TileIndex {
    int row, col;
};

__device__ __forceinline__ TileIndex tile_in_bands(int tile, int rows, int cols, int band) {
    const int first_row = tile / (band * cols) * band;
    const int height = least(band, rows - first_row);
    const int within = tile % (band * cols);
    return {first_row + within % height, within / height};
}
