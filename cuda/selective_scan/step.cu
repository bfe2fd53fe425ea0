// arch: sm_80 sm_90a
// registers: 64
// threads: 256
// defines: TYPE=2 STATES=16
// defines: TYPE=0 STATES=64
//
// One token of the selective scan: reads and writes every state once. `first` and `last` may be
// the same buffer. u, delta, z, out [batch, channels]; B, C [batch, groups, N].
//
// Limits, batch 256, D=4096, N=16: 2 * 67 MB of states and 8 MB of rows: 35 us at 4.0 TB/s; per 4
// states 4 + 4 special functions per 32 bytes moved: 0.5 clocks against 1.07 of memory.
// A lane has 4 states (16 bytes) of one channel in ROWS sequences: A, D and the bias are read once for
// all of them, and ROWS loads of states are in flight before anything else is asked for. N / 4 lanes
// share a channel; a warp reads 512 contiguous bytes of each sequence. 4 blocks an SM keep 64 KB of
// states in flight; latency times bandwidth asks for 20 KB, and 40 KB reach the copy kernel's speed.
// Prediction: 47.3 us with one sequence a lane (32 KB in flight, and behind the loads of u and delta)
// -> 39 us, 90 % of the copy.
#include "selective_scan/problem.cuh"

#ifndef ROWS
#define ROWS 2
#endif
#ifndef BLOCKS
#define BLOCKS 5
#endif
constexpr int kThreads = 256;
constexpr int kRows = ROWS;             // sequences of a lane
constexpr int kQuads = kStates / 4;     // lanes of a channel
constexpr int kChannels = kThreads / kQuads;

// Four neighbouring states' B or C, as loaded.
struct alignas(4 * sizeof(Element)) Quad {
    Element value[4];
};

// Grid (channels / kChannels, batch / kRows).
extern "C" __global__ void __launch_bounds__(kThreads, BLOCKS)
    selective_step(const __grid_constant__ Problem p) {
    const int place = blockIdx.x * kChannels + static_cast<int>(threadIdx.x) / kQuads;
    const int quad = threadIdx.x % kQuads, first = blockIdx.y * kRows;
    const bool valid = place < p.channels;
    const int channel = least(place, p.channels - 1);
    // A division takes as long as a load from L2: not where there is nothing to divide.
    const int group = p.groups == 1 ? 0 : channel / (p.channels / p.groups);

    float4 h[kRows];
    Element delta[kRows], u[kRows], z[kRows];
    Quad b[kRows], c[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const int batch = least(first + r, p.batch - 1);
        const s64 row = static_cast<s64>(batch) * p.channels + channel;
        h[r] = p.first ? reinterpret_cast<const float4*>(p.first)[row * kQuads + quad]
                       : make_float4(0.f, 0.f, 0.f, 0.f);
        delta[r] = p.delta[row], u[r] = p.u[row], z[r] = (p.z ? p.z : p.u)[row];
        const size_t at = (static_cast<size_t>(batch) * p.groups + group) * kStates + quad * 4;
        b[r] = *reinterpret_cast<const Quad*>(p.b + at), c[r] = *reinterpret_cast<const Quad*>(p.c + at);
    }
    float4 a = __ldg(reinterpret_cast<const float4*>(p.a) + channel * kQuads + quad);
    a = make_float4(a.x * kLog2e, a.y * kLog2e, a.z * kLog2e, a.w * kLog2e);
    const float bias = p.bias ? p.bias[channel] : 0.f, skip = p.skip ? p.skip[channel] : 0.f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const float dt = step_size(p, widen(delta[r]), bias), du = dt * widen(u[r]);
        h[r].x = fmaf(exp2_approx(dt * a.x), h[r].x, du * widen(b[r].value[0]));
        h[r].y = fmaf(exp2_approx(dt * a.y), h[r].y, du * widen(b[r].value[1]));
        h[r].z = fmaf(exp2_approx(dt * a.z), h[r].z, du * widen(b[r].value[2]));
        h[r].w = fmaf(exp2_approx(dt * a.w), h[r].w, du * widen(b[r].value[3]));
        float y = widen(c[r].value[3]) * h[r].w;
        y = fmaf(widen(c[r].value[2]), h[r].z, y);
        y = fmaf(widen(c[r].value[1]), h[r].y, y);
        y = fmaf(widen(c[r].value[0]), h[r].x, y);
        const s64 row = static_cast<s64>(first + r) * p.channels + channel;
        const bool stored = valid && first + r < p.batch;
        if (stored) reinterpret_cast<float4*>(p.last)[row * kQuads + quad] = h[r];
#pragma unroll
        for (int by = kQuads / 2; by > 0; by /= 2) y += __shfl_xor_sync(kFullMask, y, by);
        y = fmaf(skip, widen(u[r]), y);
        if (p.z) y *= silu(widen(z[r]));
        if (stored && quad == 0) narrow(y, p.out[row]);
    }
}
