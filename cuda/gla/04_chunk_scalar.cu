// arch: sm_80 sm_90a
// registers: 168
// threads: 256
// dynamic_smem: 107520
// defines: DK=128 DV=128
// defines: DK=64 DV=64
// defines: DK=128 DV=128 HEADS=2 SSD=1
//
// Gated linear attention with one gate per head, no gate, and SSD (Mamba-2), chunks of 64 tokens;
// the three launches of the vector gate (rungs 2 and 3) in one source.
//
// Limits, B=2 T=8192 H=16 dk=dv=128: q, k, v, o 1024 bytes per (token, head): 268 MB, 67 us at
// 4.0 TB/s; mma as rung 2, 35 us; 64 / 2 exponentials for A and 3 more per token: 2 us.
// SSD, B=8 L=4096, 80 heads of P=64, N=128, one group: x, y 256 bytes per (token, head), delta 2, B
// and C 512 per token, states 21 MB: 704 MB, 176 us; two heads per block share q k^T and the reads
// of B and C (from L2: 256 bytes per (token, head), as much again as x and y); mma of a chunk of two
// heads 10 * 16 + 8 * (64 + 20) + 8 * 64 = 1344 of 4096 FLOP per 128 (token, head): 177 us at
// 636 TFLOP/s: tensor and memory bind alike. Prediction: 0.35 ms.
#include "gla/scalar.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    gla(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = place_of(p);
    const int start = at.segment * p.segment_length;
    const int end = least(start + p.segment_length, p.length);
    const StatePlace part = state_place();
    load_chunk<true>(s, p, at, start, end);
    StateTile state = {};
    if (p.first)
        move_state<false>(state, const_cast<float*>(p.first), p, at, at.segment, p.segments,
                          state_place());
#pragma unroll 1
    for (int t = start; t < end; t += kChunk) {
        publish_state(s.s, state, part);
        sum_gates(s, load_gates(p, at, t, end));  // while the chunk's copies are in flight
        ptx::copy_async_wait_all();
        __syncthreads();
        score_chunk(s, p.scale);
        __syncthreads();
#pragma unroll 1
        for (int pass = 0; pass < kPasses; ++pass) {
            const int col = pass_col(pass);
            OutTile o = {};
            output_pass(s, p, col, o);
            u16* out = p.out + token_row(at.batch, t, p.length, at.head, p.heads) * p.dv + at.col;
            store_outputs(out, static_cast<size_t>(p.heads) * p.dv, end - t, col, o);
        }
        update_state(s, state, part);
        __syncthreads();
        if (t + kChunk < end) load_chunk<true>(s, p, at, t + kChunk, end);
    }
    if (p.last && at.segment == p.segments - 1)
        move_state<true>(state, p.last, p, place_of(p), 0, 1, state_place());
}

// Local states of all segments into `last` [batch, heads, segments, dk, dv].
extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    segment_states(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = place_of(p);
    const int start = at.segment * p.segment_length;
    const int end = least(start + p.segment_length, p.length);
    const StatePlace part = state_place();
    load_chunk<false>(s, p, at, start, end);
    StateTile state = {};
    float decay = 0.f;  // log2
#pragma unroll 1
    for (int t = start; t < end; t += kChunk) {
        sum_gates(s, load_gates(p, at, t, end));  // while the chunk's copies are in flight
        ptx::copy_async_wait_all();
        __syncthreads();
        update_state(s, state, part);
        if (threadIdx.x < kHeads) decay += s.sum[threadIdx.x][kChunk - 1];
        __syncthreads();
        if (t + kChunk < end) load_chunk<false>(s, p, at, t + kChunk, end);
    }
    move_state<true>(state, p.last, p, at, at.segment, p.segments, state_place());
    if (blockIdx.x == 0 && threadIdx.x < kHeads) {
        const int head = at.head + static_cast<int>(threadIdx.x);
        const size_t row = (static_cast<size_t>(at.batch) * p.heads + head) * p.segments + at.segment;
        p.decay[row] = exp2_approx(decay);
    }
}

// One thread per 4 elements of a state. `last` holds local states, becomes the segments' starts.
extern "C" __global__ void __launch_bounds__(kThreads) carry(const __grid_constant__ Problem p) {
    const int quads = kDk * p.dv / 4, item = blockIdx.x * kThreads + threadIdx.x;
    if (item >= quads) return;
    const size_t head = blockIdx.z;  // of all batches
    float4 h = p.first ? reinterpret_cast<const float4*>(p.first)[head * quads + item]
                       : make_float4(0.f, 0.f, 0.f, 0.f);
    for (int segment = 0; segment < p.segments; ++segment) {
        const size_t at = head * p.segments + segment;
        float4* state = reinterpret_cast<float4*>(p.last) + at * quads + item;
        const float4 local = *state;
        const float w = p.decay[at];
        *state = h;
        h = make_float4(fmaf(w, h.x, local.x), fmaf(w, h.y, local.y), fmaf(w, h.z, local.z),
                        fmaf(w, h.w, local.w));
    }
}
