// arch: sm_90a
// registers: 168
// threads: 512
// dynamic_smem: 230400
// defines: HEAD_DIM=128
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
