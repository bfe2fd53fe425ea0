// arch: sm_90a
// registers: 255
// threads: 160
// dynamic_smem: 192512
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 3: the walk over chunks on Hopper, one warpgroup for everything but loads.
#include "delta_rule/hopper.cuh"

constexpr int kThreads = kWarpgroup + kWarp;  // the last warp loads

struct Shared {
    Pipe pipe;
    alignas(1024) Panel out[2];
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");
extern __shared__ __align__(1024) u8 shared_bytes[];

// O^T into a panel as [token][column], and from there by TMA, which leaves out tokens beyond the
// sequence's end. Two panels take turns: when all have passed the barrier of one, the copy of the
// other, a chunk old, has been read.
__device__ __forceinline__ void store_outputs(const float (&o)[kTokenSums], Panel& panel,
                                              const TensorMap* map, int token, int column,
                                              int batch) {
    const int row = warp_index() % 4 * 16;
#pragma unroll
    for (int c = 0; c < kTokenSteps; ++c)
        ptx::stmatrix_x4_transposed(panel.at + transposed_row(16 * c, row),
                                    pack_bf16(o[8 * c], o[8 * c + 1]),
                                    pack_bf16(o[8 * c + 2], o[8 * c + 3]),
                                    pack_bf16(o[8 * c + 4], o[8 * c + 5]),
                                    pack_bf16(o[8 * c + 6], o[8 * c + 7]));
    ptx::fence_async_shared();
    const bool issuer = threadIdx.x % kWarpgroup == 0;
    if (issuer) ptx::bulk_wait_read<0>();
    ptx::named_barrier_sync(1, kWarpgroup);
    if (issuer) {
        ptx::tma_store_4d(map, &panel, 0, token, column, batch);
        ptx::bulk_commit();
    }
}

__device__ __forceinline__ void walk_chunks(Shared& shared, const Problem& p, const TensorMap* out,
                                            const Place& at, float (&s)[kStateSums]) {
    constexpr int kSteps = kDk / 16;
    const int column = (at.head * p.dv + at.col) / kPanel;
    float o[kTokenSums];
    u32 state[kSteps][4];
    Ring ring;
    pack_rows(state, s);
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.pipe.stage[ring.stage];
        float x[kTokenSums], u[kTokenSums];
        u32 v[kTokenSteps][4], r[kTokenSteps][4], later[kTokenSteps][4];
        ptx::mbarrier_wait(&shared.pipe.full[ring.stage], ring.parity);
        issue_read<0, kSteps>(x, state, in.k);
        if (chunk > 0) {  // the outputs before, while X is on its way
            ptx::wgmma_wait<1>();  // long done, but ptxas would wait for X
            ptx::pin(o);
            store_outputs(o, shared.out[chunk % 2], out, (chunk - 1) * kChunk, column, at.batch);
        }
        issue_read<0, kSteps / 2>(o, state, in.q);
        load_values(v, in.v);
        const Powers since_start = load_powers(in.made.since_start);
        const float decay = in.made.since_start[kChunk - 1];
        ptx::wgmma_wait<1>();
        ptx::pin(x);
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
        arrive_warp(&shared.pipe.empty[ring.stage]);
        ring.advance();
    }
    store_outputs(o, shared.out[p.chunks % 2], out, (p.chunks - 1) * kChunk, column, at.batch);
    if (threadIdx.x == 0) ptx::bulk_wait<0>();
}

// Grid (dv / 64, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    walk(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
         const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
         const __grid_constant__ TensorMap out) {
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x) * kPanel};
    if (threadIdx.x == 0) {
        init_pipe(shared.pipe, kWarpgroup / kWarp);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if (warp_index() == kWarpgroup / kWarp) {
        if (ptx::elect_one()) load_chunks(shared.pipe, p, {&q, &k, &v, &out}, at, nullptr);
        __syncwarp();
        return;
    }
    const size_t row = (static_cast<size_t>(at.batch) * p.heads + at.head) * kDk * p.dv;
    const int col = at.col + warp_index() * 16;
    float s[kStateSums] = {};
    if (p.first) move_state<false>(s, const_cast<float*>(p.first) + row, p.dv, col);
    walk_chunks(shared, p, &out, at, s);
    if (p.last) move_state<true>(s, p.last + row, p.dv, col);
}
