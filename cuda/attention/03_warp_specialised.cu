// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 230400
// defines: HEAD_DIM=128 TILE_N=128 FP16=0
//
// Attention forward, rung 3: a warpgroup that only loads, two or three that only multiply.
//
// In rung 2 a barrier of the whole CTA ends every block, so all warpgroups are in their softmax at
// the same time and the tensor cores wait. Here consumers wait for data only: one may run ahead of
// the other by a stage, and its softmax then falls beside the other's products.
//
// Limits: as rung 2. FlashAttention-3's ablation without its softmax overlap reaches 582 TFLOP/s:
//   T = t_mma + k t_exp with k = 1.4 instead of rung 2's 1.7 (everything in turn).
//
// Registers: 65,536 = 128 * 24 (loading) + 256 * 240 (multiplying) + 1024 spare; with three
//   consumers (D = 64) 128 * 32 + 384 * 160. Shared memory: as rung 4.
//
// Schedule: producer   | K V | K V | as stages come free ...
//           consumer 0 | S | softmax | O |  S | softmax | O |
//           consumer 1 |    S | softmax | O |  S | softmax | O |      (wherever they drift to)
#include "attention/pipes.cuh"
#include "attention/softmax.cuh"

struct Shared {
    Pipes pipes;
    Work work;
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

constexpr int kThreads = kWarpgroup * (1 + kConsumers);
constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : 240;
constexpr int kProducerRegisters = kConsumers == 3 ? 32 : 24;

// One warpgroup's 64 queries: products and softmax strictly one after the other.
__device__ __forceinline__ void attend(Pipes& s, const Problem& p, const Work& work, int group) {
    const int first_row = work.first_row + 64 * group;
    const int row = first_row + warp_index() % 4 * 16 + lane_index() / 4;
    Ring ring;
    SoftmaxRows rows(p, work);
    float o[kOutputs] = {}, scores[kScores];
    u32 weights[kTileN / 16][4];

    ptx::mbarrier_wait(&s.q_full[group], 0);
#pragma unroll 1
    for (int block = work.blocks.needed.last - 1; block >= work.blocks.needed.first; --block) {
        ptx::mbarrier_wait(&s.k_full[ring.stage], ring.parity);
        issue_scores(scores, s.q[group], s.k[ring.stage]);
        ptx::wgmma_wait<0>();
        ptx::pin(scores);
        free_stage(&s.k_empty[ring.stage]);
        if (work.blocks.masked(block))
            mask_scores(scores, row, block * kTileN, work.q_len, work.kv_len, p.causal, p.window);
        rows.weigh(scores, p);
        scale_rows(o, rows.rescale);
        pack_rows(weights, scores);
        ptx::mbarrier_wait(&s.v_full[ring.stage], ring.parity);
        ptx::pin(o);
        issue_values(o, weights, s.v[ring.stage], 1);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        free_stage(&s.v_empty[ring.stage]);
        ring.advance();
    }
    rows.finish(p, work, row);
    store_outputs(p, work, first_row, o, rows.output_factors());
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    attention_forward(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_q,
                      const __grid_constant__ TensorMap map_k,
                      const __grid_constant__ TensorMap map_v) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        s.work = work_of_block(p, kTileM, kTileN);
        init_pipes(s.pipes);
    }
    __syncthreads();
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_shrink<kProducerRegisters>();
        if (warp_index() == 0 && ptx::elect_one() && s.work.valid && s.work.blocks.count() > 0) {
            Loader loader;
            loader.load(s.pipes, {&map_q, &map_k, &map_v}, s.work);
        }
        __syncwarp();
    } else {
        ptx::registers_grow<kConsumerRegisters>();
        if (s.work.valid && s.work.blocks.count() > 0) {
            attend(s.pipes, p, s.work, role - 1);
        } else if (s.work.valid) {
            store_nothing_seen(p, s.work, s.work.first_row + 64 * (role - 1),
                               threadIdx.x % kWarpgroup);
        }
    }
}
