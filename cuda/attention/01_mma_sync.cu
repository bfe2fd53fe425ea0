// arch: sm_80
// registers: 255
// threads: 256
// dynamic_smem: 98560
// defines: HEAD_DIM=64 FP16=0
// defines: HEAD_DIM=128 FP16=0
// defines: HEAD_DIM=256 FP16=0
//
// Attention forward, rung 1: the Ampere path. Tensor cores by mma.sync, fed by ldmatrix from shared
// memory that cp.async fills while the other operand is multiplied; flash attention's online
// softmax (Dao 2023, FlashAttention-2) keeps the scores in registers.
//
// Limits, D = 128, per score (one query and one key), in clocks of one SM:
//   tensor      4 D / 2048 on an A100 = 0.25; on an H200 mma.sync reaches about 5/8 of wgmma's
//               4096: 4 D / 2560 = 0.2
//   exponential 1 / 16 = 0.0625
//   the rest    scale, maximum, sum, half a conversion, rescaling D / kTileN: about 6.6 / 128 =
//   0.05 One after the other 0.31: 400 TFLOP/s at 1830 MHz on 132 SMs; all overlapped 0.2: 620.
//   shared      a warp's 32 x 48 x 16 step reads (32 + 48) * 32 bytes = 20 clocks for 49,152 FLOP,
//               19 clocks of tensor time on the H200: as close as it may be
//
// Registers, D = 128: 2 strips of 16 queries: outputs 2 * 64, scores 2 * 24, weights 2 * 12,
//   operands 8 + 4; of 255. D = 64 has 64 keys a block, D = 256 one strip and 32 keys.
// Shared memory, D = 128: queries 32,768, keys and values 12,288 each: 57,344; three CTAs on an
// A100.
#include "attention/ampere.cuh"
#include "attention/softmax.cuh"

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    attention_forward(const __grid_constant__ Problem p) {
    ampere_attention<SoftmaxRows>(p);
}
