// The walk by three roles: a warpgroup that has the state and does only what the next chunk waits for,
// one that makes the outputs, a thread that loads.
//
//   chain    | X = S^T K^T | R | U^T = R T^T | pack | S^T += U^T K | pack |
//   outputs  | store O(-1)    | S^T Q^T           | U^T A^T           |
//
// S^T and U^T go to the outputs through shared memory in bf16, as the chain's own products take them,
// and from there into registers: nothing that a product of the chain waits for has to be fenced for
// the tensor cores, which takes 300 clocks.
#pragma once
#include "delta_rule/hopper.cuh"

// From the chain to the outputs: four warps arrive.
struct Handover {
    u64 full, free;
};

struct WalkShared {
    Pipe pipe;
    alignas(1024) KeyTile state;   // S^T [dv][dk]
    u16 update[kChunk * kPanel];   // U^T [dv][tokens]
    OutTile out[kWarpgroup / kWarp];
    Handover s, u;
};
static_assert(sizeof(WalkShared) <= 232448, "shared memory of one SM");

__device__ __forceinline__ void init_walk(WalkShared& shared) {
    if (threadIdx.x == 0) {
        constexpr int kWarps = kWarpgroup / kWarp;
        init_pipe(shared.pipe, 2 * kWarps);
        ptx::mbarrier_init(&shared.s.full, kWarps * kWarpArrivals);
        ptx::mbarrier_init(&shared.s.free, kWarps * kWarpArrivals);
        ptx::mbarrier_init(&shared.u.full, kWarps * kWarpArrivals);
        ptx::mbarrier_init(&shared.u.free, kWarps * kWarpArrivals);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
}

// ---------------------------------------------------------------- chain

// A lane's places in a panel, for each 16 columns of its warp's 16 rows. Opaque: worked out once, not in
// every chunk.
struct Places {
    int of[kPanel / 16];
};

__device__ __forceinline__ Places places_of_warp() {
    const int lane = lane_index(), row = warp_index() % 4 * 16;
    Places places;
#pragma unroll
    for (int i = 0; i < kPanel / 16; ++i)
        places.of[i] = opaque(swizzled(row + lane % 16, 16 * i + lane / 16 * 8));
    return places;
}

// 16 columns of a warp's 16 rows, as operand a holds them, into a panel.
__device__ __forceinline__ void store_block(u16* panel, const u32 (&x)[4], int place) {
    ptx::stmatrix_x4(panel + place, x[0], x[1], x[2], x[3]);
}

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
    const Places places = places_of_warp();
    const int values_at = opaque(transposed_row(0, warp_index() % 4 * 16));
    pack_rows(state, s);
    ptx::mbarrier_wait(&shared.pipe.full[0], 0);
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.pipe.stage[ring.stage];
        u64* empty = &shared.pipe.empty[ring.stage];
        const u32 parity = chunk % 2;
        float x[kTokenSums], u[kTokenSums];
        u32 v[kTokenSteps][4], r[kTokenSteps][4], later[kTokenSteps][4];
#if SPLIT & 1
        float x2[kTokenSums];
        issue_read_apart(x, x2, state, in.k);
#else
        issue_read<0, kSteps>(x, state, in.k);
#endif
        ptx::mbarrier_wait(&shared.s.free, parity ^ 1);
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
            store_block(shared.state.panel[step / 4], state[step], places.of[step % 4]);
        arrive_warp(&shared.s.full);
        load_values(v, in.v, values_at);
        const Powers since_start = load_powers(in.made.since_start);
        scale_state(s, in.made.since_start[kChunk - 1]);
        ptx::wgmma_wait<0>();
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
        const Powers to_end = load_powers(in.made.to_end);
        ptx::wgmma_wait<0>();
        ptx::pin(u);
#if SPLIT & 2
        ptx::pin(u2);
        add_sums(u, u2);
#endif
        pack_scaled(later, u, to_end);
        ptx::pin(s);
        issue_update(s, later, in.k);
        pack_rows(r, u);
        ptx::mbarrier_wait(&shared.u.free, parity ^ 1);
#pragma unroll
        for (int step = 0; step < kTokenSteps; ++step)
            store_block(shared.update, r[step], places.of[step]);
        arrive_warp(&shared.u.full);
        ring.advance();
        if (chunk + 1 < p.chunks) ptx::mbarrier_wait(&shared.pipe.full[ring.stage], ring.parity);
        ptx::wgmma_wait<0>();
        ptx::pin(s);
        arrive_warp(empty);
        pack_rows(state, s);
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

__device__ __forceinline__ void make_outputs(WalkShared& shared, const Problem& p,
                                             const Place& at) {
    constexpr int kSteps = kDk / 16;
    const Places places = places_of_warp();
    OutTile& tile = shared.out[warp_index() % 4];
    OutWay way = out_way(p, at);
    Ring ring;
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const Stage& in = shared.pipe.stage[ring.stage];
        const u32 parity = chunk % 2;
        float o[kTokenSums];
        u32 state[kSteps][4], u[kTokenSteps][4];
        ptx::mbarrier_wait(&shared.pipe.full[ring.stage], ring.parity);
        ptx::mbarrier_wait(&shared.s.full, parity);
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
            ptx::ldmatrix_x4(state[step], shared.state.panel[step / 4] + places.of[step % 4]);
        arrive_warp(&shared.s.free);
        issue_read<0, kSteps>(o, state, in.q);
        const Powers since_start = load_powers(in.made.since_start);
        ptx::mbarrier_wait(&shared.u.full, parity);
#pragma unroll
        for (int step = 0; step < kTokenSteps; ++step)
            ptx::ldmatrix_x4(u[step], shared.update + places.of[step]);
        arrive_warp(&shared.u.free);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        scale_tokens(o, since_start, p.scale);
        ptx::pin(o);
        issue_mix(o, u, in.made.a, 1);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        arrive_warp(&shared.pipe.empty[ring.stage]);
        store_outputs(o, tile, way, p.length - chunk * kChunk);
        ring.advance();
    }
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
        if (WORKERS == 3) ptx::registers_shrink<152>();
        else ptx::registers_grow<152>();
        make_outputs(shared, p, at);
    } else {
        ptx::registers_shrink<24>();
        if (warp_index() == 2 * kWarpgroup / kWarp) {
            if (ptx::elect_one()) load_chunks(shared.pipe, p, maps, at, ready);
            __syncwarp();
        }
    }
}
