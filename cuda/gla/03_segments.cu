// arch: sm_80 sm_90a
// registers: 168
// threads: 256
// dynamic_smem: 112960
// defines: DK=128 DV=128
// defines: DK=64 DV=64
//
// Gated linear attention, rung 3: the sequence in segments, for when batch * heads blocks do not
// fill the SMs. (1) segment_states: each segment's own state from zero, and its decay; (2) carry:
// the states at the segments' starts; (3) rung 2 with a start per segment.
//
// Bytes per (token, head) beyond rung 2's 1280: k, v, g once more 768, and the segment's state
// written, read and written, read: 4 * 65,536 / tokens of a segment, 512 at 512 tokens: 2560 in all,
// 168 us at B=2 T=8192 H=16 (16 segments), twice the floor for four times the SMs. Prediction
// 0.75 -> 0.25 ms.
#include "gla/vector.cuh"

// Grid as the scan's; `last` [batch, heads, segments, dk, dv] gets the local states.
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    segment_states(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = place_of(p);
    const int start = at.segment * p.segment_length;
    const int end = least(start + p.segment_length, p.length);
    const StatePlace part = state_place();
    load_chunk<false>(s, p, at, start, end);
    StateTile state = {};
    float decay = 1.f;
#pragma unroll 1
    for (int t = start; t < end; t += kChunk) {
        ptx::copy_async_wait_all();
        __syncthreads();
        scale_chunk<false>(s, 1.f);
        __syncthreads();
        update_state(s, state, part);
        if (threadIdx.x < kDk)
            for (int sub = 0; sub < kSubs; ++sub) decay *= s.end[sub][threadIdx.x];
        __syncthreads();
        if (t + kChunk < end) load_chunk<false>(s, p, at, t + kChunk, end);
    }
    const size_t row = state_row(p, at.batch, at.head, at.segment, p.segments);
    write_state(state, p.last + row * p.dv, p.dv, at.col, part);
    if (blockIdx.x == 0 && threadIdx.x < kDk) p.decay[row + threadIdx.x] = decay;
}

// One thread per 4 columns of (batch, head, row). `last` holds local states, becomes the starts.
extern "C" __global__ void __launch_bounds__(kThreads) carry(const __grid_constant__ Problem p) {
    const int quads = kDk * p.dv / 4, item = blockIdx.x * kThreads + threadIdx.x;
    const int batch = blockIdx.z / p.heads, head = blockIdx.z % p.heads;
    if (item >= quads) return;
    const int row = item / (p.dv / 4);
    const size_t first = state_row(p, batch, head, 0, 1) * p.dv / 4 + item;
    float4 h = p.first ? reinterpret_cast<const float4*>(p.first)[first]
                       : make_float4(0.f, 0.f, 0.f, 0.f);
    for (int segment = 0; segment < p.segments; ++segment) {
        const size_t at = state_row(p, batch, head, segment, p.segments);
        float4* state = reinterpret_cast<float4*>(p.last) + at * p.dv / 4 + item;
        const float4 local = *state;
        const float w = p.decay[at + row];
        *state = h;
        h = make_float4(fmaf(w, h.x, local.x), fmaf(w, h.y, local.y), fmaf(w, h.z, local.z),
                        fmaf(w, h.w, local.w));
    }
}
