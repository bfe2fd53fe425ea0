// The main loop with the scores one block ahead: while block j is weighed, the tensor cores have the
// scores of block j + 1 and the values of block j - 1 to work on, so that neither a warpgroup waits
// for its own scores nor do warpgroups have to take turns.
//
//   wgmma    | S(j+1) = Q K(j+1)^T | O += P(j) V(j) | S(j+2) ...
//   the rest | P(j) = weights of S(j)               | P(j+1) ...
//
// The price is a second set of scores in registers.
#pragma once
#include "attention/pipes.cuh"

template <typename Rows>
struct Attender {
    Ring k, v, k_done, v_done;
    QueryRing q;
    float scores[2][kScores];

    __device__ __forceinline__ void open(int) {}

    __device__ __forceinline__ void begin(Pipes& s, int group) {
        wait_for_first(s, group);
        issue_first(s, group);
        ptx::wgmma_wait<0>();
    }

    __device__ __forceinline__ void wait_for_first(Pipes& s, int group) {
        ptx::mbarrier_wait(&s.q_full[q.stage][group], q.parity);
        ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
    }

    __device__ __forceinline__ void issue_first(Pipes& s, int group) {
        issue_scores(scores[0], s.q[q.stage][group], s.k[k.stage]);
        k.advance();
    }

    __device__ __forceinline__ void free_keys(Pipes& s) {
        free_stage(&s.k_empty[k_done.stage]);
        k_done.advance();
    }

    __device__ __forceinline__ void free_values(Pipes& s) {
        free_stage(&s.v_empty[v_done.stage]);
        v_done.advance();
    }

    // Scores that have arrived become weights, packed beside those that a product still reads.
    template <int Pending>
    __device__ __forceinline__ void weigh(Pipes& s, const Problem& p, const Work& work,
                                          const Rows& rows, int group, int row,
                                          float (&o)[kOutputs], float (&x)[kScores],
                                          u32 (&w)[kTileN / 16][4], int block, int first,
                                          int& accumulate) {
        ptx::pin(x);
        free_keys(s);
        if (block == first) {
            free_stage(&s.q_empty[q.stage][group]);
            q.advance();
        }
        if (uniform(work.blocks.masked(block))) {
            attention::Range keys[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int origin = block * kTileN + lane_index() % 4 * 2;
                keys[half] = attention::visible_keys(row + 8 * half, work.q_len, work.kv_len,
                                                     p.causal, p.window);
                keys[half].first -= origin;
                keys[half].last -= origin;
            }
            rows.weigh_packed(w, x, [&](float(&y)[8], int step) {
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    mask_row(y, half, keys[half].first - 16 * step, keys[half].last - 16 * step);
            });
        } else {
            rows.weigh_packed(w, x, [](float(&)[8], int) {});
        }
        ptx::mbarrier_wait(&s.v_full[v.stage], v.parity ^ rows.zero_after(w));
        ptx::wgmma_wait<Pending>();
        if (accumulate) free_values(s);
        issue_values(o, w, s.v[v.stage], accumulate);
        v.advance();
        accumulate = 1;
    }

    // One tile with a key at least, after its first scores. `next` tells whether another follows;
    // if not, the scores issued in its place are of whatever lies in shared memory, and unused.
    template <typename Next>
    __device__ __forceinline__ bool attend(Pipes& s, const Problem& p, const Work& work, int group,
                                           Next next) {
        const int first_row = work.first_row + 64 * group;
        const int row = first_row + warp_index() % 4 * 16 + lane_index() / 4;
        const Rows rows(p, work);
        const int first = uniform(work.blocks.needed.first);
        int block = uniform(work.blocks.needed.last) - 1, accumulate = 0;
        float o[kOutputs];
        u32 weights[2][kTileN / 16][4];
        const auto step = [&](float(&x)[kScores], float(&ahead)[kScores],
                              u32(&w)[kTileN / 16][4]) {
            ptx::mbarrier_wait(&s.k_full[k.stage], k.parity);
            issue_scores(ahead, s.q[q.stage][group], s.k[k.stage]);
            k.advance();
            ptx::wgmma_wait<2>();
            weigh<1>(s, p, work, rows, group, row, o, x, w, block--, first, accumulate);
        };
        const auto last = [&](float(&x)[kScores], u32(&w)[kTileN / 16][4]) {
            ptx::wgmma_wait<1>();
            weigh<0>(s, p, work, rows, group, row, o, x, w, block, first, accumulate);
        };
#pragma unroll 1
        while (true) {
            if (block == first) {
                last(scores[0], weights[0]);
                break;
            }
            step(scores[0], scores[1], weights[0]);
            if (block == first) {
                last(scores[1], weights[1]);
                break;
            }
            step(scores[1], scores[0], weights[1]);
        }
        const bool more = next();
        if (more) wait_for_first(s, group);
        issue_first(s, group);
        ptx::wgmma_wait<1>();
        ptx::pin(o);
        free_values(s);
        rows.normalise(o);
        store_outputs(p, work, first_row, o);
        ptx::wgmma_wait<0>();
        return more;
    }
};
