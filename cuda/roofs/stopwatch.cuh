// True clock under load: cycles and nanoseconds of the first block, from one thread of it, added
// up over launches (the host sets them to zero). Their ratio is the mean clock.
#pragma once
#include "common/types.cuh"

struct Elapsed {
    u64 cycles;
    u64 nanoseconds;
};

struct Stopwatch {
    u64 cycles;
    u64 nanoseconds;

    __device__ __forceinline__ static u64 cycle() {
        u64 now;
        asm volatile("mov.u64 %0, %%clock64;" : "=l"(now)::"memory");
        return now;
    }

    __device__ __forceinline__ static u64 nanosecond() {
        u64 now;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
        return now;
    }

    __device__ __forceinline__ void start() {
        nanoseconds = nanosecond();
        cycles = cycle();
    }

    // Called by all threads: the block's time, not that of the warp which happens to finish first.
    __device__ __forceinline__ void stop(Elapsed* elapsed) const {
        __syncthreads();
        if (threadIdx.x != 0 || blockIdx.x != 0) return;
        elapsed->cycles += cycle() - cycles;
        elapsed->nanoseconds += nanosecond() - nanoseconds;
    }
};
