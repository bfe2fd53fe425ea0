// The walk by one warpgroup and a thread that loads. The outputs' products fill the gaps of the chain:
//
//   products | X = S^T K^T        | Q S, half | U^T = R T^T | Q S, half | S^T += U^T K | A U |
//   besides  | store O(-1)        | R                      | pack U^T               | pack S
#pragma once
#include "delta_rule/hopper.cuh"

struct SingleShared {
    Pipe pipe;
    OutTile out[kWarpgroup / kWarp];
};
static_assert(sizeof(SingleShared) <= 232448, "shared memory of one SM");

__device__ __forceinline__ void init_single(SingleShared& s) {
    if (threadIdx.x == 0) {
        init_pipe(s.pipe, kWarpgroup / kWarp);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
}

__device__ __forceinline__ void walk_chunks(SingleShared& shared, const Problem& p,
                                            const Place& at, float (&s)[kStateSums]) {
    constexpr int kSteps = kDk / 16;
    float o[kTokenSums];
    u32 state[kSteps][4];
    Ring ring;
    OutWay way = out_way(p, at);
    const int values_at = opaque(transposed_row(0, warp_index() % 4 * 16));
    pack_rows(state, s);
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.pipe.stage[ring.stage];
        float x[kTokenSums], u[kTokenSums];
        u32 v[kTokenSteps][4], r[kTokenSteps][4], later[kTokenSteps][4];
        ptx::mbarrier_wait(&shared.pipe.full[ring.stage], ring.parity);
#if SPLIT & 1
        float x2[kTokenSums];
        issue_read_apart(x, x2, state, in.k);
#else
        issue_read<0, kSteps>(x, state, in.k);
#endif
        if (chunk > 0) {  // the outputs before, while X is on its way
            ptx::wgmma_wait<1>();  // long done, but ptxas would wait for X
            ptx::pin(o);
            store_outputs(o, shared.out[warp_index()], way, p.length - (chunk - 1) * kChunk);
        }
        issue_read<0, kSteps / 2>(o, state, in.q);
        load_values(v, in.v, values_at);
        const Powers since_start = load_powers(in.made.since_start);
        const float decay = in.made.since_start[kChunk - 1];
        ptx::wgmma_wait<1>();
        ptx::pin(x);
#if SPLIT & 1
        ptx::pin(x2);
        add_sums(x, x2);
#endif
        subtract_read(r, v, x, since_start);
#if SPLIT & 2
        float u2[kTokenSums];
        issue_mix_apart(u, u2, r, in.made.t);
#else
        issue_mix(u, r, in.made.t, 0);
#endif
        issue_read<kSteps / 2, kSteps>(o, state, in.q);
        scale_state(s, decay);
        const Powers to_end = load_powers(in.made.to_end);
        ptx::wgmma_wait<1>();
        ptx::pin(u);
#if SPLIT & 2
        ptx::pin(u2);
        add_sums(u, u2);
#endif
        pack_rows(r, u);
        scale_tokens(u, to_end, 1.f);
        pack_rows(later, u);
        ptx::pin(s);
        issue_update(s, later, in.k);
        ptx::wgmma_wait<1>();
        ptx::pin(o);
        scale_tokens(o, since_start, p.scale);
        ptx::pin(o);
        issue_mix(o, r, in.made.a, 1);
        ptx::wgmma_wait<1>();
        ptx::pin(s);
        // Nothing may be on its way around the loop: ptxas would run all products one by one.
        pack_rows(state, s);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        arrive_warp(&shared.pipe.empty[ring.stage]);
        ring.advance();
    }
    store_outputs(o, shared.out[warp_index()], way, p.length - (p.chunks - 1) * kChunk);
}

// The first warpgroup: a head's columns from the first state to the last.
__device__ __forceinline__ void walk_head(SingleShared& shared, const Problem& p, const Place& at) {
    const size_t row = (static_cast<size_t>(at.batch) * p.heads + at.head) * kDk * p.dv;
    const int col = at.col + warp_index() * 16;
    float s[kStateSums] = {};
    if (p.first) move_state<false>(s, const_cast<float*>(p.first) + row, p.dv, col);
    walk_chunks(shared, p, at, s);
    if (p.last) move_state<true>(s, p.last + row, p.dv, col);
}
