// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 230400
// defines: HEAD_DIM=64 TILE_N=128 CONSUMERS=3 FP16=0
// defines: HEAD_DIM=64 TILE_N=128 CONSUMERS=2 FP16=0
// defines: HEAD_DIM=128 TILE_N=128 FP16=0
// defines: HEAD_DIM=128 TILE_N=176 FP16=0
// defines: HEAD_DIM=256 TILE_N=64 FP16=0
// defines: HEAD_DIM=256 TILE_N=80 FP16=0
// defines: HEAD_DIM=128 TILE_N=128 FP16=1
//
// Attention forward, rung 5: CTAs that stay and take tile after tile (persistent.cuh has the
// roles).
//
// What is left between tiles in rung 4: a CTA's start, its first loads from L2 (about 1 us), its
// last product and its stores, about 3 us together. A tile of 128 queries at D = 128 takes
// S * 128 * 0.19 clocks = 227 us / (16,384 / S) at 1830 MHz: 3 us are 1 % at S = 16,384 and a fifth
// at S = 1024. Here the next tile's loads run during the last block, and under a causal mask the
// tiles are handed out from the longest to the shortest on demand.
//
// L2: the tiles in flight at one time belong to as many heads as half of L2 holds keys and values
//   for (Problem::section), so keys and values leave device memory about once.
//
// Power is what is left: beside the products every instruction per score costs time, whether or not
// issue is full. Hence the maximum of three integers (rows.cuh), references that lag behind the
// maximum so that outputs are seldom rescaled, and tiles by length: 176 keys a block where neither
// padding nor the diagonal wastes them, 128 queries instead of 192 (D = 64) under a short mask.
//
// Registers and shared memory: as rung 4; the two slots through which work is handed out take 128
// bytes.
#include "attention/persistent.cuh"
#include "attention/softmax.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    attention_forward(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_q,
                      const __grid_constant__ TensorMap map_k,
                      const __grid_constant__ TensorMap map_v) {
    persistent_attention<SoftmaxRows>(p, {&map_q, &map_k, &map_v});
}
