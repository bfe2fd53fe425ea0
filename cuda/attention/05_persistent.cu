// arch: sm_90a
// registers: 168
// threads: 512
// dynamic_smem: 230400
// defines: HEAD_DIM=64
// defines: HEAD_DIM=128
// defines: HEAD_DIM=128 TILE_N=176
// defines: HEAD_DIM=256
// defines: HEAD_DIM=128 FP16=1
#include "attention/persistent.cuh"
#include "attention/softmax.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    attention_forward(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_q,
                      const __grid_constant__ TensorMap map_k,
                      const __grid_constant__ TensorMap map_v) {
    persistent_attention<SoftmaxRows>(p, {&map_q, &map_k, &map_v});
}
