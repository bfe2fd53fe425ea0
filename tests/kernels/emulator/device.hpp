// A block of CUDA threads on the host: every thread is a coroutine, run in turn until it waits.
// Kernels are compiled as they are; the headers below common/ stand in for those of the project
// that wrap PTX. What a device does late is done as late as possible here (asynchronous copies and
// products happen when someone waits for them), and their targets hold NaN until then.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#define __device__
#define __host__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))

struct Dim3 {
    unsigned x = 0, y = 0, z = 0;
};
inline Dim3 threadIdx, blockIdx, gridDim, blockDim;

struct alignas(8) float2 { float x, y; };
inline float2 make_float2(float x, float y) { return {x, y}; }
struct alignas(16) float4 { float x, y, z, w; };
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

constexpr size_t kSharedBytes = 232448;
extern __attribute__((aligned(1024))) unsigned char shared_bytes[];

namespace emulator {

struct NamedBarrier {
    int arrived = 0;
    uint64_t generation = 0;
};

struct MBarrier {
    int expected = 0, pending = 0;
    int64_t bytes = 0;
    unsigned phase = 0;
};

struct Warp {
    int arrived = 0;
    uint64_t generation = 0;
    std::function<void()> work;  // what the last lane to arrive does for all
    void* slots[32] = {};
    std::deque<std::vector<std::function<void()>>> groups;  // committed products
    std::vector<std::function<void()>> open;                // not yet committed
};

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool done = false;
    std::deque<std::vector<std::function<void()>>> groups;  // asynchronous copies
    std::vector<std::function<void()>> open;
    std::deque<std::vector<std::function<void()>>> stores;  // by TMA, from shared memory
    std::vector<std::function<void()>> open_stores;
};

struct Block {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    NamedBarrier barriers[16];
    std::map<const void*, MBarrier> mbarriers;
    std::deque<std::pair<int, std::function<void()>>> late;  // TMA copies on their way
    ucontext_t scheduler;
    int current = 0;
    bool progress = false;
    const char* error = nullptr;
    std::function<void()> body;
};
inline Block block;

[[noreturn]] inline void fail(const char* why) {
    std::fprintf(stderr, "emulator: %s (thread %d)\n", why, block.current);
    std::exit(3);
}

inline void yield() { swapcontext(&block.threads[block.current].context, &block.scheduler); }

template <typename Condition>
void wait_until(Condition condition) {
    while (!condition()) yield();
    block.progress = true;
}

inline Thread& self() { return block.threads[block.current]; }
inline int lane() { return block.current % 32; }
inline Warp& warp() { return block.warps[block.current / 32]; }

// All 32 lanes meet, each with `mine`; the last one runs `work`, which sees all of slots.
inline void meet(void* mine, const std::function<void()>& work) {
    Warp& w = warp();
    w.slots[lane()] = mine;
    const uint64_t generation = w.generation;
    if (++w.arrived == 32) {
        work();
        w.arrived = 0;
        ++w.generation;
        block.progress = true;
        return;
    }
    wait_until([&] { return w.generation != generation; });
}

template <typename T>
T& slot(int lane) {
    return *static_cast<T*>(warp().slots[lane]);
}

inline void arrive(int id, int threads) {
    NamedBarrier& b = block.barriers[id];
    if (++b.arrived > threads) fail("more arrivals at a barrier than it takes");
    if (b.arrived == threads) {
        b.arrived = 0;
        ++b.generation;
    }
    block.progress = true;
}

inline void sync(int id, int threads) {
    NamedBarrier& b = block.barriers[id];
    const uint64_t generation = b.generation;
    arrive(id, threads);
    wait_until([&] { return b.generation != generation; });
}

inline void settle(MBarrier& b) {
    if (b.pending < 0) fail("more arrivals at an mbarrier than it takes");
    if (b.pending == 0 && b.bytes == 0) {
        b.phase ^= 1;
        b.pending = b.expected;
    }
    block.progress = true;
}

inline MBarrier& mbarrier_in(Block& of, const void* address) {
    auto found = of.mbarriers.find(address);
    if (found == of.mbarriers.end()) fail("an mbarrier that was never initialised");
    return found->second;
}

inline MBarrier& mbarrier(const void* address) { return mbarrier_in(block, address); }

inline void entry() {
    block.body();
    block.threads[block.current].done = true;
    block.progress = true;
    swapcontext(&block.threads[block.current].context, &block.scheduler);
}

// Copies by TMA are delivered a few turns after their issue.
inline void deliver_late() {
    for (auto& item : block.late) --item.first;
    while (!block.late.empty() && block.late.front().first <= 0) {
        const auto work = block.late.front().second;
        block.late.pop_front();
        work();
        block.progress = true;
    }
}

// The blocks of a cluster take turns in `block` and `shared_bytes`; what is sent to another one waits
// in `cluster.blocks` for its turn.
struct Cluster {
    std::vector<Block> blocks;
    std::vector<std::vector<unsigned char>> memory;
    int rank = 0, arrived = 0;
    uint64_t generation = 0;
};
inline Cluster cluster;

inline Block& block_of(int rank) { return rank == cluster.rank ? block : cluster.blocks[rank]; }

inline void start_block(int threads, const std::function<void()>& body) {
    block = Block{};
    block.body = body;
    block.threads.resize(threads);
    block.warps.resize((threads + 31) / 32);
    for (Thread& t : block.threads) {
        t.stack.resize(256 * 1024);
        getcontext(&t.context);
        t.context.uc_stack.ss_sp = t.stack.data();
        t.context.uc_stack.ss_size = t.stack.size();
        t.context.uc_link = nullptr;
        makecontext(&t.context, entry, 0);
    }
}

// Every thread goes on until it waits; returns how many are left.
inline int turn() {
    block.progress = !block.late.empty();
    int alive = 0;
    for (int i = 0; i < static_cast<int>(block.threads.size()); ++i) {
        if (block.threads[i].done) continue;
        ++alive;
        block.current = i;
        threadIdx.x = i;
        swapcontext(&block.scheduler, &block.threads[i].context);
    }
    deliver_late();
    return alive;
}

inline void check_end() {
    if (!block.late.empty()) fail("the block ended before its copies arrived");
    for (const Thread& t : block.threads)
        if (!t.stores.empty() || !t.open_stores.empty()) fail("a store that nobody waited for");
}

// `enter(rank)` sets blockIdx before a block's turn.
inline void run_cluster(int size, int threads, const std::function<void(int)>& enter,
                        const std::function<void()>& body) {
    cluster = Cluster{};
    cluster.blocks.resize(size);
    cluster.memory.assign(size, std::vector<unsigned char>(kSharedBytes, 0xff));
    std::memset(shared_bytes, 0xff, kSharedBytes);
    for (Block& b : cluster.blocks) {
        start_block(threads, body);
        std::swap(block, b);
    }
    int alive = size * threads;
    while (alive > 0) {
        alive = 0;
        bool progress = false;
        for (int rank = 0; rank < size; ++rank) {
            cluster.rank = rank;
            enter(rank);
            std::swap(block, cluster.blocks[rank]);
            if (size > 1) std::memcpy(shared_bytes, cluster.memory[rank].data(), kSharedBytes);
            alive += turn();
            progress |= block.progress;
            if (size > 1) std::memcpy(cluster.memory[rank].data(), shared_bytes, kSharedBytes);
            std::swap(block, cluster.blocks[rank]);
        }
        if (alive > 0 && !progress) fail("nobody can go on: deadlock");
    }
    for (Block& b : cluster.blocks) {
        std::swap(block, b);
        check_end();
        std::swap(block, b);
    }
}

// All threads of all blocks of the cluster meet.
inline void sync_cluster() {
    const uint64_t generation = cluster.generation;
    if (++cluster.arrived == static_cast<int>(cluster.blocks.size() * block.threads.size())) {
        cluster.arrived = 0;
        ++cluster.generation;
        block.progress = true;
    }
    wait_until([&] { return cluster.generation != generation; });
}

}  // namespace emulator

inline void __syncthreads() { emulator::sync(0, static_cast<int>(emulator::block.threads.size())); }
inline void __syncwarp() { emulator::meet(nullptr, [] {}); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T exchange(T value, const std::function<int(int)>& source) {
    struct Trade { T in, out; } mine{value, value};
    emulator::meet(&mine, [&] {
        for (int i = 0; i < 32; ++i)
            emulator::slot<Trade>(i).out = emulator::slot<Trade>(source(i)).in;
    });
    return mine.out;
}

template <typename T>
T __shfl_sync(unsigned, T value, int from) {
    struct Trade { T in, out; int from; } mine{value, value, from};
    emulator::meet(&mine, [] {
        for (int i = 0; i < 32; ++i) {
            Trade& t = emulator::slot<Trade>(i);
            t.out = emulator::slot<Trade>(t.from).in;
        }
    });
    return mine.out;
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return exchange<T>(value, [=](int i) { return i ^ mask; });
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int by) {
    return exchange<T>(value, [=](int i) { return i >= by ? i - by : i; });
}

inline bool __any_sync(unsigned, bool mine) {
    struct Vote { bool in, out; } vote{mine, false};
    emulator::meet(&vote, [] {
        bool any = false;
        for (int i = 0; i < 32; ++i) any |= emulator::slot<Vote>(i).in;
        for (int i = 0; i < 32; ++i) emulator::slot<Vote>(i).out = any;
    });
    return vote.out;
}
inline bool __all_sync(unsigned mask, bool mine) { return !__any_sync(mask, !mine); }

template <typename T>
T __ldg(const T* p) { return *p; }
template <typename T>
T __ldcg(const T* p) { return *p; }

inline unsigned atomicAdd(unsigned* p, unsigned v) {
    const unsigned before = *p;
    *p += v;
    return before;
}

inline float __int_as_float(int bits) { float f; std::memcpy(&f, &bits, 4); return f; }
inline float __uint_as_float(unsigned bits) { float f; std::memcpy(&f, &bits, 4); return f; }
inline unsigned __float_as_uint(float f) { unsigned bits; std::memcpy(&bits, &f, 4); return bits; }
inline int __float_as_int(float f) { int bits; std::memcpy(&bits, &f, 4); return bits; }

inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; ++i)
        out |= static_cast<unsigned>(both >> (8 * (selector >> 4 * i & 7)) & 0xff) << 8 * i;
    return out;
}
