// arch: sm_80 sm_90a
// registers: 255
// threads: 128
// defines: TYPE=2 STATES=16
// defines: TYPE=0 STATES=16
//
// Selective scan, rung 1: one thread per channel, all states in its registers, one token at a
// time. The recurrence as it is written; everything else is left to the caches.
//
// Limits, B=8 L=2048 D=4096 N=16, z, bf16 on an H200 (132 SMs, 1.98 GHz): 67.1e6 (token, channel).
//   special    (16 + 4) * 67.1e6 = 1.34e9 results, 16 per clock and SM: 321 us
//   loads      a warp asks, per token, for 2 N broadcast words (each an instruction and an L1
//              wavefront) and 3 words of 32 different rows: 32 sectors each, 96 wavefronts or more
//              per 32 (token, channel): 3 clocks and more each. This binds: 770 us and more
//   memory     8 bytes per (token, channel) and B, C: 541 MB, 0.14 ms
// Registers: 16 states, 16 decays, addresses. 248 channels per SM: 8 warps.
#include "selective_scan/problem.cuh"

constexpr int kThreads = 128;

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    selective_scan(const __grid_constant__ Problem p) {
    const int channel = blockIdx.x * kThreads + threadIdx.x, batch = blockIdx.z;
    if (channel >= p.channels) return;
    const int group = channel / (p.channels / p.groups);
    const size_t row = row_of(p, batch, channel);
    const Element* b = p.b + group_row(p, batch, group, 0);
    const Element* c = p.c + group_row(p, batch, group, 0);
    const float bias = p.bias ? p.bias[channel] : 0.f, skip = p.skip ? p.skip[channel] : 0.f;
    const size_t at = (static_cast<size_t>(batch) * p.channels + channel) * kStates;
    float a[kStates], h[kStates];
#pragma unroll
    for (int n = 0; n < kStates; ++n) {
        a[n] = p.a[channel * kStates + n] * kLog2e;
        h[n] = p.first ? p.first[at + n] : 0.f;
    }
    for (int t = 0; t < p.length; ++t) {
        const float u = widen(p.u[row + t]);
        const float dt = step_size(p, widen(p.delta[row + t]), bias), du = dt * u;
        float y = skip * u;
#pragma unroll
        for (int n = 0; n < kStates; ++n) {
            const size_t from = static_cast<size_t>(n) * p.length + t;
            h[n] = fmaf(exp2_approx(dt * a[n]), h[n], du * widen(b[from]));
            y = fmaf(widen(c[from]), h[n], y);
        }
        if (p.z) y *= silu(widen(p.z[row + t]));
        narrow(y, p.out[row + t]);
    }
    if (p.last)
#pragma unroll
        for (int n = 0; n < kStates; ++n) p.last[at + n] = h[n];
}
