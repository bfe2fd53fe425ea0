// How a producer thread feeds consumer warpgroups: rings of key and value tiles, a query tile per
// consumer, and who tells whom about them. Used by every warp-specialised rung.
#pragma once
#include "attention/hopper.cuh"

constexpr int kStages = kHeadDim == 64 ? 4 : 2;

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
// run one block ahead of values; the first keys go before the queries, whose place the consumers
// may still be reading for the tile before.
struct Loader {
    Ring k, v;
    u32 q_parity = 0;

    __device__ __forceinline__ void load(Pipes& s, const Maps& maps, const Work& work) {
        const attention::Range needed = work.blocks.needed;
        int token = work.kv_start + needed.last * kTileN;
        for (int block = needed.last; block >= needed.first; --block, token -= kTileN) {
            if (block > needed.first)
                load_keys(s.k, s.k_full, s.k_empty, k, maps.k, token - kTileN, work.kv_head);
            if (block == needed.last) load_queries(s, maps, work);
            else load_keys(s.v, s.v_full, s.v_empty, v, maps.v, token, work.kv_head);
        }
    }

    __device__ __forceinline__ void load_queries(Pipes& s, const Maps& maps, const Work& work) {
        for (int group = 0; group < kConsumers; ++group) {
            ptx::mbarrier_wait(&s.q_empty[group], q_parity ^ 1);
            load_tile(&s.q[group], maps.q, &s.q_full[group], kQueryBytes,
                      work.q_start + work.first_row + 64 * group, work.head);
        }
        q_parity ^= 1;
    }
};

__device__ __forceinline__ void free_stage(u64* empty) {
    if (lane_index() == 0) ptx::mbarrier_arrive(empty);
}
