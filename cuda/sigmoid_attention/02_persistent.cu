// arch: sm_90a
// registers: 168
// threads: 512
// dynamic_smem: 230400
// defines: HEAD_DIM=64
// defines: HEAD_DIM=128
// defines: HEAD_DIM=128 FORM=1
#include "attention/persistent.cuh"
#include "sigmoid_attention/weights.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    sigmoid_attention(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_q,
                      const __grid_constant__ TensorMap map_k,
                      const __grid_constant__ TensorMap map_v) {
    persistent_attention<SigmoidRows>(p, {&map_q, &map_k, &map_v});
}
