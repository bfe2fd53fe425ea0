// arch: sm_90a
// registers: 255
// threads: 160
// dynamic_smem: 192512
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 3: the walk over chunks on Hopper. Rung 2's first launch has made T and A.
#include "delta_rule/hopper.cuh"

constexpr int kStages = 3;
constexpr int kThreads = kWarpgroup + kWarp;  // the last warp loads

struct Shared {
    Stage stage[kStages];
    Panel out[2];
    u64 full[kStages], empty[kStages];
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");
extern __shared__ __align__(1024) u8 shared_bytes[];

using Ring = ptx::Ring<kStages>;

// ---------------------------------------------------------------- loader: one thread

__device__ __forceinline__ void load_chunks(Shared& s, const Problem& p, const Maps& maps,
                                            const Place& at) {
    const int key = at.head / (p.heads / p.key_heads) * kPanels;
    const int value = (at.head * p.dv + at.col) / kPanel;
    const size_t row = static_cast<size_t>(at.batch) * p.heads + at.head;
    const Prepared* made = p.prepared + row * p.chunks;
    Ring ring;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const int t = chunk * kChunk;
        Stage& to = s.stage[ring.stage];
        u64* full = &s.full[ring.stage];
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        ptx::mbarrier_arrive_expect(full, kStageBytes);
        ptx::tma_load_4d(&to.k, maps.k, full, 0, t, key, at.batch);
        ptx::tma_load_4d(&to.v, maps.v, full, 0, t, value, at.batch);
        ptx::bulk_load(&to.made, made + chunk, sizeof(Prepared), full);
        ptx::tma_load_4d(&to.q, maps.q, full, 0, t, key, at.batch);
        ring.advance();
    }
}

// ---------------------------------------------------------------- walk: one warpgroup

__device__ __forceinline__ void free_stage(u64* empty) {
    if (lane_index() == 0) ptx::mbarrier_arrive(empty);
}

__device__ __forceinline__ void walk_chunks(Shared& shared, const Problem& p, const TensorMap* out,
                                            const Place& at, float (&s)[kStateSums]) {
    constexpr int kSteps = kDk / 16;
    const int column = (at.head * p.dv + at.col) / kPanel;
    float o[kTokenSums];
    Ring ring, before;
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.stage[ring.stage];
        float x[kTokenSums], u[kTokenSums];
        u32 state[kSteps][4], v[kTokenSteps][4], r[kTokenSteps][4], later[kTokenSteps][4];
        pack_rows(state, s);
        ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
        issue_read<0, kSteps>(x, state, in.k);
        if (chunk > 0) {  // the outputs before, while X is on its way
            ptx::wgmma_wait<1>();
            ptx::pin(o);
            free_stage(&shared.empty[before.stage]);
            store_outputs(o, shared.out[chunk % 2], out, (chunk - 1) * kChunk, column, at.batch);
        }
        issue_read<0, kSteps / 2>(o, state, in.q);
        load_values(v, in.v);
        ptx::wgmma_wait<1>();
        ptx::pin(x);
        subtract_read(r, v, x, in.made.since_start);
        issue_mix(u, r, in.made.t, 0);
        issue_read<kSteps / 2, kSteps>(o, state, in.q);
        scale_state(s, in.made.since_start[kChunk - 1]);
        ptx::wgmma_wait<1>();
        ptx::pin(u);
        pack_rows(r, u);
        scale_tokens(u, in.made.to_end, 1.f);
        pack_rows(later, u);
        ptx::pin(s);
        issue_update(s, later, in.k);
        ptx::wgmma_wait<1>();
        ptx::pin(o);
        scale_tokens(o, in.made.since_start, p.scale);
        ptx::pin(o);
        issue_mix(o, r, in.made.a, 1);
        ptx::wgmma_wait<1>();
        ptx::pin(s);
        before = ring;
        ring.advance();
    }
    ptx::wgmma_wait<0>();
    ptx::pin(o);
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
        for (int i = 0; i < kStages; ++i) {
            ptx::mbarrier_init(&shared.full[i], 1);
            ptx::mbarrier_init(&shared.empty[i], kWarpgroup / kWarp);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if (warp_index() == kWarpgroup / kWarp) {
        if (ptx::elect_one()) load_chunks(shared, p, {&q, &k, &v, &out}, at);
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
