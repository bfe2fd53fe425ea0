// arch: sm_80
// registers: 255
// threads: 256
// dynamic_smem: 98304
// defines: HEAD_DIM=128
#include "attention/ampere.cuh"
#include "sigmoid_attention/weights.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    sigmoid_attention(const __grid_constant__ Problem p) {
    ampere_attention<SigmoidRows>(p);
}
