// arch: sm_80
// registers: 255
// threads: 256
// dynamic_smem: 98560
// defines: HEAD_DIM=128 FP16=0 FORM=0
//
// Sigmoid attention, rung 1: the Ampere path (attention/ampere.cuh) with logistic weights.
//
// Limits: those of attention/01_mma_sync.cu less the maximum's shuffles, the sum and the rescaling;
//   the special functions and the other operations per score are in 02_persistent.cu.
#include "attention/ampere.cuh"
#include "sigmoid_attention/weights.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    sigmoid_attention(const __grid_constant__ Problem p) {
    ampere_attention<SigmoidRows>(p);
}
