// Preparation and walks in one launch: some blocks prepare T and A, chunk after chunk, while the others
// walk, close behind. A walk of few heads leaves half of the chip idle and is bound by its own chain;
// the preparation then costs nothing but its first chunks, and T and A are read while they are
// still in L2.
//
// The first `preparers` blocks have four workers each and never wait, so that blocks that do wait
// (the walks, behind them in the grid) always find somebody who works; the launcher sees to it that
// all blocks are on the device at once. A worker publishes a chunk of a key head by a word in
// `ready` [batch, key_heads, chunks]; the walk that ends last clears them all for the next launch.
#pragma once
#include "delta_rule/hopper.cuh"
#include "delta_rule/prepare.cuh"

constexpr int kWorkers = 4;
constexpr int kThreads = kWorkers * kWarpgroup;
static_assert(kPrepareThreads == kWarpgroup, "a worker is a warpgroup");

// Chunk after chunk over all key heads, as the walks need them.
__device__ __forceinline__ void prepare_chunks(PrepareShared (&shared)[kWorkers], const Problem& p) {
    const int key_heads = p.batch * p.key_heads, tasks = key_heads * p.chunks;
    const int worker = static_cast<int>(blockIdx.x) * kWorkers + warpgroup_index();
#pragma unroll 1
    for (int task = worker; task < tasks; task += p.preparers * kWorkers) {
        // Opaque: addresses kept from chunk to chunk would take registers.
        PrepareShared& s = shared[opaque(warpgroup_index())];
        const int chunk = task / key_heads, row = task % key_heads;
        prepare_chunk(s, p, chunk, row % p.key_heads, row / p.key_heads);
        ptx::fence_async();
        meet();
        if (threadIdx.x % kPrepareThreads == 0)
            ptx::signal(p.ready + static_cast<size_t>(row) * p.chunks + chunk);
    }
}

struct Walk {
    Place at;
    const u32* ready;  // of its key head
};

__device__ __forceinline__ Walk walk_of_block(const Problem& p) {
    const int slices = p.dv / kPanel, index = static_cast<int>(blockIdx.x) - p.preparers;
    const int head = index / slices % p.heads, batch = index / slices / p.heads;
    const int row = batch * p.key_heads + head / (p.heads / p.key_heads);
    return {{batch, head, index % slices * kPanel},
            p.ready + static_cast<size_t>(row) * p.chunks};
}

// All that a walk waits for is behind it when it is done; the last one leaves zeros. One warp does it:
// it counts and tells its lanes without shared memory.
__device__ __forceinline__ void clear_ready(const Problem& p) {
    __syncthreads();
    if (warp_index() != 0) return;
    const u32 walks = gridDim.x - p.preparers;
    const int words = p.batch * p.key_heads * p.chunks;
    u32* done = p.ready + words;
    u32 before = 0;
    if (lane_index() == 0) before = atomicAdd(done, 1u);
    if (__shfl_sync(kFullMask, before, 0) != walks - 1) return;
    for (int i = lane_index(); i <= words; i += kWarp) p.ready[i] = 0;
}
