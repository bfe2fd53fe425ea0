// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 230400
// defines: HEAD_DIM=128 TILE_N=128 FP16=0
//
// Attention forward, rung 4: products and softmax overlap, by turns between warpgroups and by one
// block's delay within each (overlap.cuh has the schedule).
//
// Limits: as rung 2. Nothing keeps the exponentials from hiding behind the products at D = 128
//   (1.11 of 2.22 ms); what is left in the best published kernels is T = t_mma + k t_exp with k =
//   1.0 (D = 64, 128) to 1.2 (D = 256): 660 TFLOP/s at 1830 MHz for D = 128.
//
// Registers, of a consumer's 240 (D = 128, 256) or 160 (D = 64, three consumers):
//   D    keys  outputs + scores + weights
//   64   128   32 + 64 + 32 = 128
//   128  128   64 + 64 + 32 = 160
//   128  176   64 + 88 + 44 = 196
//   256  80    128 + 40 + 20 = 188
// Shared memory (bytes of 232,448): queries, then stages of keys and of values
//   64   128   24,576 + 4 * 2 * 16,384 = 155,648
//   128  128   32,768 + 2 * 2 * 32,768 = 163,840
//   128  176   32,768 + 2 * 2 * 45,056 = 212,992
//   256  80    65,536 + 2 * 2 * 40,960 = 229,376
//
// One CTA per tile, the tiles with the most keys first; 384 threads, 512 at D = 64.
#include "attention/overlap.cuh"
#include "attention/softmax.cuh"

struct Shared {
    Pipes pipes;
    Work work;
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

constexpr int kThreads = kWarpgroup * (1 + kConsumers);
constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : 240;
constexpr int kProducerRegisters = kConsumers == 3 ? 32 : 24;

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
        const int group = role - 1;
        if (group == 0) pass_turn(kConsumers - 1);  // the first turn is consumer 0's
        if (s.work.valid && s.work.blocks.count() > 0) {
            Attender<SoftmaxRows> attender;
            attender.attend(s.pipes, p, s.work, group);
        } else if (s.work.valid) {
            store_nothing_seen(p, s.work, s.work.first_row + 64 * group,
                               threadIdx.x % kWarpgroup);
        }
    }
}
