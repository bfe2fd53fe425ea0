// The walk by one warpgroup and a thread that loads. The outputs' products fill the gaps of the chain:
//
//   products | X = S^T K^T        | Q S, half | U^T = R T^T | Q S, half | S^T += U^T K | A U |
//   besides  | store O(-1)        | R                      | pack U^T               | pack S
#pragma once
#include "delta_rule/hopper.cuh"

struct SingleShared {
    Pipe pipe;
    alignas(1024) Panel out[2];
};
static_assert(sizeof(SingleShared) <= 232448, "shared memory of one SM");

__device__ __forceinline__ void init_single(SingleShared& s) {
    if (threadIdx.x == 0) {
        init_pipe(s.pipe, kWarpgroup);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
}

__device__ __forceinline__ void walk_chunks(SingleShared& shared, const Problem& p,
                                            const TensorMap* out, const Place& at,
                                            float (&s)[kStateSums]) {
    constexpr int kSteps = kDk / 16;
    const int column = (at.head * p.dv + at.col) / kPanel;
    float o[kTokenSums];
    u32 state[kSteps][4];
    Ring ring;
    const int values_at = opaque(transposed_row(0, warp_index() % 4 * 16));
    pack_rows(state, s);
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.pipe.stage[ring.stage];
        float x[kTokenSums], y[kTokenSums], u[kTokenSums];
        u32 v[kTokenSteps][4], r[kTokenSteps][4], later[kTokenSteps][4];
        ptx::mbarrier_wait(&shared.pipe.full[ring.stage], ring.parity);
        issue_read_apart(x, y, state, in.k);
        if (chunk > 0) {  // the outputs before, while X is on its way
            ptx::wgmma_wait<1>();  // long done, but ptxas would wait for X
            ptx::pin(o);
            store_outputs(o, shared.out[chunk % 2], out, values_at, (chunk - 1) * kChunk, at, column);
        }
        issue_read<0, kSteps / 2>(o, state, in.q);
        load_values(v, in.v, values_at);
        const Powers since_start = load_powers(in.made.since_start);
        const float decay = in.made.since_start[kChunk - 1];
        ptx::wgmma_wait<1>();
        ptx::pin(x);
        ptx::pin(y);
        add_sums(x, y);
        subtract_read(r, v, x, since_start);
        issue_mix(u, r, in.made.t, 0);
        issue_read<kSteps / 2, kSteps>(o, state, in.q);
        scale_state(s, decay);
        const Powers to_end = load_powers(in.made.to_end);
        ptx::wgmma_wait<1>();
        ptx::pin(u);
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
        ptx::mbarrier_arrive(&shared.pipe.empty[ring.stage]);
        ring.advance();
    }
    store_outputs(o, shared.out[p.chunks % 2], out, values_at, (p.chunks - 1) * kChunk, at, column);
    if (threadIdx.x == 0) ptx::bulk_wait<0>();
}

// The first warpgroup: a head's columns from the first state to the last.
__device__ __forceinline__ void walk_head(SingleShared& shared, const Problem& p,
                                          const TensorMap* out, const Place& at) {
    const size_t row = (static_cast<size_t>(at.batch) * p.heads + at.head) * kDk * p.dv;
    const int col = at.col + warp_index() * 16;
    float s[kStateSums] = {};
    if (p.first) move_state<false>(s, const_cast<float*>(p.first) + row, p.dv, col);
    walk_chunks(shared, p, out, at, s);
    if (p.last) move_state<true>(s, p.last + row, p.dv, col);
}
