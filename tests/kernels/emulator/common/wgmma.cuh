// Stands in for cuda/common/wgmma.cuh. A product happens when its group is waited for; until then
// its sums are NaN, and its operands in shared memory may not change.
#pragma once
#include "common/tma.cuh"

namespace ptx {

using emulator::Format;

inline void wgmma_fence(Site site = Site::here()) {
    emulator::meet("wgmma.fence", kFullMask, site);
}
inline void wgmma_commit(Site site = Site::here()) { emulator::wgmma_commit(site); }
template <int Pending>
void wgmma_wait(Site site = Site::here()) {
    emulator::wgmma_wait(Pending, site);
}

template <typename T, int Count>
void pin(T (&)[Count]) {}

enum class Swizzle : u64 { kNone = 0, k128 = 1, k64 = 2, k32 = 3 };

inline u64 matrix_descriptor(const void* tile, u32 leading_bytes, u32 stride_bytes,
                             Swizzle swizzle) {
    return (smem_address(tile) & 0x3ffff) >> 4 | static_cast<u64>(leading_bytes >> 4) << 16 |
           static_cast<u64>(stride_bytes >> 4) << 32 | static_cast<u64>(swizzle) << 62;
}
inline u64 k_major_128(const void* tile) {
    return matrix_descriptor(tile, 16, 1024, Swizzle::k128);
}
constexpr u64 kDescriptorStepK = 32 >> 4;

template <int TransposeA = 0, int TransposeB = 0, int Count>
void wgmma_bf16(float (&d)[Count], u64 a, u64 b, int accumulate, Site site = Site::here()) {
    emulator::wgmma(d, {Format::kBf16, Count, nullptr, a, b, accumulate != 0, TransposeA != 0,
                        TransposeB != 0}, site);
}
template <int TransposeB = 0, int Count>
void wgmma_bf16(float (&d)[Count], const u32 (&a)[4], u64 b, int accumulate,
                Site site = Site::here()) {
    emulator::wgmma(d, {Format::kBf16, Count, a, 0, b, accumulate != 0, false, TransposeB != 0},
                    site);
}
template <int TransposeA = 0, int TransposeB = 0, int Count>
void wgmma_f16(float (&d)[Count], u64 a, u64 b, int accumulate, Site site = Site::here()) {
    emulator::wgmma(d, {Format::kF16, Count, nullptr, a, b, accumulate != 0, TransposeA != 0,
                        TransposeB != 0}, site);
}
template <int TransposeB = 0, int Count>
void wgmma_f16(float (&d)[Count], const u32 (&a)[4], u64 b, int accumulate,
               Site site = Site::here()) {
    emulator::wgmma(d, {Format::kF16, Count, a, 0, b, accumulate != 0, false, TransposeB != 0},
                    site);
}

}  // namespace ptx
