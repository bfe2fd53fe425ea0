// The main loop of rungs 4 and 5: products and softmax overlapped in two ways (Shah et al. 2024,
// FlashAttention-3, sections 3.1 and 3.2).
//
// Within a warpgroup, the scores of block j are multiplied together with the values of block j + 1
// (blocks run from the last key to the first), and the softmax of block j runs while the latter
// product is still on its way:
//
//   wgmma    | S(j) = Q K(j)^T | O += P(j+1) V(j+1)      | S(j-1) ...
//   the rest |     (wait)      | P(j) = softmax of S(j)  | rescale O, pack P(j)
//
// Between warpgroups, named barriers make them take turns at issuing products, so that while one
// runs its exponentials the other one's products fill the tensor cores:
//
//   consumer 0 | S V | softmax | S V | softmax |
//   consumer 1 |     | S V | softmax | S V | softmax |
#pragma once
#include "attention/hopper.cuh"

constexpr int kStages = 2;

struct Pipes {
    QueryTile q[kConsumers];
    KeyTile k[kStages];
    KeyTile v[kStages];
    u64 q_full[kConsumers], q_empty[kConsumers];
    u64 k_full[kStages], k_empty[kStages];
    u64 v_full[kStages], v_empty[kStages];
};

// One thread. Every consumer warp frees what it has read: four arrivals a warpgroup.
__device__ __forceinline__ void init_pipes(Pipes& s) {
    for (int group = 0; group < kConsumers; ++group) {
        ptx::mbarrier_init(&s.q_full[group], 1);
        ptx::mbarrier_init(&s.q_empty[group], 4);
    }
    for (int stage = 0; stage < kStages; ++stage) {
        ptx::mbarrier_init(&s.k_full[stage], 1);
        ptx::mbarrier_init(&s.k_empty[stage], 4 * kConsumers);
        ptx::mbarrier_init(&s.v_full[stage], 1);
        ptx::mbarrier_init(&s.v_empty[stage], 4 * kConsumers);
    }
    ptx::fence_mbarrier_init();
}

using Ring = ptx::Ring<kStages>;

struct Maps {
    const TensorMap *q, *k, *v;
};

__device__ __forceinline__ void load_keys(KeyTile (&tiles)[kStages], u64* full, u64* empty,
                                          Ring& ring, const TensorMap* map, int token, int head) {
    ptx::mbarrier_wait(&empty[ring.stage], ring.parity ^ 1);
    load_tile(&tiles[ring.stage], map, &full[ring.stage], kTileBytes, token, head);
    ring.advance();
}

// Producer, one thread: the loads of one tile, in the order in which the consumers need them. Keys
// run one block ahead of values.
struct Loader {
    Ring k, v;
    u32 q_parity = 0;

    __device__ __forceinline__ void load(Pipes& s, const Maps& maps, const Work& work) {
        for (int group = 0; group < kConsumers; ++group) {
            ptx::mbarrier_wait(&s.q_empty[group], q_parity ^ 1);
            load_tile(&s.q[group], maps.q, &s.q_full[group], kQueryBytes,
                      work.q_start + work.first_row + 64 * group, work.head);
        }
        q_parity ^= 1;
        const attention::Range needed = work.blocks.needed;
        int token = work.kv_start + needed.last * kTileN;
        for (int block = needed.last; block >= needed.first; --block, token -= kTileN) {
            if (block > needed.first)
                load_keys(s.k, s.k_full, s.k_empty, k, maps.k, token - kTileN, work.kv_head);
            if (block < needed.last)
                load_keys(s.v, s.v_full, s.v_empty, v, maps.v, token, work.kv_head);
        }
    }
};

// Turns: barrier 1 + g belongs to consumer g, which waits there for the one before it.
__device__ __forceinline__ void take_turn(int group) {
    ptx::named_barrier_sync(1 + group, 2 * kWarpgroup);
}

__device__ __forceinline__ void pass_turn(int group) {
    ptx::named_barrier_arrive(1 + (group + 1) % kConsumers, 2 * kWarpgroup);
}

__device__ __forceinline__ void free_stage(u64* empty) {
    if (lane_index() == 0) ptx::mbarrier_arrive(empty);
}

// Earlier outputs are multiplied only when a row's maximum has grown: late in a long row it rarely
// does, and the vote costs less than the products.
__device__ __forceinline__ void rescale_outputs(float (&o)[kOutputs], const float (&factor)[2]) {
    if (__any_sync(kFullMask, factor[0] != 1.f || factor[1] != 1.f)) scale_rows(o, factor);
}

// A consumer warpgroup's part of the tiles it is given, one after another.
struct Attender {
    Ring k, v;
    u32 q_parity = 0;

    __device__ __forceinline__ void attend(Pipes& s, const Problem& p, const Work& work,
                                           int group) {
        const attention::Blocks& blocks = work.blocks;
        const int first_row = work.first_row + 64 * group;
        const int row = first_row + warp_index() % 4 * 16 + lane_index() / 4;
        RowState state;
        float o[kOutputs], scores[kScores], rescale[2];
        u32 weights[kTileN / 16][4];

        ptx::mbarrier_wait(&s.q_full[group], q_parity);
        q_parity ^= 1;
        int block = blocks.needed.last - 1;
        ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
        issue_scores(scores, s.q[group], s.k[k.stage]);
        ptx::wgmma_wait<0>();
        ptx::pin(scores);
        free_stage(&s.k_empty[k.stage]);
        k.advance();
        if (blocks.masked(block)) mask_scores(scores, p, work, row, block * kTileN);
        soften(scores, state, p.scale_log2, rescale);
        pack_rows(weights, scores);

        int accumulate = 0;
#pragma unroll 1
        for (--block; block >= blocks.needed.first; --block) {
            ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
            take_turn(group);
            issue_scores(scores, s.q[group], s.k[k.stage]);
            ptx::mbarrier_wait(&s.v_full[v.stage], v.parity);
            issue_values(o, weights, s.v[v.stage], accumulate);
            pass_turn(group);
            accumulate = 1;
            ptx::wgmma_wait<1>();
            ptx::pin(scores);
            free_stage(&s.k_empty[k.stage]);
            k.advance();
            if (blocks.masked(block)) mask_scores(scores, p, work, row, block * kTileN);
            soften(scores, state, p.scale_log2, rescale);
            ptx::wgmma_wait<0>();
            ptx::pin(o);
            free_stage(&s.v_empty[v.stage]);
            v.advance();
            rescale_outputs(o, rescale);
            pack_rows(weights, scores);
        }
        ptx::mbarrier_wait(&s.v_full[v.stage], v.parity);
        issue_values(o, weights, s.v[v.stage], accumulate);
        float inverse[2];
        finish(state, inverse);
        store_lse(p, work, row, state);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        free_stage(&s.v_empty[v.stage]);
        v.advance();
        scale_rows(o, inverse);
        // All four warps' products have read the queries before any warp overwrites them.
        ptx::named_barrier_sync(1 + kConsumers + group, kWarpgroup);
        store_outputs(p, work, first_row, s.q[group], o);
        ptx::fence_async_shared();  // the next queries arrive here through the async proxy
        free_stage(&s.q_empty[group]);
    }
};
