// Stands in for cuda/common/mma.cuh.
#pragma once
#include "common/types.cuh"

namespace ptx {

using emulator::Format;

inline void ldmatrix_x4(u32 (&r)[4], const void* row, Site site = Site::here()) {
    emulator::load_matrices(r, row, 4, false, site);
}
inline void ldmatrix_x2(u32 (&r)[2], const void* row, Site site = Site::here()) {
    emulator::load_matrices(r, row, 2, false, site);
}
inline void ldmatrix_x4_transposed(u32 (&r)[4], const void* row, Site site = Site::here()) {
    emulator::load_matrices(r, row, 4, true, site);
}
inline void stmatrix_x4(void* row, u32 a, u32 b, u32 c, u32 d, Site site = Site::here()) {
    const u32 r[] = {a, b, c, d};
    emulator::store_matrices(row, r, 4, false, site);
}
inline void stmatrix_x4_transposed(void* row, u32 a, u32 b, u32 c, u32 d,
                                   Site site = Site::here()) {
    const u32 r[] = {a, b, c, d};
    emulator::store_matrices(row, r, 4, true, site);
}
inline void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2],
                     Site site = Site::here()) {
    emulator::mma_16x8x16(Format::kBf16, d, a, b, site);
}
inline void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], Site site = Site::here()) {
    emulator::mma_16x8x16(Format::kF16, d, a, b, site);
}
// a0, a1: rows g and g + 8, columns 2 t and 2 t + 1; b: rows 2 t and 2 t + 1 of column g.
inline void mma_bf16_k8_add(float (&d)[4], u32 a0, u32 a1, u32 b, Site site = Site::here()) {
    mma_bf16(d, {a0, a1, 0, 0}, {b, 0}, site);
}
inline void mma_bf16_k8(float (&d)[4], u32 a0, u32 a1, u32 b, Site site = Site::here()) {
    for (float& x : d) x = 0.f;
    mma_bf16_k8_add(d, a0, a1, b, site);
}
inline void mma_tf32_k8(float (&d)[4], float a0, float a1, float a2, float a3, float b0, float b1,
                        Site site = Site::here()) {
    const float a[] = {a0, a1, a2, a3}, b[] = {b0, b1};
    emulator::mma_tf32(8, d, a, b, site);
}

}  // namespace ptx
