// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 230400
// cluster: 2
// defines: HEAD_DIM=128 TILE_N=176 FP16=0
// defines: HEAD_DIM=256 TILE_N=80 FP16=0
//
// Attention forward, rung 6: two CTAs of a cluster share keys and values.
//
// A tile of 128 queries takes 4096 / 128 = 32 bytes per clock of keys and values from L2, 17 GB at
// S = 16,384: what binds is power, and moving a byte from L2 to an SM costs about as much as 20
// FLOPs. Each CTA of a pair loads half of the panels and multicasts them to both.
#define CLUSTER 2
#include "attention/persistent.cuh"
#include "attention/softmax.cuh"

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(kThreads, 1)
    attention_forward(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_q,
                      const __grid_constant__ TensorMap map_k,
                      const __grid_constant__ TensorMap map_v) {
    persistent_attention<SoftmaxRows>(p, {&map_q, &map_k, &map_v});
}
