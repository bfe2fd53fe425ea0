// arch: sm_80 sm_90a
// registers: 255
// threads: 128
// dynamic_smem: 81920
// defines: TYPE=2 STATES=16 LANES=8
// defines: TYPE=0 STATES=16 LANES=2
//
// Selective scan over segments of the sequence, where batch, channels and states together cannot
// fill the chip. The scan is linear in the state: with h = 0 at the start of segment s,
//
//     end_s[n] = exp(A[n] sum dt) start_s[n] + local_s[n],      start_{s+1} = end_s
//
// so three launches: (1) segment_states: local_s and the sum of dt of all segments at once;
// (2) carry: start_s one after another (one exponential per state and segment: the decay is
// carried as a sum of dt, not as a product that would underflow); (3) a scan of rung 2 to 4 with a
// start of its own per segment. All exponentials are computed twice: this pays only below about
// half of the SMs' worth of (channel, state) pairs.
//
// Limits: pass 1 has (N + 2) special functions, 3 N + 6 FMA slots per (token, channel), no output.
#include "selective_scan/scan.cuh"

// Grid as the scan's. `last` [batch, segments, channels, N] gets the local states.
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    segment_states(const __grid_constant__ Problem p) {
    const Place at = place_of(p);
    float h[kShare] = {};
    float total = walk<false>(p, at, h);
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2)
        total += __shfl_xor_sync(kFullMask, total, step);
    if (!at.valid) return;
    const size_t row = segment_row(p, at.batch, at.segment, at.channel);
#pragma unroll
    for (int n = 0; n < kShare; ++n) p.last[row * kStates + at.slice * kShare + n] = h[n];
    if (at.slice == 0) p.decay[row] = total;
}

// One thread per (batch, channel, state). `last` holds local states and becomes the segments'
// starts; `first` [batch, channels, N] is the state before the sequence, or null.
extern "C" __global__ void __launch_bounds__(kThreads) carry(const __grid_constant__ Problem p) {
    const int index = blockIdx.x * kThreads + threadIdx.x, batch = blockIdx.z;
    if (index >= p.channels * kStates) return;
    const int channel = index / kStates, state = index % kStates;
    const float a = p.a[index] * kLog2e;
    float h = p.first ? p.first[static_cast<size_t>(batch) * p.channels * kStates + index] : 0.f;
    for (int segment = 0; segment < p.segments; ++segment) {
        const size_t row = segment_row(p, batch, segment, channel);
        const float local = p.last[row * kStates + state];
        p.last[row * kStates + state] = h;
        h = fmaf(exp2_approx(a * p.decay[row]), h, local);
    }
}
