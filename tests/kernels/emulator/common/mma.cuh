// Stands in for cuda/common/mma.cuh on the host; layouts as the PTX ISA draws them.
#pragma once
#include "common/types.cuh"

namespace ptx {

struct Matrices {
    u32* r;
    const u8* row;
};

inline void load_matrices(u32* r, const void* row, int count, bool transposed) {
    Matrices mine{r, static_cast<const u8*>(row)};
    emulator::meet(&mine, [=] {
        for (int m = 0; m < count; ++m)
            for (int lane = 0; lane < 32; ++lane) {
                u16 pair[2];
                for (int i = 0; i < 2; ++i) {
                    const int row = transposed ? lane % 4 * 2 + i : lane / 4;
                    const int column = transposed ? lane / 4 : lane % 4 * 2 + i;
                    std::memcpy(&pair[i],
                                emulator::slot<Matrices>(8 * m + row).row + 2 * column, 2);
                }
                emulator::slot<Matrices>(lane).r[m] = pair[0] | static_cast<u32>(pair[1]) << 16;
            }
    });
}

inline void ldmatrix_x4(u32 (&r)[4], const void* row) { load_matrices(r, row, 4, false); }
inline void ldmatrix_x4_transposed(u32 (&r)[4], const void* row) {
    load_matrices(r, row, 4, true);
}

inline void stmatrix_x4(void* row, u32 a, u32 b, u32 c, u32 d) {
    struct Store { u8* row; u32 r[4]; } mine{static_cast<u8*>(row), {a, b, c, d}};
    emulator::meet(&mine, [] {
        for (int m = 0; m < 4; ++m)
            for (int lane = 0; lane < 32; ++lane)
                std::memcpy(emulator::slot<Store>(8 * m + lane / 4).row + lane % 4 * 4,
                            &emulator::slot<Store>(lane).r[m], 4);
    });
}

inline void stmatrix_x4_transposed(void* row, u32 a, u32 b, u32 c, u32 d) {
    struct Store { u8* row; u32 r[4]; } mine{static_cast<u8*>(row), {a, b, c, d}};
    emulator::meet(&mine, [] {
        for (int m = 0; m < 4; ++m)
            for (int lane = 0; lane < 32; ++lane)
                for (int i = 0; i < 2; ++i) {
                    const u16 value = static_cast<u16>(emulator::slot<Store>(lane).r[m] >> 16 * i);
                    std::memcpy(emulator::slot<Store>(8 * m + lane % 4 * 2 + i).row + lane / 4 * 2,
                                &value, 2);
                }
    });
}

struct Product {
    float* d;
    const u32 *a, *b;
};

// a: (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8); b: (2t, g) (2t+8, g); pairs along k.
template <typename Widen>
void multiply_16x8x16(float* d, const u32* a, const u32* b, Widen widen) {
    Product mine{d, a, b};
    emulator::meet(&mine, [=] {
        float A[16][16], B[16][8];
        for (int lane = 0; lane < 32; ++lane) {
            const Product& p = emulator::slot<Product>(lane);
            const int g = lane / 4, t = lane % 4;
            for (int i = 0; i < 4; ++i)
                for (int half = 0; half < 2; ++half)
                    A[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = widen(p.a[i] >> 16 * half);
            for (int i = 0; i < 2; ++i)
                for (int half = 0; half < 2; ++half)
                    B[2 * t + 8 * i + half][g] = widen(p.b[i] >> 16 * half);
        }
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i) {
                const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
                float sum = emulator::slot<Product>(lane).d[i];
                for (int k = 0; k < 16; ++k) sum += A[row][k] * B[k][column];
                emulator::slot<Product>(lane).d[i] = sum;
            }
    });
}

inline void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    multiply_16x8x16(d, a, b, [](u32 bits) { return from_bf16(static_cast<u16>(bits)); });
}
inline void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    multiply_16x8x16(d, a, b, [](u32 bits) { return from_f16(static_cast<u16>(bits)); });
}

}  // namespace ptx
