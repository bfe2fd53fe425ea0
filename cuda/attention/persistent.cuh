// The persistent schedule of rung 5: as many CTAs as SMs, each working tile after tile. The next
// tile's loads start while the last block of this one is multiplied, so neither the latency of the
// first loads nor the stores show; and tiles are handed out on demand, the long ones first, so that
// under a causal mask all CTAs end within one short tile of each other.
//
// Roles: a thread of warp 0 loads, warp 1 schedules, the other warpgroups multiply. What is
// to be done goes through two slots in shared memory; computing it in one place keeps the divisions
// out of the loader, whose registers are few.
#pragma once
#ifndef AHEAD
#define AHEAD 0
#endif
#if AHEAD
#include "attention/ahead.cuh"
#else
#include "attention/overlap.cuh"
#endif

struct Shared {
    Pipes pipes;
    Work work[2];
    u64 work_full[2], work_empty[2];
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

constexpr int kThreads = kWarpgroup * (1 + kConsumers);
constexpr int kConsumerRegisters = kConsumers == 4 ? 112 : kConsumers == 3 ? 160 : 232;
constexpr int kProducerRegisters = kConsumers == 4 ? 24 : kConsumers == 3 ? 32 : 40;

// ---------------------------------------------------------------- scheduler: one thread

__device__ __forceinline__ bool find_tile(const Problem& p, int index,
                                          attention::PackedTiles& packed, attention::Tile& tile) {
    if (p.q_starts != nullptr)
        return packed.find(index, p.q_starts, p.sequences, p.heads, kTileM, tile);
    const int blocks = ceil_div(p.q_len, kTileM);
    if (index >= blocks * p.heads * p.sequences) return false;
    tile = attention::uniform_tile(index, blocks, p.heads, p.sequences, p.section);
    return true;
}

// A cluster's CTAs work adjacent blocks of one head's queries, all clusters in turn: without a mask
// all tiles take the same time. A CTA whose block lies beyond the end computes along.
__device__ __forceinline__ void schedule_cluster(Shared& s, const Problem& p) {
    ptx::Ring<2> ring;
    const int blocks = ceil_div(p.q_len, kTileM * kCluster);
    const int tiles = blocks * p.heads * p.sequences;
    bool found = true;
    for (int index = blockIdx.x / kCluster; found; index += gridDim.x / kCluster) {
        ptx::mbarrier_wait(&s.work_empty[ring.stage], ring.parity ^ 1);
        found = index < tiles;
        if (found) {
            attention::Tile tile =
                attention::uniform_tile(index, blocks, p.heads, p.sequences, p.section);
            tile.block = tile.block * kCluster + static_cast<int>(ptx::cluster_rank());
            s.work[ring.stage] = work_of_tile(p, tile, kTileM, kTileN);
        }
        s.work[ring.stage].valid = found;
        ptx::mbarrier_arrive(&s.work_full[ring.stage]);
        ring.advance();
    }
}

// Hands out tiles in ascending order, each to the first CTA that asks; one tile is known ahead, so
// that the loads of the next one start while this one is computed. Tiles that see no key are
// stored here, by all of the warp, and not handed out.
__device__ __forceinline__ void schedule(Shared& s, const Problem& p) {
    attention::PackedTiles packed;
    ptx::Ring<2> ring;
    int index = blockIdx.x;
    while (true) {
        Work& work = s.work[ring.stage];
        ptx::mbarrier_wait(&s.work_empty[ring.stage], ring.parity ^ 1);
        if (lane_index() == 0) {
            attention::Tile tile{0, 0, 0};
            const bool found = find_tile(p, index, packed, tile);
            if (found) work = work_of_tile(p, tile, kTileM, kTileN);
            else work.valid = 0;
            index = gridDim.x + atomicAdd(&p.counters[0], found);
        }
        __syncwarp();
        const bool found = work.valid;
        if (found && work.blocks.count() <= 0) {
            store_nothing_seen(p, work, lane_index(), kWarp);
            __syncwarp();
            continue;
        }
        if (lane_index() == 0) ptx::mbarrier_arrive(&s.work_full[ring.stage]);
        ring.advance();
        if (!found) break;
    }
    // Every CTA sees the end once; the last one leaves the counters as it found them.
    if (lane_index() == 0 && atomicAdd(&p.counters[1], 1u) == gridDim.x - 1)
        p.counters[0] = p.counters[1] = 0;
}

// ---------------------------------------------------------------- loader: one thread

__device__ __forceinline__ void produce(Shared& s, const Maps& maps) {
    Loader loader;
    ptx::Ring<2> ring;
    while (true) {
        ptx::mbarrier_wait(&s.work_full[ring.stage], ring.parity);
        const Work& work = s.work[ring.stage];
        if (!work.valid) return;
        loader.load(s.pipes, maps, work);
        ptx::mbarrier_arrive(&s.work_empty[ring.stage]);
        ring.advance();
    }
}

// ---------------------------------------------------------------- consumers: 64 queries each

// The blocks of a tile, known to be the same in all lanes.
__device__ __forceinline__ attention::Blocks uniform_blocks(const attention::Blocks& b) {
    return {{uniform(b.needed.first), uniform(b.needed.last)},
            {uniform(b.whole.first), uniform(b.whole.last)}};
}

#if AHEAD
template <typename Rows>
__device__ __forceinline__ void consume(Shared& s, const Problem& p, int group) {
    Attender<Rows> attender;
    ptx::Ring<2> at;
    ptx::mbarrier_wait(&s.work_full[0], 0);
    if (!uniform(s.work[0].valid)) return;
    attender.begin(s.pipes, group);
    bool more = true;
    while (more) {
        ptx::Ring<2> next = at;
        next.advance();
        more = attender.attend(s.pipes, p, s.work[at.stage], group, [&] {
            ptx::mbarrier_wait(&s.work_full[next.stage], next.parity);
            return uniform(s.work[next.stage].valid) != 0;
        });
        __syncwarp();
        free_stage(&s.work_empty[at.stage]);
        at = next;
    }
}
#else
// As Attender of rung 4, but the scores that are multiplied beside a tile's last values are the
// first ones of the next tile: the pipeline never drains.
template <typename Rows>
__device__ __forceinline__ void consume(Shared& shared, const Problem& p, int group) {
    Pipes& s = shared.pipes;
    ptx::Ring<2> at;  // the slot of the tile whose values are multiplied next
    Ring k, v;
    QueryRing q;
    float o[kOutputs], scores[kScores];
    u32 weights[kTileN / 16][4];

    if (group == 0) pass_turn(kConsumers - 1);  // the first turn is consumer 0's
    ptx::mbarrier_wait(&shared.work_full[0], 0);
    if (!uniform(shared.work[0].valid)) return;
    const int row = 64 * group + warp_index() % 4 * 16 + lane_index() / 4;  // in a tile
    attention::Blocks blocks = uniform_blocks(shared.work[0].blocks);
    int block = blocks.needed.last - 1, accumulate = 0;
    Rows rows(p, shared.work[0]);

    // The scores of `block` have arrived; they become weights.
    const auto weigh = [&](const Work& work) {
        free_shared_stage(&s.k_empty[k.stage]);
        k.advance();
        if (block == blocks.needed.first) {
            free_stage(&s.q_empty[q.stage][group]);
            q.advance();
        }
        if (blocks.masked(block))
            mask_scores(scores, work.first_row + row, block * kTileN, work.q_len, work.kv_len,
                        p.causal, p.window);
        rows.weigh(scores, p);
    };

    ptx::mbarrier_wait(&s.q_full[q.stage][group], q.parity);
    ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
    issue_scores(scores, s.q[q.stage][group], s.k[k.stage]);
    ptx::wgmma_wait<0>();
    ptx::pin(scores);
    weigh(shared.work[0]);
    if (block > blocks.needed.first) ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
    rows.pack(weights, scores);
    bool more = true;
#pragma unroll 1
    while (more) {
        const bool ends = block == blocks.needed.first;
        ptx::Ring<2> next = at;
        if (ends) {
            next.advance();
            ptx::mbarrier_wait(&shared.work_full[next.stage], next.parity);
            more = uniform(shared.work[next.stage].valid);
            if (more) {
                ptx::mbarrier_wait(&s.q_full[q.stage][group], q.parity);
                ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
            }
        }
        take_turn(group);
        issue_scores(scores, s.q[q.stage][group], s.k[k.stage]);  // of no use after the last tile
        ptx::mbarrier_wait(&s.v_full[v.stage], v.parity);
        issue_values(o, weights, s.v[v.stage], accumulate);
        pass_turn(group);
        accumulate = !ends;
        ptx::wgmma_wait<1>();
        ptx::pin(scores);
        Rows finished = rows;
        --block;
        if (ends) {
            rows = Rows(p, shared.work[next.stage]);
            blocks = uniform_blocks(shared.work[next.stage].blocks);
            block = blocks.needed.last - 1;
        }
        if (more) weigh(shared.work[next.stage]);
        // Waiting for the next keys here and not at the top, with a parity that depends on the
        // weights, also keeps ptxas, which moves waits for products up and arithmetic down, from
        // waiting before the softmax.
        if (more && block > blocks.needed.first)
            ptx::mbarrier_wait(&s.k_full[k.stage], k.parity ^ rows.zero_after(scores));
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        free_shared_stage(&s.v_empty[v.stage]);
        v.advance();
        if (ends) {
            const Work& work = shared.work[at.stage];
            finished.finish(p, work, work.first_row + row);
            finished.normalise(o);
            store_outputs(p, work, work.first_row + 64 * group, o);
            __syncwarp();
            free_stage(&shared.work_empty[at.stage]);
        } else {
            rows.rescale_outputs(o);
        }
        at = next;
        rows.pack(weights, scores);
    }
}
#endif

// ---------------------------------------------------------------- roles

template <typename Rows>
__device__ __forceinline__ void persistent_attention(const Problem& p, const Maps& maps) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; ++i) {
            ptx::mbarrier_init(&s.work_full[i], 1);
            ptx::mbarrier_init(&s.work_empty[i], 4 * kConsumers + 1);
        }
        init_pipes(s.pipes);
    }
    if constexpr (kCluster > 1) ptx::cluster_sync();
    else __syncthreads();
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_shrink<kProducerRegisters>();
        if (warp_index() == 0 && ptx::elect_one()) produce(s, maps);
        if constexpr (kCluster > 1) {
            if (warp_index() == 1 && ptx::elect_one()) schedule_cluster(s, p);
        } else {
            if (warp_index() == 1) schedule(s, p);
        }
        __syncwarp();
    } else {
        ptx::registers_grow<kConsumerRegisters>();
        consume<Rows>(s, p, role - 1);
    }
    if constexpr (kCluster > 1) {
        __syncwarp();
        ptx::cluster_sync();  // the other CTA may still send into this one's shared memory
    }
}
