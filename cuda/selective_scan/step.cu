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
#define ROWS 4
#endif
#ifndef STREAM
#define STREAM 1
#endif
constexpr int kThreads = 256;
constexpr int kRows = ROWS;             // sequences of a lane
constexpr int kQuads = kStates / 4;     // lanes of a channel
constexpr int kChannels = kThreads / kQuads;

__device__ __forceinline__ float4 load_state(const float4* p) { return STREAM ? __ldcs(p) : *p; }
__device__ __forceinline__ void store_state(float4* p, float4 x) {
    if (STREAM) __stcs(p, x);
    else *p = x;
}

// Four neighbouring states' B or C.
__device__ __forceinline__ float4 quad_of(const Element* from) {
    if constexpr (sizeof(Element) == 4) {
        const float4 x = __ldg(reinterpret_cast<const float4*>(from));
        return x;
    } else {
        const uint2 x = __ldg(reinterpret_cast<const uint2*>(from));
        return make_float4(widen_low(x.x), widen_high(x.x), widen_low(x.y), widen_high(x.y));
    }
}

// Grid (channels / kChannels, batch / kRows).
extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_step(const __grid_constant__ Problem p) {
    const int place = blockIdx.x * kChannels + static_cast<int>(threadIdx.x) / kQuads;
    const int quad = threadIdx.x % kQuads, first = blockIdx.y * kRows;
    const bool valid = place < p.channels;
    const int channel = least(place, p.channels - 1);
    const int group = channel / (p.channels / p.groups);

    float4 h[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const s64 row = static_cast<s64>(least(first + r, p.batch - 1)) * p.channels + channel;
        h[r] = p.first ? load_state(reinterpret_cast<const float4*>(p.first) + row * kQuads + quad)
                       : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    float4 a = __ldg(reinterpret_cast<const float4*>(p.a) + channel * kQuads + quad);
    a = make_float4(a.x * kLog2e, a.y * kLog2e, a.z * kLog2e, a.w * kLog2e);
    const float bias = p.bias ? p.bias[channel] : 0.f, skip = p.skip ? p.skip[channel] : 0.f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const int batch = least(first + r, p.batch - 1);
        const s64 row = static_cast<s64>(batch) * p.channels + channel;
        const float u = widen(p.u[row]), dt = step_size(p, widen(p.delta[row]), bias), du = dt * u;
        const size_t at = (static_cast<size_t>(batch) * p.groups + group) * kStates + quad * 4;
        const float4 b = quad_of(p.b + at), c = quad_of(p.c + at);
        h[r].x = fmaf(exp2_approx(dt * a.x), h[r].x, du * b.x);
        h[r].y = fmaf(exp2_approx(dt * a.y), h[r].y, du * b.y);
        h[r].z = fmaf(exp2_approx(dt * a.z), h[r].z, du * b.z);
        h[r].w = fmaf(exp2_approx(dt * a.w), h[r].w, du * b.w);
        float y = fmaf(c.x, h[r].x, fmaf(c.y, h[r].y, fmaf(c.z, h[r].z, c.w * h[r].w)));
#pragma unroll
        for (int by = kQuads / 2; by > 0; by /= 2) y += __shfl_xor_sync(kFullMask, y, by);
        if (!valid || first + r >= p.batch) continue;
        store_state(reinterpret_cast<float4*>(p.last) + row * kQuads + quad, h[r]);
        if (quad != 0) continue;
        y = fmaf(skip, u, y);
        if (p.z) y *= silu(widen(p.z[row]));
        narrow(y, p.out[row]);
    }
}
