// Latency of one dependent load: a single thread follows a chain of addresses.
//
// The chain is a random cycle over nodes spread across a buffer: a buffer far larger than L2, of
// which few nodes are visited, measures device memory; a small one, visited before, a cache.
//
// arch: sm_80 sm_90
// registers: 32
// threads: 1
#include "roofs/stopwatch.cuh"

struct LatencyParams {
    const u64* chain;  // chain[i] is the index of the next node
    u64 start;
    int warm_steps;
    int steps;
    u64* sink;
    Elapsed* elapsed;
};

extern "C" __global__ void chase(const LatencyParams p) {
    u64 at = p.start;
    for (int i = 0; i < p.warm_steps; ++i) at = p.chain[at];
    Stopwatch watch;
    watch.start();
    for (int i = 0; i < p.steps; ++i) {
        asm volatile("ld.global.ca.u64 %0, [%1];" : "=l"(at) : "l"(p.chain + at) : "memory");
    }
    *p.sink = at;  // before the stop: the last load must have arrived
    watch.stop(p.elapsed);
}
