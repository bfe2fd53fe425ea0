// Built once per kernel: -DSOURCE="..." -DENTRY=name -DMAPS=0|3|4|5; `run` launches it block by block,
// or cluster by cluster (-DCLUSTER=2).
#include "device.hpp"
#include SOURCE
#ifndef CLUSTER
#define CLUSTER 1
#endif

__attribute__((aligned(1024))) unsigned char shared_bytes[kSharedBytes];

extern "C" void run(const int* grid, int threads, const void* problem, const TensorMap* maps,
                    int backwards) {
    gridDim = {(unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2]};
    blockDim = {(unsigned)threads, 1, 1};
    const Problem& p = *static_cast<const Problem*>(problem);
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (unsigned x = 0; x < gridDim.x; x += CLUSTER) {
                const unsigned first = backwards ? gridDim.x - CLUSTER - x : x;
                const auto enter = [&](int rank) { blockIdx.x = first + rank; };
                emulator::run_cluster(CLUSTER, threads, enter, [&] {
#if MAPS == 3
                    ENTRY(p, maps[0], maps[1], maps[2]);
#elif MAPS == 4
                    ENTRY(p, maps[0], maps[1], maps[2], maps[3]);
#elif MAPS == 5
                    ENTRY(p, maps[0], maps[1], maps[2], maps[3], maps[4]);
#else
                    ENTRY(p);
#endif
                });
            }
}

extern "C" int problem_bytes() { return sizeof(Problem); }
extern "C" int shared_bytes_used() { return sizeof(Shared); }
extern "C" int block_threads() { return kThreads; }
