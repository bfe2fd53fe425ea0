// The walk by three roles: a warpgroup that has the state and does only what the next chunk waits for,
// one that makes the outputs, a thread that loads.
//
//   chain    | X = S^T K^T | R | U^T = R T^T | pack | S^T += U^T K | pack |
//   outputs  |  store O(-1)| Q S, first half | Q S, rest           | A U  |
//
// A product whose left operand is in registers holds up its warp until the tensor cores have taken it,
// so what one warpgroup does besides is added to the chain; and two warpgroups share the tensor
// cores evenly, so products of the outputs would slow down those of the chain. Hence the outputs
// have both operands in shared memory, and begin when the chain, between two products, says so: when
// X is there, when U is, when the new S is. S and U go to shared memory in bf16, as the chain's own
// products take them.
#pragma once
#include "delta_rule/hopper.cuh"

// Between the chain and the outputs: four warps arrive.
struct Handover {
    u64 full, free;
};

struct WalkShared {
    Pipe pipe;
    alignas(1024) KeyTile state;  // S^T [dv][dk]
    Panel u;                      // U^T [dv][tokens]
    Panel out[2];
    Handover s, u_there;
    u64 middle;  // U is computed: the tensor cores are free for a moment
};
static_assert(sizeof(WalkShared) <= 232448, "shared memory of one SM");

__device__ __forceinline__ void init_walk(WalkShared& s) {
    if (threadIdx.x == 0) {
        constexpr int kWarps = kWarpgroup / kWarp;
        init_pipe(s.pipe, 2 * kWarps);
        ptx::mbarrier_init(&s.s.full, kWarps);
        ptx::mbarrier_init(&s.s.free, kWarps);
        ptx::mbarrier_init(&s.u_there.full, kWarps);
        ptx::mbarrier_init(&s.u_there.free, kWarps);
        ptx::mbarrier_init(&s.middle, kWarps);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
}

// 16 x 16 of a warp's rows, as operand a holds them, into a panel.
__device__ __forceinline__ void store_block(u16* panel, const u32 (&x)[4], int col) {
    const int lane = lane_index(), row = warp_index() % 4 * 16;
    ptx::stmatrix_x4(panel + swizzled(row + lane % 16, col + lane / 16 * 8), x[0], x[1], x[2],
                     x[3]);
}

// ---------------------------------------------------------------- chain

// U^T diag(2^(G_C - G)) as an operand.
__device__ __forceinline__ void pack_scaled(u32 (&a)[kTokenSteps][4], const float (&u)[kTokenSums],
                                            const Powers& to_end) {
#pragma unroll
    for (int j = 0; j < 2 * kTokenSteps; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
            a[j / 2][j % 2 * 2 + half] = pack_bf16(u[4 * j + 2 * half] * to_end.of[j].x,
                                                   u[4 * j + 2 * half + 1] * to_end.of[j].y);
}

__device__ __forceinline__ void walk_chunks(WalkShared& shared, const Problem& p,
                                            float (&s)[kStateSums]) {
    constexpr int kSteps = kDk / 16;
    u32 state[kSteps][4];
    Ring ring;
    pack_rows(state, s);
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.pipe.stage[ring.stage];
        const u32 parity = chunk % 2;
        float x[kTokenSums], u[kTokenSums];
        u32 v[kTokenSteps][4], r[kTokenSteps][4], later[kTokenSteps][4];
        ptx::mbarrier_wait(&shared.pipe.full[ring.stage], ring.parity);
        issue_read<0, kSteps>(x, state, in.k);
        ptx::mbarrier_wait(&shared.s.free, parity ^ 1);
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
            store_block(shared.state.panel[step / 4], state[step], step % 4 * 16);
        load_values(v, in.v);
        const Powers since_start = load_powers(in.made.since_start);
        const float decay = in.made.since_start[kChunk - 1];
        ptx::fence_async_shared();
        scale_state(s, decay);
        ptx::wgmma_wait<0>();
        arrive_warp(&shared.s.full);
        ptx::pin(x);
        subtract_read(r, v, x, since_start);
        issue_mix(u, r, in.made.t, 0);
        const Powers to_end = load_powers(in.made.to_end);
        ptx::wgmma_wait<0>();
        arrive_warp(&shared.middle);
        ptx::pin(u);
        pack_scaled(later, u, to_end);
        ptx::pin(s);
        issue_update(s, later, in.k);
        pack_rows(r, u);
        ptx::mbarrier_wait(&shared.u_there.free, parity ^ 1);
#pragma unroll
        for (int step = 0; step < kTokenSteps; ++step)
            store_block(shared.u.at, r[step], step * 16);
        ptx::fence_async_shared();
        ptx::wgmma_wait<0>();
        arrive_warp(&shared.u_there.full);
        ptx::pin(s);
        arrive_warp(&shared.pipe.empty[ring.stage]);
        pack_rows(state, s);
        ring.advance();
    }
}

// The first warpgroup: a head's columns from the first state to the last.
__device__ __forceinline__ void walk_head(WalkShared& shared, const Problem& p, const Place& at) {
    const size_t row = (static_cast<size_t>(at.batch) * p.heads + at.head) * kDk * p.dv;
    const int col = at.col + warp_index() * 16;
    float s[kStateSums] = {};
    if (p.first) move_state<false>(s, const_cast<float*>(p.first) + row, p.dv, col);
    walk_chunks(shared, p, s);
    if (p.last) move_state<true>(s, p.last + row, p.dv, col);
}

// ---------------------------------------------------------------- outputs

// o (+)= a b^T over 16 First .. 16 Last - 1, both K-major in panels of 64.
template <int First, int Last>
__device__ __forceinline__ void issue_outputs(float (&o)[kTokenSums], const void* a, const void* b,
                                              int accumulate) {
    const u64 da = ptx::k_major_128(a), db = ptx::k_major_128(b);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = First; step < Last; ++step) {
        const u64 at = step / 4 * (sizeof(Panel) >> 4) + step % 4 * ptx::kDescriptorStepK;
        ptx::wgmma_bf16(o, da + at, db + at, step > First ? 1 : accumulate);
    }
    ptx::wgmma_commit();
}

// The rows (tokens) of o times scale 2^(G_i).
__device__ __forceinline__ void scale_rows(float (&o)[kTokenSums], const float* since_start,
                                           float scale) {
    const int row = warp_index() % 4 * 16 + lane_index() / 4;
    const float top = scale * since_start[row], low = scale * since_start[row + 8];
#pragma unroll
    for (int j = 0; j < kTokenSums / 4; ++j)
        o[4 * j] *= top, o[4 * j + 1] *= top, o[4 * j + 2] *= low, o[4 * j + 3] *= low;
}

// Outputs into a panel and from there by TMA, which leaves out tokens beyond the sequence's end. Two
// panels take turns: when all have passed the barrier of one, the copy of the other, a chunk old,
// has been read.
__device__ __forceinline__ void store_outputs(const float (&o)[kTokenSums], Panel& panel,
                                              const TensorMap* map, int token, int column,
                                              int batch) {
    u32 packed[kTokenSteps][4];
    pack_rows(packed, o);
#pragma unroll
    for (int step = 0; step < kTokenSteps; ++step) store_block(panel.at, packed[step], step * 16);
    ptx::fence_async_shared();
    const bool issuer = threadIdx.x % kWarpgroup == 0;
    if (issuer) ptx::bulk_wait_read<0>();
    ptx::named_barrier_sync(1, kWarpgroup);
    if (issuer) {
        ptx::tma_store_4d(map, &panel, 0, token, column, batch);
        ptx::bulk_commit();
    }
}

__device__ __forceinline__ void make_outputs(WalkShared& shared, const Problem& p,
                                             const TensorMap* out, const Place& at) {
    constexpr int kSteps = kDk / 16;
    const int column = (at.head * p.dv + at.col) / kPanel;
    Ring ring;
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.pipe.stage[ring.stage];
        const u32 parity = chunk % 2;
        float o[kTokenSums];
        ptx::mbarrier_wait(&shared.pipe.full[ring.stage], ring.parity);
        ptx::mbarrier_wait(&shared.s.full, parity);
        issue_outputs<0, kSteps / 2>(o, &in.q, &shared.state, 0);
        ptx::mbarrier_wait(&shared.middle, parity);
        issue_outputs<kSteps / 2, kSteps>(o, &in.q, &shared.state, 1);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        arrive_warp(&shared.s.free);
        scale_rows(o, in.made.since_start, p.scale);
        ptx::mbarrier_wait(&shared.u_there.full, parity);
        ptx::pin(o);
        issue_outputs<0, kTokenSteps>(o, in.made.a, &shared.u, 1);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        arrive_warp(&shared.u_there.free);
        arrive_warp(&shared.pipe.empty[ring.stage]);
        store_outputs(o, shared.out[chunk % 2], out, chunk * kChunk, column, at.batch);
        ring.advance();
    }
    if (threadIdx.x % kWarpgroup == 0) ptx::bulk_wait<0>();
}

// ---------------------------------------------------------------- roles of three warpgroups

__device__ __forceinline__ void walk_by_roles(WalkShared& shared, const Problem& p,
                                              const Maps& maps, const Place& at, const u32* ready) {
    init_walk(shared);
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_grow<240>();
        walk_head(shared, p, at);
    } else if (role == 1) {
        ptx::registers_shrink<96>();
        make_outputs(shared, p, maps.out, at);
    } else {
        ptx::registers_shrink<24>();
        if (warp_index() == 2 * kWarpgroup / kWarp) {
            if (ptx::elect_one()) load_chunks(shared.pipe, p, maps, at, ready);
            __syncwarp();
        }
    }
}
