// Built once per kernel: -DSOURCE="..." -DENTRY=name -DMAPS=0|3|4|5; `run` launches it block by block.
#include "device.hpp"
#include SOURCE

__attribute__((aligned(1024))) unsigned char shared_bytes[kSharedBytes];

extern "C" void run(const int* grid, int threads, const void* problem, const TensorMap* maps) {
    gridDim = {(unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2]};
    blockDim = {(unsigned)threads, 1, 1};
    const Problem& p = *static_cast<const Problem*>(problem);
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
                emulator::run_block(threads, [&] {
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

extern "C" int problem_bytes() { return sizeof(Problem); }
extern "C" int shared_bytes_used() { return sizeof(Shared); }
extern "C" int block_threads() { return kThreads; }
