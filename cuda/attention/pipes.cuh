// How a producer thread feeds consumer warpgroups: rings of key and value tiles, a query tile per
// consumer, and who tells whom about them. Used by every warp-specialised rung.
#pragma once
#include "attention/hopper.cuh"

#ifndef CLUSTER
#define CLUSTER 1
#endif
#ifndef QUERY_STAGES
#define QUERY_STAGES 1
#endif

constexpr int kStages = STAGES;
constexpr int kCluster = CLUSTER;  // CTAs that share keys and values: each loads its part for all
static_assert(kPanels % kCluster == 0, "a part is a whole number of panels");
constexpr int kQueryStages = QUERY_STAGES;  // tiles whose queries lie in shared memory

struct Pipes {
    QueryTile q[kQueryStages][kConsumers];
    KeyTile k[kStages];
    KeyTile v[kStages];
    u64 q_full[kQueryStages][kConsumers], q_empty[kQueryStages][kConsumers];
    u64 k_full[kStages], k_empty[kStages];
    u64 v_full[kStages], v_empty[kStages];
};

// One thread. Every consumer warp frees what it has read: four arrivals a warpgroup.
__device__ __forceinline__ void init_pipes(Pipes& s) {
    for (int stage = 0; stage < kQueryStages; ++stage)
        for (int group = 0; group < kConsumers; ++group) {
            ptx::mbarrier_init(&s.q_full[stage][group], 1);
            ptx::mbarrier_init(&s.q_empty[stage][group], 4);
        }
    for (int stage = 0; stage < kStages; ++stage) {
        ptx::mbarrier_init(&s.k_full[stage], 1);
        ptx::mbarrier_init(&s.k_empty[stage], 4 * kConsumers * kCluster);
        ptx::mbarrier_init(&s.v_full[stage], 1);
        ptx::mbarrier_init(&s.v_empty[stage], 4 * kConsumers * kCluster);
    }
    ptx::fence_mbarrier_init();
}

using Ring = ptx::Ring<kStages>;
using QueryRing = ptx::Ring<kQueryStages>;

struct Maps {
    const TensorMap *q, *k, *v;
};

__device__ __forceinline__ void load_keys(KeyTile (&tiles)[kStages], u64* full, u64* empty,
                                          Ring& ring, const TensorMap* map, int token, int head) {
    ptx::mbarrier_wait(&empty[ring.stage], ring.parity ^ 1);
    if constexpr (kCluster == 1) {
        load_tile(&tiles[ring.stage], map, &full[ring.stage], kTileBytes, token, head);
    } else {
        const int panel = static_cast<int>(ptx::cluster_rank()) * (kPanels / kCluster);
        ptx::mbarrier_arrive_expect(&full[ring.stage], kTileBytes);
        ptx::tma_load_4d_multicast(&tiles[ring.stage].panel[panel], map, &full[ring.stage],
                                   (1 << kCluster) - 1, 0, token, head, panel);
    }
    ring.advance();
}

// Producer, one thread: the loads of one tile, in the order in which the consumers need them. Keys
// run one block ahead of values; the first keys go before the queries, whose place the consumers
// may still be reading for the tile before.
struct Loader {
    Ring k, v;
    QueryRing q;

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
            ptx::mbarrier_wait(&s.q_empty[q.stage][group], q.parity ^ 1);
            load_tile(&s.q[q.stage][group], maps.q, &s.q_full[q.stage][group], kQueryBytes,
                      work.q_start + work.first_row + 64 * group, work.head);
        }
        q.advance();
    }
};

__device__ __forceinline__ void free_stage(u64* empty) {
    if (lane_index() == 0) ptx::mbarrier_arrive(empty);
}

// Keys or values have been read: by this CTA's loader and by those that load a part of them.
__device__ __forceinline__ void free_shared_stage(u64* empty) {
    if constexpr (kCluster == 1) free_stage(empty);
    else if (lane_index() < kCluster) ptx::mbarrier_arrive_cluster(empty, lane_index());
}
