// Warpgroup matrix products (PTX ISA 9.7.15, sm_90a): d[64 x N] (+)= a[64 x K] b[K x N], K = 32 bytes
// of elements. N follows from the accumulator array: `float d[64]` is N = 128 (N / 2 registers).
//
//   wgmma_bf16(d, a_descriptor, b_descriptor, accumulate)      a and b in shared memory
//   wgmma_bf16(d, a_registers, b_descriptor, accumulate)       a in registers (u32[4])
//
// also wgmma_f16, wgmma_e4m3 (float d) and wgmma_s8 (s32 d). 16-bit operands may be transposed
// (MN-major) by template flags; 8-bit operands are K-major only. The accumulator of warp w, with
// g = lane / 4 and t = lane % 4: d[4 j + i] is row 16 w + g + 8 (i / 2), column 8 j + 2 t + i % 2.
//
// Order of use: wgmma_fence(); products...; wgmma_commit(); wgmma_wait<0>(); then read d.
#pragma once
#include "common/types.cuh"

namespace ptx {

__device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Keeps the compiler from moving accesses to an accumulator across this point.
template <int Count>
__device__ __forceinline__ void pin(float (&d)[Count]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

template <int Count>
__device__ __forceinline__ void pin(s32 (&d)[Count]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

template <int Count>
__device__ __forceinline__ void pin(u32 (&d)[Count]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

// Matrix descriptor (PTX 9.7.15.5.1.2): address, leading and stride byte offsets in units of 16,
// swizzle mode in bits 62-63 (1: 128 bytes, 2: 64, 3: 32, 0: none).
enum class Swizzle : u64 { kNone = 0, k128 = 1, k64 = 2, k32 = 3 };

__device__ __forceinline__ u64 matrix_descriptor(const void* tile, u32 leading_bytes,
                                                 u32 stride_bytes, Swizzle swizzle) {
    const u64 address = (smem_address(tile) & 0x3ffff) >> 4;
    return address | static_cast<u64>(leading_bytes >> 4) << 16 |
           static_cast<u64>(stride_bytes >> 4) << 32 | static_cast<u64>(swizzle) << 62;
}

// A K-major tile whose rows are 128 bytes, as TMA writes it with a 128-byte swizzle: groups of 8
// rows are 1024 bytes apart and the leading offset is unused. The tile starts at a multiple of
// 1024 bytes; step k to the next 32 bytes of K by adding kDescriptorStepK to the descriptor.
__device__ __forceinline__ u64 k_major_128(const void* tile) {
    return matrix_descriptor(tile, 16, 1024, Swizzle::k128);
}

constexpr u64 kDescriptorStepK = 32 >> 4;

// The operand lists. An instruction for N names N / 2 accumulators %0 .. %(R - 1), then its inputs
// by number; asm operands have no names in CUDA, so the numbers are part of the table below.
#define WGMMA_REGS_4 "%0, %1, %2, %3"
#define WGMMA_REGS_8 WGMMA_REGS_4 ", %4, %5, %6, %7"
#define WGMMA_REGS_16 WGMMA_REGS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_REGS_24 WGMMA_REGS_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define WGMMA_REGS_32 WGMMA_REGS_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_REGS_40 WGMMA_REGS_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define WGMMA_REGS_48 WGMMA_REGS_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_REGS_56 WGMMA_REGS_48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define WGMMA_REGS_64 WGMMA_REGS_56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_REGS_72 WGMMA_REGS_64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define WGMMA_REGS_80 WGMMA_REGS_72 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define WGMMA_REGS_88 WGMMA_REGS_80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define WGMMA_REGS_96 WGMMA_REGS_88 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_REGS_104 WGMMA_REGS_96 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define WGMMA_REGS_112 WGMMA_REGS_104 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define WGMMA_REGS_120 WGMMA_REGS_112 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define WGMMA_REGS_128 WGMMA_REGS_120 ", %120, %121, %122, %123, %124, %125, %126, %127"

#define WGMMA_OUT4(c, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define WGMMA_OUT8(c, i) WGMMA_OUT4(c, i), WGMMA_OUT4(c, i + 4)
#define WGMMA_OUT_4(c) WGMMA_OUT4(c, 0)
#define WGMMA_OUT_8(c) WGMMA_OUT8(c, 0)
#define WGMMA_OUT_16(c) WGMMA_OUT_8(c), WGMMA_OUT8(c, 8)
#define WGMMA_OUT_24(c) WGMMA_OUT_16(c), WGMMA_OUT8(c, 16)
#define WGMMA_OUT_32(c) WGMMA_OUT_24(c), WGMMA_OUT8(c, 24)
#define WGMMA_OUT_40(c) WGMMA_OUT_32(c), WGMMA_OUT8(c, 32)
#define WGMMA_OUT_48(c) WGMMA_OUT_40(c), WGMMA_OUT8(c, 40)
#define WGMMA_OUT_56(c) WGMMA_OUT_48(c), WGMMA_OUT8(c, 48)
#define WGMMA_OUT_64(c) WGMMA_OUT_56(c), WGMMA_OUT8(c, 56)
#define WGMMA_OUT_72(c) WGMMA_OUT_64(c), WGMMA_OUT8(c, 64)
#define WGMMA_OUT_80(c) WGMMA_OUT_72(c), WGMMA_OUT8(c, 72)
#define WGMMA_OUT_88(c) WGMMA_OUT_80(c), WGMMA_OUT8(c, 80)
#define WGMMA_OUT_96(c) WGMMA_OUT_88(c), WGMMA_OUT8(c, 88)
#define WGMMA_OUT_104(c) WGMMA_OUT_96(c), WGMMA_OUT8(c, 96)
#define WGMMA_OUT_112(c) WGMMA_OUT_104(c), WGMMA_OUT8(c, 104)
#define WGMMA_OUT_120(c) WGMMA_OUT_112(c), WGMMA_OUT8(c, 112)
#define WGMMA_OUT_128(c) WGMMA_OUT_120(c), WGMMA_OUT8(c, 120)

// X(flavour, N, R, R, R+1, ... R+6)
#define WGMMA_SHAPES(X, F) \
    X(F, 8, 4, 4, 5, 6, 7, 8, 9, 10) \
    X(F, 16, 8, 8, 9, 10, 11, 12, 13, 14) \
    X(F, 32, 16, 16, 17, 18, 19, 20, 21, 22) \
    X(F, 48, 24, 24, 25, 26, 27, 28, 29, 30) \
    X(F, 64, 32, 32, 33, 34, 35, 36, 37, 38) \
    X(F, 80, 40, 40, 41, 42, 43, 44, 45, 46) \
    X(F, 96, 48, 48, 49, 50, 51, 52, 53, 54) \
    X(F, 112, 56, 56, 57, 58, 59, 60, 61, 62) \
    X(F, 128, 64, 64, 65, 66, 67, 68, 69, 70) \
    X(F, 144, 72, 72, 73, 74, 75, 76, 77, 78) \
    X(F, 160, 80, 80, 81, 82, 83, 84, 85, 86) \
    X(F, 176, 88, 88, 89, 90, 91, 92, 93, 94) \
    X(F, 192, 96, 96, 97, 98, 99, 100, 101, 102) \
    X(F, 208, 104, 104, 105, 106, 107, 108, 109, 110) \
    X(F, 224, 112, 112, 113, 114, 115, 116, 117, 118) \
    X(F, 240, 120, 120, 121, 122, 123, 124, 125, 126) \
    X(F, 256, 128, 128, 129, 130, 131, 132, 133, 134)

// One instruction each. TYPES: accumulator, constraint, PTX type suffix, k, tail after scale-d.
#define WGMMA_ISSUE(N, K, SUFFIX, R, A, B, P, TAIL)                                    \
    "{\n.reg .pred p;\nsetp.ne.b32 p, %" #P ", 0;\n"                                    \
    "wgmma.mma_async.sync.aligned.m64n" #N "k" #K SUFFIX " {" WGMMA_REGS_##R "}, " A   \
    ", %" #B ", p" TAIL ";\n}"

#define WGMMA_A4(i0, i1, i2, i3) "{%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}"

#define WGMMA_16BIT(NAME, SUFFIX, N, R, i0, i1, i2, i3, i4, i5, i6)                    \
    template <int TransposeA = 0, int TransposeB = 0>                                  \
    __device__ __forceinline__ void NAME(float (&d)[R], u64 a, u64 b, int accumulate) { \
        asm volatile(WGMMA_ISSUE(N, 16, SUFFIX, R, "%" #i0, i1, i2,                    \
                                 ", 1, 1, %" #i3 ", %" #i4)                            \
                     : WGMMA_OUT_##R("+f")                                             \
                     : "l"(a), "l"(b), "r"(accumulate), "n"(TransposeA), "n"(TransposeB)); \
    }                                                                                  \
    template <int TransposeB = 0>                                                      \
    __device__ __forceinline__ void NAME(float (&d)[R], const u32 (&a)[4], u64 b,      \
                                         int accumulate) {                             \
        asm volatile(WGMMA_ISSUE(N, 16, SUFFIX, R, WGMMA_A4(i0, i1, i2, i3), i4, i5,   \
                                 ", 1, 1, %" #i6)                                      \
                     : WGMMA_OUT_##R("+f")                                             \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),             \
                       "r"(accumulate), "n"(TransposeB));                              \
    }

#define WGMMA_8BIT(NAME, ACC, C, SUFFIX, TAIL, N, R, i0, i1, i2, i3, i4, i5, i6)       \
    __device__ __forceinline__ void NAME(ACC (&d)[R], u64 a, u64 b, int accumulate) {  \
        asm volatile(WGMMA_ISSUE(N, 32, SUFFIX, R, "%" #i0, i1, i2, TAIL)              \
                     : WGMMA_OUT_##R(C)                                                \
                     : "l"(a), "l"(b), "r"(accumulate));                               \
    }                                                                                  \
    __device__ __forceinline__ void NAME(ACC (&d)[R], const u32 (&a)[4], u64 b,        \
                                         int accumulate) {                             \
        asm volatile(WGMMA_ISSUE(N, 32, SUFFIX, R, WGMMA_A4(i0, i1, i2, i3), i4, i5, TAIL) \
                     : WGMMA_OUT_##R(C)                                                \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),             \
                       "r"(accumulate));                                               \
    }

#define WGMMA_DEFINE(F, ...) WGMMA_DEFINE_##F(__VA_ARGS__)
#define WGMMA_DEFINE_BF16(...) WGMMA_16BIT(wgmma_bf16, ".f32.bf16.bf16", __VA_ARGS__)
#define WGMMA_DEFINE_F16(...) WGMMA_16BIT(wgmma_f16, ".f32.f16.f16", __VA_ARGS__)
#define WGMMA_DEFINE_E4M3(...) \
    WGMMA_8BIT(wgmma_e4m3, float, "+f", ".f32.e4m3.e4m3", ", 1, 1", __VA_ARGS__)
#define WGMMA_DEFINE_S8(...) WGMMA_8BIT(wgmma_s8, s32, "+r", ".s32.s8.s8", "", __VA_ARGS__)

WGMMA_SHAPES(WGMMA_DEFINE, BF16)
WGMMA_SHAPES(WGMMA_DEFINE, F16)
WGMMA_SHAPES(WGMMA_DEFINE, E4M3)
WGMMA_SHAPES(WGMMA_DEFINE, S8)

}  // namespace ptx
