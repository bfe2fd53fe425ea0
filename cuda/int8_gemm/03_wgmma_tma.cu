// arch: sm_90a
// registers: 128
// threads: 256
// dynamic_smem: 98336
// defines: OUT=0
// defines: OUT=1
// defines: OUT=2
// defines: OUT=3
//
// INT8 GEMM, rung 3: Hopper's own instructions. wgmma reads both operands from shared memory
// itself, and the copy engine (TMA) fills it: no thread computes an address or holds a fragment.
//
// Limits, 8192^3 with bf16 out on an H200: 1.10e12 operations, 556 us at 1830 MHz (see rung 5).
//   tensor      wgmma reaches 8192 operations per clock and SM, mma.sync (rung 2) about 5/8 of it
//   L2 -> SM    a 128 x 128 tile takes 256 * 128 bytes per 512 clocks: 64 bytes per clock and SM.
//               At 1.5 GHz that is 12.7 TB/s, about twice what L2 delivers: this binds
//   shared      m64n128k32 reads (64 + 128) * 32 bytes in 64 clocks: 96 of 128
//
// Registers: 2 CTAs per SM * 256 threads * 128 = 65,536; the sums take 64 of the 128.
// Shared memory: 3 stages of (128 + 128) * 128 = 98,304 bytes and 3 barriers; 2 CTAs per SM.
//
// Schedule: every thread waits for a stage, multiplies, waits for the products; then one thread
// reloads the stage. The second CTA of the SM fills the gaps that leaves.
//   | wait k0 | 4 wgmma | sync, load k3 | wait k1 | 4 wgmma | sync, load k4 | ...
#include "common/barrier.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "int8_gemm/problem.cuh"

constexpr int kGroups = 2;  // warpgroups, 64 rows of the tile each
constexpr int kStages = 3;
constexpr int kTileM = 64 * kGroups;
constexpr int kTileN = 128;
constexpr int kTileK = 128;
constexpr int kBand = 16;
constexpr int kStageBytes = (kTileM + kTileN) * kTileK;
constexpr int kAccumulators = kTileN / 2;
constexpr int kThreads = kWarpgroup * kGroups;

struct Shared {
    s8 a[kStages][kTileM * kTileK];
    s8 b[kStages][kTileN * kTileK];
    u64 full[kStages];
};

extern __shared__ __align__(1024) u8 shared_bytes[];

__device__ __forceinline__ void load_stage(Shared& s, int stage, const TensorMap* a,
                                           const TensorMap* b, int k, int row, int col) {
    ptx::mbarrier_arrive_expect(&s.full[stage], kStageBytes);
    ptx::tma_load_2d(s.a[stage], a, &s.full[stage], k, row);
    ptx::tma_load_2d(s.b[stage], b, &s.full[stage], k, col);
}

__device__ __forceinline__ void store_tile(const Problem& p, const s32 (&sums)[kAccumulators],
                                           int row, int col) {
    const int lane = lane_index();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int r = row + lane / 4 + 8 * half;
        const float scale = load_or_zero(p.row_scale, r, p.m);
#pragma unroll
        for (int j = 0; j < kTileN / 8; ++j)
            store_pair(p, r, col + 8 * j + lane % 4 * 2, sums[4 * j + 2 * half],
                       sums[4 * j + 2 * half + 1], scale);
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, 2)
    int8_gemm(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_a,
              const __grid_constant__ TensorMap map_b) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const TileIndex tile = tile_in_bands(blockIdx.x, ceil_div(p.m, kTileM), ceil_div(p.n, kTileN),
                                         kBand);
    const int row = tile.row * kTileM, col = tile.col * kTileN;
    const int k_blocks = ceil_div(p.k, kTileK);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) ptx::mbarrier_init(&s.full[stage], 1);
        ptx::fence_mbarrier_init();
        for (int stage = 0; stage < least(kStages, k_blocks); ++stage)
            load_stage(s, stage, &map_a, &map_b, stage * kTileK, row, col);
    }
    __syncthreads();

    ptx::Ring<kStages> ring;
    s32 sums[kAccumulators];
    int block = 0;
#pragma unroll 1
    do {
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        const u64 a = ptx::k_major_128(s.a[ring.stage] + warpgroup_index() * 64 * kTileK);
        const u64 b = ptx::k_major_128(s.b[ring.stage]);
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < kTileK / 32; ++step)
            ptx::wgmma_s8(sums, a + step * ptx::kDescriptorStepK,
                          b + step * ptx::kDescriptorStepK, block + step > 0);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        ptx::pin(sums);
        __syncthreads();  // both warpgroups have read the stage
        if (threadIdx.x == 0 && block + kStages < k_blocks)
            load_stage(s, ring.stage, &map_a, &map_b, (block + kStages) * kTileK, row, col);
        ring.advance();
    } while (++block < k_blocks);
    store_tile(p, sums, row + warp_index() * 16, col);
}
