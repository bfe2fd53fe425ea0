// Stands in for cuda/common/mma.cuh: fragment layouts as the PTX ISA gives them (9.7.14).
#pragma once
#include "common/types.cuh"

namespace ptx {

template <int Matrices>
void ldmatrix(u32 (&r)[Matrices], const void* row, bool transposed) {
    if (reinterpret_cast<std::uintptr_t>(row) % 16) {
        fprintf(stderr, "misaligned ldmatrix\n");
        abort();
    }
    const std::uint64_t word = reinterpret_cast<std::uint64_t>(row);
    auto& all = simt::exchange(&word, 1);
    const int lane = simt::lane();
    for (int m = 0; m < Matrices; ++m) {
        u16 pair[2];
        for (int i = 0; i < 2; ++i) {
            const int at_row = transposed ? lane % 4 * 2 + i : lane / 4;
            const int at_col = transposed ? lane / 4 : lane % 4 * 2 + i;
            pair[i] = reinterpret_cast<const u16*>(all[8 * m + at_row][0])[at_col];
        }
        r[m] = static_cast<u32>(pair[1]) << 16 | pair[0];
    }
    __syncwarp();  // nobody overwrites what another lane still reads
}
inline void ldmatrix_x4(u32 (&r)[4], const void* row) { ldmatrix(r, row, false); }
inline void ldmatrix_x2(u32 (&r)[2], const void* row) { ldmatrix(r, row, false); }
inline void ldmatrix_x4_transposed(u32 (&r)[4], const void* row) { ldmatrix(r, row, true); }
inline void ldmatrix_x2_transposed(u32 (&r)[2], const void* row) { ldmatrix(r, row, true); }

template <typename Widen>
void mma_16x8x16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], Widen widen) {
    const std::uint64_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    auto& all = simt::exchange(words, 6);
    const int g = simt::lane() / 4, t = simt::lane() % 4;
    const auto half = [&](std::uint64_t word, int i) {
        return widen(static_cast<u16>(static_cast<u32>(word) >> (16 * i)));
    };
    for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8, col = 2 * t + i % 2;
        float sum = 0.f;
        for (int k = 0; k < 16; ++k) {
            // a: register (k / 8) * 2 + row / 8 of lane (row % 8) * 4 + k % 8 / 2
            const int from = k % 8 / 2;
            sum += half(all[row % 8 * 4 + from][k / 8 * 2 + row / 8], k % 2) *
                   half(all[col * 4 + from][4 + k / 8], k % 2);
        }
        d[i] += sum;
    }
}
inline void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    mma_16x8x16(d, a, b, from_bf16);
}
inline void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    mma_16x8x16(d, a, b, from_f16);
}

// a0, a1: rows g and g + 8, columns 2 t and 2 t + 1; b: rows 2 t and 2 t + 1 of column g.
inline void mma_bf16_k8_add(float (&d)[4], u32 a0, u32 a1, u32 b) {
    mma_bf16(d, {a0, a1, 0, 0}, {b, 0});
}
inline void mma_bf16_k8(float (&d)[4], u32 a0, u32 a1, u32 b) {
    for (float& x : d) x = 0.f;
    mma_bf16_k8_add(d, a0, a1, b);
}

// The upper 19 bits of an fp32 value.
inline float tf32(std::uint64_t bits) { return __uint_as_float(static_cast<u32>(bits) & 0xffffe000u); }

// d += a b; a[i] holds row g + 8 (i % 2) of column t + 4 (i / 2), b[i] row t + 4 i of column g.
template <int Depth>
void mma_tf32(float (&d)[4], const float (&a)[Depth / 2], const float (&b)[Depth / 4]) {
    std::uint64_t words[6] = {};
    for (int i = 0; i < Depth / 2; ++i) words[i] = __float_as_uint(a[i]);
    for (int i = 0; i < Depth / 4; ++i) words[4 + i] = __float_as_uint(b[i]);
    auto& all = simt::exchange(words, 6);
    const int g = simt::lane() / 4, t = simt::lane() % 4;
    for (int i = 0; i < 4; ++i) {
        const int col = 2 * t + i % 2;
        for (int k = 0; k < Depth; ++k)
            d[i] += tf32(all[g * 4 + k % 4][k / 4 * 2 + i / 2]) * tf32(all[col * 4 + k % 4][4 + k / 4]);
    }
}
inline void mma_tf32_k4(float (&d)[4], float a0, float a1, float b) {
    for (float& x : d) x = 0.f;
    mma_tf32<4>(d, {a0, a1}, {b});
}
inline void mma_tf32_k8(float (&d)[4], float a0, float a1, float a2, float a3, float b0, float b1) {
    mma_tf32<8>(d, {a0, a1, a2, a3}, {b0, b1});
}

}  // namespace ptx
