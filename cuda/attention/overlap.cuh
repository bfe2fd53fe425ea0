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
#include "attention/pipes.cuh"

// Turns: barrier 1 + g belongs to consumer g, which waits there for the one before it.
__device__ __forceinline__ void take_turn(int group) {
    ptx::named_barrier_sync(1 + group, 2 * kWarpgroup);
}

__device__ __forceinline__ void pass_turn(int group) {
    ptx::named_barrier_arrive(1 + (group + 1) % kConsumers, 2 * kWarpgroup);
}

// What a warpgroup has written to its tile of queries is read by its products.
__device__ __forceinline__ void meet_after_writes(int group) {
    ptx::fence_async_shared();
    ptx::named_barrier_sync(1 + kConsumers + group, kWarpgroup);
}

// A consumer warpgroup's part of the tiles it is given, one after another.
template <typename Rows>
struct Attender {
    Ring k, v;
    u32 q_parity = 0;

    // `count` blocks that are of the tile but that none of this warpgroup's queries sees: their
    // stages are freed as they come, and `turns` turns passed on.
    __device__ __forceinline__ void skip(Pipes& s, int group, int count, int turns) {
        for (int i = 0; i < count; ++i) {
            if (i < turns) {
                take_turn(group);
                pass_turn(group);
            }
            ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
            free_stage(&s.k_empty[k.stage]);
            k.advance();
            ptx::mbarrier_wait(&s.v_full[v.stage], v.parity);
            free_stage(&s.v_empty[v.stage]);
            v.advance();
        }
    }

    // The scores of `block` have arrived; they, or the first of them, become weights.
    __device__ __forceinline__ void weigh(Pipes& s, const Problem& p, const Work& work,
                                          const attention::Blocks& blocks, Rows& rows,
                                          float (&scores)[kScores], int group, int row,
                                          int block) {
        ptx::pin(scores);
        free_stage(&s.k_empty[k.stage]);
        k.advance();
        if (block == blocks.needed.first) free_stage(&s.q_empty[group]);
        const bool masked = blocks.masked(block);
        if (masked)
            mask_scores(scores, row, block * kTileN, work.q_len, work.kv_len, p.causal, p.window);
        rows.weigh(scores, p, masked);
    }

    // Returns whether the weights hold (see the rows' finish).
    __device__ __forceinline__ bool attend(Pipes& s, const Problem& p, const Work& work,
                                           int group) {
        const int first_row = work.first_row + 64 * group;
        const attention::Range tile = work.blocks.needed;
        const attention::Blocks blocks = attention::key_blocks(
            first_row, 64, kTileN, work.q_len, work.kv_len, p.causal, p.window);
        const int row = first_row + warp_index() % 4 * 16 + lane_index() / 4;
        Rows rows(p, work);
        float o[kOutputs], scores[kScores];
        u32 weights[kTileN / 16][4];

        ptx::mbarrier_wait(&s.q_full[group], q_parity);
        q_parity ^= 1;
        if (blocks.count() <= 0) {
            free_stage(&s.q_empty[group]);
            skip(s, group, tile.last - tile.first, tile.last - tile.first - 1);
            store_nothing_seen(p, work, first_row, threadIdx.x % kWarpgroup);
            return true;
        }
        if constexpr (Rows::kScalesQueries) {
            Rows::scale_queries(p, &s.q[group], kQueryBytes);
            meet_after_writes(group);
        }
        skip(s, group, tile.last - blocks.needed.last, tile.last - blocks.needed.last);
        int block = blocks.needed.last - 1;
        ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
        issue_scores(scores, s.q[group], s.k[k.stage]);
        ptx::wgmma_wait<0>();
        weigh(s, p, work, blocks, rows, scores, group, row, block);
        rows.pack(weights, scores);
        if (blocks.count() > 1) ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);

        int accumulate = 0;
#pragma unroll 1
        for (--block; block >= blocks.needed.first; --block) {
            take_turn(group);
            issue_scores(scores, s.q[group], s.k[k.stage]);
            ptx::mbarrier_wait(&s.v_full[v.stage], v.parity);
            issue_values(o, weights, s.v[v.stage], accumulate);
            pass_turn(group);
            accumulate = 1;
            ptx::wgmma_wait<1>();
            weigh(s, p, work, blocks, rows, scores, group, row, block);
            // Waiting for the next keys here and not at the top, with a parity that depends on the
            // weights, also keeps ptxas, which moves waits for products up and arithmetic down,
            // from waiting before the softmax.
            if (block > blocks.needed.first)
                ptx::mbarrier_wait(&s.k_full[k.stage], k.parity ^ rows.zero_after(scores));
            ptx::wgmma_wait<0>();
            ptx::pin(o);
            free_stage(&s.v_empty[v.stage]);
            v.advance();
            rows.rescale_outputs(o);
            rows.pack(weights, scores);
        }
        ptx::mbarrier_wait(&s.v_full[v.stage], v.parity);
        issue_values(o, weights, s.v[v.stage], accumulate);
        const bool holds = rows.finish(p, work, row);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        free_stage(&s.v_empty[v.stage]);
        v.advance();
        skip(s, group, blocks.needed.first - tile.first, blocks.needed.first - tile.first);
        store_outputs(p, work, first_row, o, rows.output_factors());
        return holds;
    }
};
