// Stands in for cuda/common/wgmma.cuh on the host. A product happens when its group is waited for;
// until then its sums are NaN, and its operands in shared memory may not change.
#pragma once
#include "common/tma.cuh"

namespace ptx {

inline void wgmma_fence() {}

inline void wgmma_commit() {
    emulator::meet(nullptr, [] {
        emulator::Warp& w = emulator::warp();
        w.groups.push_back(std::move(w.open));
        w.open.clear();
    });
}

template <int Pending>
void wgmma_wait() {
    emulator::meet(nullptr, [] {
        emulator::Warp& w = emulator::warp();
        while (static_cast<int>(w.groups.size()) > Pending) {
            for (const auto& product : w.groups.front()) product();
            w.groups.pop_front();
        }
    });
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

struct Descriptor {
    u32 start, leading, stride;
    explicit Descriptor(u64 bits)
        : start((bits & 0x3fff) << 4), leading((bits >> 16 & 0x3fff) << 4),
          stride((bits >> 32 & 0x3fff) << 4) {
        if (bits >> 62 != 1) emulator::fail("only the 128-byte swizzle is emulated");
    }
    // Element (mn, k) of an operand, PTX ISA 9.7.15.5.1: 8 rows of 128 bytes are a swizzle atom.
    u16 at(int mn, int k, bool transposed) const {
        const u32 offset = transposed ? mn / 64 * leading + k / 8 * stride + k % 8 * 128 + mn % 64 * 2
                                      : mn / 8 * stride + mn % 8 * 128 + k * 2;
        u16 value;
        std::memcpy(&value, shared_bytes + swizzle_128(start + offset), 2);
        return value;
    }
};

// One warp's 16 rows of a product of 64 x N x 16.
template <bool Half, int Count>
void issue(float* d, const u32* a_registers, u64 a, u64 b, int accumulate, bool transposed_b) {
    struct Issue { float* d; u32 a[4]; } mine{d, {}};
    if (a_registers) std::memcpy(mine.a, a_registers, sizeof mine.a);
    emulator::meet(&mine, [=] {
        const auto widen = [](u32 bits) {
            return Half ? from_f16(static_cast<u16>(bits)) : from_bf16(static_cast<u16>(bits));
        };
        struct Record {
            float* d[32];
            float saved[32][Count];
            float A[16][16];
            bool first;
        };
        const auto record = std::make_shared<Record>();
        emulator::Warp& w = emulator::warp();
        static std::map<std::pair<const void*, const void*>, int> in_flight;
        const std::pair<const void*, const void*> key{&w, emulator::slot<Issue>(0).d};
        record->first = in_flight[key]++ == 0;
        for (int lane = 0; lane < 32; ++lane) {
            const Issue& issue = emulator::slot<Issue>(lane);
            record->d[lane] = issue.d;
            std::memcpy(record->saved[lane], issue.d, sizeof record->saved[lane]);
            for (int i = 0; i < Count; ++i) issue.d[i] = NAN;
            for (int i = 0; a_registers && i < 4; ++i)
                for (int half = 0; half < 2; ++half)
                    record->A[lane / 4 + 8 * (i % 2)][lane % 4 * 2 + 8 * (i / 2) + half] =
                        widen(issue.a[i] >> 16 * half);
        }
        const int warp_row = emulator::block.current / 32 % 4 * 16;
        const bool from_shared = a_registers == nullptr;
        w.open.push_back([=] {
            constexpr int kColumns = Count * 2;
            static float B[16][kColumns];
            const Descriptor db(b);
            for (int k = 0; k < 16; ++k)
                for (int n = 0; n < kColumns; ++n) B[k][n] = widen(db.at(n, k, transposed_b));
            if (from_shared) {
                const Descriptor da(a);
                for (int r = 0; r < 16; ++r)
                    for (int k = 0; k < 16; ++k)
                        record->A[r][k] = widen(da.at(warp_row + r, k, false));
            }
            --in_flight[key];
            for (int lane = 0; lane < 32; ++lane)
                for (int i = 0; i < Count; ++i) {
                    const int row = lane / 4 + 8 * (i % 4 / 2);
                    const int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
                    float* out = &record->d[lane][i];
                    float sum = !accumulate ? 0.f : record->first ? record->saved[lane][i] : *out;
                    for (int k = 0; k < 16; ++k) sum += record->A[row][k] * B[k][column];
                    *out = sum;
                }
        });
    });
}

template <int TransposeA = 0, int TransposeB = 0, int Count>
void wgmma_bf16(float (&d)[Count], u64 a, u64 b, int accumulate) {
    issue<false, Count>(d, nullptr, a, b, accumulate, TransposeB);
}
template <int TransposeB = 0, int Count>
void wgmma_bf16(float (&d)[Count], const u32 (&a)[4], u64 b, int accumulate) {
    issue<false, Count>(d, a, 0, b, accumulate, TransposeB);
}
template <int TransposeA = 0, int TransposeB = 0, int Count>
void wgmma_f16(float (&d)[Count], u64 a, u64 b, int accumulate) {
    issue<true, Count>(d, nullptr, a, b, accumulate, TransposeB);
}
template <int TransposeB = 0, int Count>
void wgmma_f16(float (&d)[Count], const u32 (&a)[4], u64 b, int accumulate) {
    issue<true, Count>(d, a, 0, b, accumulate, TransposeB);
}

}  // namespace ptx
