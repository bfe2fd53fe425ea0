// arch: sm_90a
// registers: 255
// threads: 256
// dynamic_smem: 230400
// defines: HEAD_DIM=128 TILE_N=128 FP16=0
//
// Attention forward, rung 2: wgmma on tiles that TMA brings.
//
// What changes against rung 1: a warpgroup multiplies 64 queries at once, keys and values come to
// the tensor cores straight from shared memory without passing registers, weights go in from
// registers; one thread starts the copy of a whole tile. Nothing overlaps yet but the next block's
// copy.
//
// Limits, D = 128, S = 16,384, 16 heads, not causal, on an H200 (132 SMs):
//   FLOP        4 S^2 D * 16 = 2.20e12; 4096 per clock and SM: 4.07e6 clocks, 2.22 ms at 1830 MHz
//   exponential S^2 * 16 = 4.29e9; 16 per clock and SM: 2.03e6 clocks, 1.11 ms
//   the rest    5.5 operations per score of 128 per clock: 1.40e6 clocks, 0.76 ms
//   memory      4 * 67 MB once: 0.06 ms
//   L2 -> SM    a tile of 128 queries reads 4096 / 128 = 32 bytes per clock at the full rate
//   One after the other: 4.09 ms, 537 TFLOP/s at 1830 MHz. The power limit lowers the clock.
//
// Registers, 128 keys: outputs 64, scores 64, weights 32 of 255.
// Shared memory, 128 keys: queries 32,768, 2 stages of keys and values 131,072.
//
// Schedule: | wait for block j | S = Q K^T | softmax | O += P V | barrier, start copy of j - 2 |
#include "attention/hopper.cuh"
#include "attention/softmax.cuh"

constexpr int kStages = 2;
constexpr int kThreads = kWarpgroup * kConsumers;

struct Shared {
    QueryTile q[kConsumers];
    KeyTile k[kStages];
    KeyTile v[kStages];
    u64 q_full, full[kStages];
    Work work;
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

// Keys and values of one block on one barrier.
__device__ __forceinline__ void load_block(Shared& s, int stage, const TensorMap* k,
                                           const TensorMap* v, int token, int head) {
    ptx::mbarrier_arrive_expect(&s.full[stage], 2 * kTileBytes);
    ptx::tma_load_4d(&s.k[stage], k, &s.full[stage], 0, token, head, 0);
    ptx::tma_load_4d(&s.v[stage], v, &s.full[stage], 0, token, head, 0);
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    attention_forward(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_q,
                      const __grid_constant__ TensorMap map_k,
                      const __grid_constant__ TensorMap map_v) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        s.work = work_of_block(p, kTileM, kTileN);
        ptx::mbarrier_init(&s.q_full, 1);
        for (int stage = 0; stage < kStages; ++stage) ptx::mbarrier_init(&s.full[stage], 1);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    const Work& work = s.work;
    const int group = warpgroup_index();
    const int first_row = work.first_row + 64 * group;
    if (!work.valid) return;
    if (work.blocks.count() <= 0) {
        store_nothing_seen(p, work, first_row, threadIdx.x % kWarpgroup);
        return;
    }
    const int first = work.blocks.needed.first;
    int block = work.blocks.needed.last - 1;
    if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect(&s.q_full, kConsumers * kQueryBytes);
        for (int i = 0; i < kConsumers; ++i)
            ptx::tma_load_4d(&s.q[i], &map_q, &s.q_full, 0,
                             work.q_start + work.first_row + 64 * i, work.head, 0);
        load_block(s, 0, &map_k, &map_v, work.kv_start + block * kTileN, work.kv_head);
    }

    const int row = first_row + warp_index() % 4 * 16 + lane_index() / 4;
    ptx::Ring<kStages> ring;
    SoftmaxRows rows(p, work);
    float o[kOutputs] = {}, scores[kScores];
    u32 weights[kTileN / 16][4];
    ptx::mbarrier_wait(&s.q_full, 0);
#pragma unroll 1
    for (; block >= first; --block) {
        __syncthreads();  // everyone has left the stage that is loaded next
        if (threadIdx.x == 0 && block > first)
            load_block(s, ring.stage ^ 1, &map_k, &map_v, work.kv_start + (block - 1) * kTileN,
                       work.kv_head);
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        issue_scores(scores, s.q[group], s.k[ring.stage]);
        ptx::wgmma_wait<0>();
        ptx::pin(scores);
        if (work.blocks.masked(block))
            mask_scores(scores, row, block * kTileN, work.q_len, work.kv_len, p.causal, p.window);
        rows.weigh(scores, p);
        scale_rows(o, rows.rescale);
        pack_rows(weights, scores);
        ptx::pin(o);
        issue_values(o, weights, s.v[ring.stage], 1);
        ptx::wgmma_wait<0>();
        ptx::pin(o);
        ring.advance();
    }
    rows.finish(p, work, row);
    store_outputs(p, work, first_row, o, rows.output_factors());
}
