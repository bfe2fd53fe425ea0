// The cost of a launch and of a grid-wide barrier.
//
// arch: sm_80 sm_90
// registers: 32
// threads: 256
#include "common/barrier.cuh"

struct BarrierParams {
    u32* counter;
    int rounds;
};

// The least a launch can do; timed back to back on a stream and as nodes of a graph.
extern "C" __global__ void empty(const BarrierParams p) {
    if (p.rounds < 0) *p.counter = 1;
}

// Cooperative launch, one block per multiprocessor or more.
extern "C" __global__ void __launch_bounds__(256) barrier_rounds(const BarrierParams p) {
    for (int i = 0; i < p.rounds; ++i) ptx::grid_barrier(p.counter, gridDim.x);
}
