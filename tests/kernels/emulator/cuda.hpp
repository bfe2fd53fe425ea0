// What a CUDA compiler has built in: indices, vectors, warp functions, atomics, bit casts.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "block.hpp"

#define __device__
#define __host__
#define __global__
#define __shared__
#define __restrict__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using emulator::Site;

template <typename To, typename From>
To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __int_as_float(int bits) { return bits_as<float>(bits); }
inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
inline int __float_as_int(float f) { return bits_as<int>(f); }
inline unsigned __float_as_uint(float f) { return bits_as<unsigned>(f); }

template <typename T>
T __ldg(const T* p) { return *p; }
template <typename T>
T __ldcg(const T* p) { return *p; }
template <typename T>
T __ldcs(const T* p) { return *p; }
template <typename T>
void __stcg(T* p, T value) { *p = value; }
template <typename T>
void __stcs(T* p, T value) { *p = value; }

inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T atomicAdd(T* p, T value) {
    const T before = *p;
    *p += value;
    return before;
}

inline unsigned atomicOr(unsigned* p, unsigned value) {
    const unsigned before = *p;
    *p |= value;
    return before;
}
inline unsigned atomicCAS(unsigned* p, unsigned expected, unsigned value) {
    const unsigned before = *p;
    if (before == expected) *p = value;
    return before;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; ++i)
        out |= static_cast<unsigned>(both >> (8 * (selector >> 4 * i & 7)) & 0xff) << 8 * i;
    return out;
}

// ---------------------------------------------------------------- a block and its warps

inline void __syncthreads(Site site = Site::here()) {
    emulator::barrier(0, static_cast<int>(blockDim.x), true, site);
}
inline void __syncwarp(unsigned mask = emulator::kAll, Site site = Site::here()) {
    emulator::meet("__syncwarp", mask, site);
}

// `source` is a lane; a lane beyond the segment of `width` was replaced by the caller's own.
template <typename T>
T shuffle(const char* what, unsigned mask, T value, int source, Site site) {
    struct Trade {
        T in, out;
        int source;
    } mine{value, value, source};
    emulator::meet(what, mask, site, &mine, [](void** lanes) {
        for (int i = 0; i < 32; ++i) {
            if (!lanes[i]) continue;
            Trade& trade = *static_cast<Trade*>(lanes[i]);
            const void* from = lanes[trade.source];
            if (!from) emulator::fail("lane %d reads lane %d, outside its mask", i, trade.source);
            trade.out = static_cast<const Trade*>(from)->in;
        }
    });
    return mine.out;
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, Site site = Site::here()) {
    const int segment = emulator::lane() & ~(width - 1);
    return shuffle("__shfl_sync", mask, value, segment | (from & (width - 1)), site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, Site site = Site::here()) {
    const int lane = emulator::lane(), source = lane ^ bits, end = lane | (width - 1);
    return shuffle("__shfl_xor_sync", mask, value, source <= end ? source : lane, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32, Site site = Site::here()) {
    const int lane = emulator::lane(), source = lane - by, first = lane & ~(width - 1);
    return shuffle("__shfl_up_sync", mask, value, source >= first ? source : lane, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int by, int width = 32, Site site = Site::here()) {
    const int lane = emulator::lane(), source = lane + by, end = lane | (width - 1);
    return shuffle("__shfl_down_sync", mask, value, source <= end ? source : lane, site);
}

inline unsigned vote(const char* what, unsigned mask, bool mine, Site site) {
    struct Vote {
        bool in;
        unsigned out;
    } ballot{mine, 0};
    emulator::meet(what, mask, site, &ballot, [](void** lanes) {
        unsigned votes = 0;
        for (int i = 0; i < 32; ++i)
            if (lanes[i] && static_cast<Vote*>(lanes[i])->in) votes |= 1u << i;
        for (int i = 0; i < 32; ++i)
            if (lanes[i]) static_cast<Vote*>(lanes[i])->out = votes;
    });
    return ballot.out;
}
inline unsigned __ballot_sync(unsigned mask, int mine, Site site = Site::here()) {
    return vote("__ballot_sync", mask, mine != 0, site);
}
inline int __any_sync(unsigned mask, int mine, Site site = Site::here()) {
    return vote("__any_sync", mask, mine != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int mine, Site site = Site::here()) {
    return vote("__all_sync", mask, mine != 0, site) == mask;
}
