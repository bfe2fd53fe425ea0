// arch: sm_80 sm_90a
// registers: 168
// threads: 256
// dynamic_smem: 112960
// defines: DK=128 DV=128
// defines: DK=64 DV=64
//
// Gated linear attention, rung 2: chunks of 64 tokens, everything of a chunk in one pass: the state
// stays in registers (fp32), no score and no scaled key ever leaves the block.
//
// Limits, B=2 T=8192 H=16 dk=dv=128, bf16 gates, on an H200: 262,144 (token, head).
//   memory     q, k, v, g, o: 1280 bytes each: 336 MB, 84 us at 4.0 TB/s. This should bind
//   tensor     mma of a chunk: scores 10 tiles * 16, outputs 8 * (64 + 20), state 8 * 64: 1344 of
//              4096 FLOP: 86 kFLOP per (token, head), 35 us at 636 TFLOP/s (mma.sync)
//   special    2 exponentials per token and key dimension (q^, k^): 67e6 * 2: 16 us
//   registers to operands: scaling fragments costs 5 slots per pair of elements; per chunk about
//              7 / 4 + 1 passes over q^ (once per warp of the pair) and 3 / 4 over k^
// What limits it in fact: a chunk is 5 phases between barriers, each 0.2 to 0.6 us of latency; two
// blocks per SM fill each other's gaps. One block per (batch, head, 128 columns): 32 blocks at the
// shape above: 25 % of the SMs. Prediction 0.75 ms at B=2 H=16, 0.30 ms at 8192 x 96 heads (96
// blocks); rung 3 cuts the sequence.
//
// Registers: 64 of state, 32 of output: 128 in all, so that two blocks fit (65,536 / 512).
// Shared memory: q, k, v, g 4 * 64 * 272, the state in bf16 128 * 272, decays 4096, diagonals of
//   strong gates 4352: 112,960; two blocks: 225,920 + 2048 of 233,472.
#include "gla/vector.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, kBlocks)
    gla(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = place_of(p);
    const int start = at.segment * p.segment_length;
    const int end = least(start + p.segment_length, p.length);
    const StatePlace part = state_place();
    load_chunk<true>(s, p, at, start, end);
    StateTile state;
    const size_t first = state_row(p, at.batch, at.head, at.segment, p.segments);
    read_state(state, p.first ? p.first + first * p.dv : nullptr, p.dv, at.col, part);
#pragma unroll 1
    for (int t = start; t < end; t += kChunk) {
        publish_state(s.s, state, part);
        ptx::copy_async_wait_all();
        __syncthreads();
        scale_chunk<true>(s, p.scale);
        __syncthreads();
        score_chunk(s);
        carry_queries(s);
        __syncthreads();
#pragma unroll 1
        for (int pass = 0; pass < kPasses; ++pass) {
            const int col = pass_col(pass);
            OutTile o = {};
            output_pass(s, col, o);
            u16* out = p.out + token_row(at.batch, t, p.length, at.head, p.heads) * p.dv + at.col;
            store_outputs(out, static_cast<size_t>(p.heads) * p.dv, end - t, col, o);
        }
        update_state(s, state, part);
        __syncthreads();
        if (t + kChunk < end) load_chunk<true>(s, p, at, t + kChunk, end);
    }
    if (p.last && at.segment == p.segments - 1)
        write_state(state, p.last + state_row(p, at.batch, at.head, 0, 1) * p.dv, p.dv, at.col,
                    part);
}
