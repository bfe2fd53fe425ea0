// arch: sm_90a
// registers: 128
// threads: 512
// dynamic_smem: 225280
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 5: the walk by three roles, see roles.cuh; in one launch with its preparation where
// the walks leave room for it, after it elsewhere.
//
// Limits as rung 3; the chain's own clocks per chunk: X 330 with its latency, R 80, U 200, packing 100, S
// 330, packing 64, issue and waits 250: 1350, 350 us for 512 chunks.
//
// Registers: chain 240, outputs 152, loader 24 (of 504). Shared memory: rung 3's, and S^T 16 KB, U^T 8 KB
// in bf16; or 3 workers' 71 KB.
#include "delta_rule/concurrent.cuh"
#include "delta_rule/roles.cuh"

union Shared {
    WalkShared walk;
    PrepareShared prepare[kWorkers];
};
extern __shared__ __align__(1024) u8 shared_bytes[];

// Grid (preparers + dv / 64 * heads * batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    delta_rule(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
               const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (static_cast<int>(blockIdx.x) < p.preparers) {
        prepare_chunks(s.prepare, p);
        return;
    }
    const Walk walk = walk_of_block(p);
    walk_by_roles(s.walk, p, {&q, &k, &v}, walk.at, walk.ready);
    clear_ready(reinterpret_cast<u32*>(shared_bytes), p);
}

// Grid (dv / 64, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads, 1)
    walk(const __grid_constant__ Problem p, const __grid_constant__ TensorMap q,
         const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v) {
    const Place at = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x) * kPanel};
    walk_by_roles(reinterpret_cast<Shared*>(shared_bytes)->walk, p, {&q, &k, &v}, at, nullptr);
}
