// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 217088
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 5: one launch, in which some blocks prepare T and A, chunk after chunk, while the
// others walk, close behind. A walk of few heads leaves half of the chip idle and is bound by its
// own chain; the preparation then costs nothing but its first chunk, and T and A are read while they
// are still in L2.
//
// The first `preparers` blocks have three workers each and never wait, so that blocks that do wait
// (the walks, behind them in the grid) always find somebody who works. A worker publishes a chunk
// of a key head by a word in `ready` [batch, key_heads, chunks]; the walk that ends last clears them
// all for the next launch.
#include "delta_rule/prepare.cuh"
#include "delta_rule/roles.cuh"

constexpr int kWorkers = 3;
constexpr int kThreads = kWorkers * kWarpgroup;

union Shared {
    WalkShared walk;
    PrepareShared prepare[kWorkers];
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");
static_assert(kPrepareThreads == kWarpgroup, "a worker is a warpgroup");
extern __shared__ __align__(1024) u8 shared_bytes[];

// Chunk after chunk over all key heads, as the walks need them.
__device__ __forceinline__ void prepare_chunks(PrepareShared& s, const Problem& p) {
    const int key_heads = p.batch * p.key_heads, tasks = key_heads * p.chunks;
    const int worker = static_cast<int>(blockIdx.x) * kWorkers + warpgroup_index();
#pragma unroll 1
    for (int task = worker; task < tasks; task += p.preparers * kWorkers) {
        const int chunk = task / key_heads, row = task % key_heads;
        prepare_chunk(s, p, chunk, row % p.key_heads, row / p.key_heads);
        ptx::fence_async();
        meet();
        if (threadIdx.x % kPrepareThreads == 0)
            ptx::signal(p.ready + static_cast<size_t>(row) * p.chunks + chunk);
    }
}

__device__ __forceinline__ void walk(WalkShared& shared, const Problem& p, const Maps& maps) {
    const int slices = p.dv / kPanel, index = static_cast<int>(blockIdx.x) - p.preparers;
    const int head = index / slices % p.heads, batch = index / slices / p.heads;
    const int row = batch * p.key_heads + head / (p.heads / p.key_heads);
    walk_by_roles(shared, p, maps, {batch, head, index % slices * kPanel},
                  p.ready + static_cast<size_t>(row) * p.chunks);
}

// All that a walk waits for is behind it when it is done; the last one leaves zeros.
__device__ __forceinline__ void clear_ready(u32* last_shared, const Problem& p) {
    const u32 walks = gridDim.x - p.preparers;
    const int words = p.batch * p.key_heads * p.chunks;
    u32* done = p.ready + words;
    __syncthreads();
    if (threadIdx.x == 0) *last_shared = atomicAdd(done, 1u);
    __syncthreads();
    if (*last_shared != walks - 1) return;
    for (int i = threadIdx.x; i <= words; i += kThreads) p.ready[i] = 0;
}

// Grid (preparers + dv / 64 * heads * batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    delta_rule(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
               const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
               const __grid_constant__ TensorMap out) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (static_cast<int>(blockIdx.x) < p.preparers) {
        prepare_chunks(s.prepare[warpgroup_index()], p);
    } else {
        walk(s.walk, p, {&q, &k, &v, &out});
        clear_ready(reinterpret_cast<u32*>(shared_bytes), p);
    }
}
