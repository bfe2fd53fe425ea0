// Bandwidth of device memory, L2 and shared memory.
//
// read, write and copy move `words` 16-byte words once, up to 8 independent 16-byte accesses a thread
// in flight (the assembler takes 4 to 8 and full occupancy: 128 KB a multiprocessor, of which latency
// times bandwidth needs about 12). read_l2: each block walks the whole buffer `rounds` times from its
// own starting point, so that a buffer which fits in L2 measures L2.
//
// arch: sm_80 sm_90
// registers: 40
// threads: 512
#include "common/types.cuh"
#include "roofs/stopwatch.cuh"

struct MemoryParams {
    const uint4* in;
    uint4* out;
    u64 words;
    int rounds;
    Elapsed* elapsed;
};

constexpr u32 kThreads = 512;
constexpr u32 kInFlight = 8;
constexpr u32 kTile = kThreads * kInFlight;
constexpr u32 kCopyInFlight = 2;  // with loads and stores mixed, more a thread is slower by 1-3 %

__device__ __forceinline__ uint4 load_streaming(const uint4* p) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

__device__ __forceinline__ uint4 load_l2(const uint4* p) {
    uint4 v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}

__device__ __forceinline__ void store_streaming(uint4* p, uint4 v) {
    asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}

// The sum is stored only if it takes a value that random data does not: the loads stay, and
// nothing is written.
__device__ __forceinline__ void keep(u32 sum, uint4* out) {
    if (sum == 0x13572468u) out[threadIdx.x].x = sum;
}

// One tile is kThreads x InFlight words. Whole tiles need no bounds check, so that all loads issue
// before the first use; only the last, ragged tile checks each word.
template <u32 InFlight, typename Whole, typename Word>
__device__ __forceinline__ void for_each_tile(u64 words, Whole whole, Word word) {
    constexpr u64 tile = kThreads * InFlight;
    const u64 whole_words = words / tile * tile;
    for (u64 base = blockIdx.x * tile; base < whole_words; base += gridDim.x * tile) {
        whole(base + threadIdx.x);
    }
    if (blockIdx.x == 0) {
        for (u64 at = whole_words + threadIdx.x; at < words; at += kThreads) word(at);
    }
}

__device__ __forceinline__ u32 folded(uint4 v) { return v.x ^ v.y ^ v.z ^ v.w; }

// Varied data: writing a constant would draw less power than real output does.
__device__ __forceinline__ uint4 varied(u64 at) {
    const u32 x = static_cast<u32>(at) * 2654435761u;
    return uint4{x, x ^ 0x9e3779b9u, ~x, x << 7};
}

extern "C" __global__ void __launch_bounds__(kThreads) read(const MemoryParams p) {
    u32 sum = 0;
    for_each_tile<kInFlight>(
        p.words,
        [&](u64 at) {
            uint4 v[kInFlight];
#pragma unroll
            for (u32 i = 0; i < kInFlight; ++i) v[i] = load_streaming(p.in + at + i * kThreads);
#pragma unroll
            for (u32 i = 0; i < kInFlight; ++i) sum ^= folded(v[i]);
        },
        [&](u64 at) { sum ^= folded(load_streaming(p.in + at)); });
    keep(sum, p.out);
}

extern "C" __global__ void __launch_bounds__(kThreads) write(const MemoryParams p) {
    for_each_tile<kInFlight>(
        p.words,
        [&](u64 at) {
#pragma unroll
            for (u32 i = 0; i < kInFlight; ++i) {
                store_streaming(p.out + at + i * kThreads, varied(at + i * kThreads));
            }
        },
        [&](u64 at) { store_streaming(p.out + at, varied(at)); });
}

extern "C" __global__ void __launch_bounds__(kThreads) copy(const MemoryParams p) {
    for_each_tile<kCopyInFlight>(
        p.words,
        [&](u64 at) {
            uint4 v[kCopyInFlight];
#pragma unroll
            for (u32 i = 0; i < kCopyInFlight; ++i) v[i] = load_streaming(p.in + at + i * kThreads);
#pragma unroll
            for (u32 i = 0; i < kCopyInFlight; ++i) store_streaming(p.out + at + i * kThreads, v[i]);
        },
        [&](u64 at) { store_streaming(p.out + at, load_streaming(p.in + at)); });
}

// Every block reads the whole buffer `rounds` times; `words` is a multiple of the tile.
extern "C" __global__ void __launch_bounds__(kThreads) read_l2(const MemoryParams p) {
    const u32 tiles = static_cast<u32>(p.words / kTile);
    u32 tile = static_cast<u32>(static_cast<u64>(tiles) * blockIdx.x / gridDim.x);
    Stopwatch watch;
    watch.start();
    u32 sum = 0;
    for (u32 step = 0; step < p.rounds * tiles; ++step) {
        const uint4* at = p.in + tile * kTile + threadIdx.x;
        uint4 v[kInFlight];
#pragma unroll
        for (u32 i = 0; i < kInFlight; ++i) v[i] = load_l2(at + i * kThreads);
#pragma unroll
        for (u32 i = 0; i < kInFlight; ++i) sum ^= folded(v[i]);
        tile = tile + 1 == tiles ? 0 : tile + 1;
    }
    keep(sum, p.out);
    watch.stop(p.elapsed);
}

// Conflict-free 16-byte reads of 32 KB of shared memory, `rounds` x 8 a thread.
extern "C" __global__ void __launch_bounds__(kThreads) read_shared(const MemoryParams p) {
    __shared__ uint4 tile[2048];
    for (u32 i = threadIdx.x; i < 2048; i += kThreads) tile[i] = p.in[i];
    __syncthreads();
    Stopwatch watch;
    watch.start();
    const u32 base = smem_address(tile) + threadIdx.x * 16;
    u32 sum = 0;
    for (int round = 0; round < p.rounds; ++round) {
#pragma unroll
        for (u32 i = 0; i < kInFlight; ++i) {
            uint4 v;
            // volatile to the assembler too, which would merge loads of an address
            asm volatile("ld.volatile.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                         : "r"(base + (i % 4) * 8192));
            sum ^= folded(v);
        }
    }
    keep(sum, p.out);
    watch.stop(p.elapsed);
}
