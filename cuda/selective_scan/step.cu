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
// One thread has 4 states (a 16-byte load and store); N / 4 lanes share a channel. 2048 threads per
// SM keep 32 KB of loads in flight, above the 20 KB that latency times bandwidth asks for.
#include "selective_scan/problem.cuh"

constexpr int kThreads = 256;
constexpr int kQuads = kStates / 4;

extern "C" __global__ void __launch_bounds__(kThreads)
    selective_step(const __grid_constant__ Problem p) {
    const s64 item = static_cast<s64>(blockIdx.x) * kThreads + threadIdx.x;
    const s64 rows = static_cast<s64>(p.batch) * p.channels;
    const bool valid = item < rows * kQuads;
    const s64 row = valid ? item / kQuads : rows - 1;
    const int quad = static_cast<int>(item % kQuads);
    const int channel = static_cast<int>(row % p.channels), batch = static_cast<int>(row / p.channels);
    const int group = channel / (p.channels / p.groups);
    float4 h = make_float4(0.f, 0.f, 0.f, 0.f);
    if (p.first) h = reinterpret_cast<const float4*>(p.first)[row * kQuads + quad];
    const float4 a = __ldg(reinterpret_cast<const float4*>(p.a) + channel * kQuads + quad);
    const float bias = p.bias ? p.bias[channel] : 0.f;
    const float u = widen(p.u[row]), dt = step_size(p, widen(p.delta[row]), bias);
    const size_t bc = (static_cast<size_t>(batch) * p.groups + group) * kStates + quad * 4;
    const float du = dt * u, rate = dt * kLog2e;
    h.x = fmaf(exp2_approx(rate * a.x), h.x, du * widen(p.b[bc + 0]));
    h.y = fmaf(exp2_approx(rate * a.y), h.y, du * widen(p.b[bc + 1]));
    h.z = fmaf(exp2_approx(rate * a.z), h.z, du * widen(p.b[bc + 2]));
    h.w = fmaf(exp2_approx(rate * a.w), h.w, du * widen(p.b[bc + 3]));
    float y = widen(p.c[bc]) * h.x;
    y = fmaf(widen(p.c[bc + 1]), h.y, y);
    y = fmaf(widen(p.c[bc + 2]), h.z, y);
    y = fmaf(widen(p.c[bc + 3]), h.w, y);
#pragma unroll
    for (int step = kQuads / 2; step > 0; step /= 2) y += __shfl_xor_sync(kFullMask, y, step);
    if (!valid) return;
    reinterpret_cast<float4*>(p.last)[row * kQuads + quad] = h;
    if (quad != 0) return;
    if (p.skip) y = fmaf(p.skip[channel], u, y);
    if (p.z) y *= silu(widen(p.z[row]));
    narrow(y, p.out[row]);
}
