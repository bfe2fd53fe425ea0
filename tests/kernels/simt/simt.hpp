// Runs CUDA kernels of this repository on the processor, thread by thread, so that their indexing,
// barriers and fragment layouts are tested where there is no GPU. Every thread of a block is a
// fiber; a barrier or a warp-wide instruction switches to the next fiber until all have arrived.
// Blocks run one after another. What is not modelled: memory ordering, timing, bank conflicts.
//
// Kernels reach the hardware through cuda/common/*.cuh; the headers beside this file take their
// place. Shared memory must be dynamic (`extern __shared__`), and starts as NaN in every block.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __shared__
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __restrict__

struct dim3 {
    int x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float __uint_as_float(unsigned bits) { float f; memcpy(&f, &bits, 4); return f; }
inline unsigned __float_as_uint(float f) { unsigned bits; memcpy(&bits, &f, 4); return bits; }
inline int __float_as_int(float f) { return static_cast<int>(__float_as_uint(f)); }
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }
template <typename T>
T __ldg(const T* p) { return *p; }
template <typename T>
T __ldcs(const T* p) { return *p; }
template <typename T>
void __stcs(T* p, T value) { *p = value; }

constexpr size_t kSharedLimit = 232448;
alignas(1024) unsigned char shared_bytes[kSharedLimit];

namespace simt {

struct Barrier {
    int arrived = 0;
    long phase = 0;
};

struct Copy {
    void* to;
    const void* from;
    int bytes, total, group;
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    dim3 thread;
    int index = 0;
    bool done = false;
    std::vector<Copy> copies;  // cp.async not waited for: they land when the kernel waits
    int group = 0;
    long turn = 0;  // warp-wide instructions so far: the parity picks the exchange buffer
};

struct Warp {
    Barrier barrier;
    std::uint64_t slots[2][32][16];
};

inline ucontext_t main_context;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline Barrier block_barrier;
inline Barrier named[16];
inline Fiber* now = nullptr;
inline dim3 block_index, block_size, grid_size;
inline const std::function<void()>* body = nullptr;
inline bool moved = false;  // somebody has arrived somewhere in this round of the fibers

inline void yield() { swapcontext(&now->context, &main_context); }

inline void meet(Barrier& b, int count) {
    const long phase = b.phase;
    moved = true;
    if (++b.arrived == count) {
        b.arrived = 0;
        ++b.phase;
        return;
    }
    while (b.phase == phase) yield();
}

inline Warp& warp() { return warps[now->index / 32]; }
inline int lane() { return now->index % 32; }

// Every lane deposits `count` words and returns when all 32 have; then any lane may read them.
inline std::uint64_t (&exchange(const std::uint64_t* words, int count))[32][16] {
    auto& slots = warp().slots[now->turn++ % 2];
    memcpy(slots[lane()], words, count * sizeof(std::uint64_t));
    meet(warp().barrier, 32);
    return slots;
}

inline void finish_copies(int keep_groups) {
    std::vector<Copy> left;
    for (const Copy& c : now->copies) {
        if (c.group >= now->group - keep_groups) {
            left.push_back(c);
            continue;
        }
        memset(c.to, 0, c.total);
        memcpy(c.to, c.from, c.bytes);
    }
    now->copies.swap(left);
}

inline void enter() {
    (*body)();
    now->done = true;
    yield();
}

// `order`: 0 runs the threads of a block upwards, 1 downwards; a missing barrier shows in one.
inline int run_block(int threads, int order) {
    fibers.resize(threads);
    warps.assign((threads + 31) / 32, Warp{});
    block_barrier = Barrier{};
    for (Barrier& b : named) b = Barrier{};
    memset(shared_bytes, 0xff, sizeof(shared_bytes));
    for (int i = 0; i < threads; ++i) {
        Fiber& f = fibers[i];
        if (!f.stack) f.stack.reset(new char[1 << 16]);
        f.index = i, f.thread = {i, 0, 0}, f.done = false, f.group = 0, f.turn = 0;
        f.copies.clear();
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = 1 << 16;
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
    }
    int left = threads;
    while (left > 0) {
        moved = false;
        for (int k = 0; k < threads; ++k) {
            Fiber& f = fibers[order ? threads - 1 - k : k];
            if (f.done) continue;
            now = &f;
            swapcontext(&main_context, &f.context);
            left -= f.done;
            moved |= f.done;
        }
        if (!moved) return 1;  // all wait for a barrier that nobody completes
    }
    return 0;
}

// True if nobody wrote beyond the dynamic shared memory that the launch asked for.
inline bool kept_within(int smem) {
    for (size_t i = smem; i < kSharedLimit; ++i)
        if (shared_bytes[i] != 0xff) return false;
    return true;
}

inline int launch(const std::function<void()>& kernel, dim3 grid, int threads, int smem,
                  int order) {
    body = &kernel;
    grid_size = grid, block_size = {threads, 1, 1};
    for (int k = 0; k < grid.z; ++k)
        for (int j = 0; j < grid.y; ++j)
            for (int i = 0; i < grid.x; ++i) {
                block_index = {i, j, k};
                if (run_block(threads, order) || !kept_within(smem)) return 1;
            }
    return 0;
}

}  // namespace simt

#define threadIdx (simt::now->thread)
#define blockIdx simt::block_index
#define blockDim simt::block_size
#define gridDim simt::grid_size

inline void __syncthreads() { simt::meet(simt::block_barrier, simt::block_size.x); }
inline void __syncwarp(unsigned = 0xffffffffu) { simt::meet(simt::warp().barrier, 32); }
template <typename T>
T __shfl_sync(unsigned, T value, int from, int = 32) {
    std::uint64_t word = 0;
    memcpy(&word, &value, sizeof(T));
    auto& all = simt::exchange(&word, 1);
    T got;
    memcpy(&got, all[from & 31], sizeof(T));
    return got;
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    return __shfl_sync(mask, value, simt::lane() ^ bits, width);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int by, int width = 32) {
    const int from = simt::lane() - by;
    const T got = __shfl_sync(mask, value, from < 0 ? simt::lane() : from, width);
    return got;
}
inline int __all_sync(unsigned, int predicate) {
    std::uint64_t word = predicate != 0;
    auto& all = simt::exchange(&word, 1);
    int every = 1;
    for (int i = 0; i < 32; ++i) every &= static_cast<int>(all[i][0]);
    return every;
}
