// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 196672
// defines: OUT=0
// defines: OUT=1
// defines: OUT=2
// defines: OUT=3
//
// INT8 GEMM, rung 4: a warpgroup that only loads, two that only multiply, a bigger tile.
//
// In rung 3 the thread that issues loads also waits for products, so a late load delays the next
// load's issue; and its tile asks shared memory for 96 bytes per clock. Here loads run ahead of
// the products by the depth of the ring, whatever the consumers do.
//
// Limits, 8192^3 with bf16 out on an H200: 1.10e12 operations, 556 us at 1830 MHz (see rung 5).
//   L2 -> SM    (128 + 256) * 128 bytes per 1024 clocks: 48 bytes per clock and SM (rung 3: 64)
//   shared      m64n256k32 reads (64 + 256) * 32 bytes in 128 clocks: 80 of 128 (rung 3: 96)
//
// Registers: 128 * 24 (producer) + 256 * 240 (consumers) = 64,512 of 65,536; a consumer holds
//   64 x 256 sums in 128 registers. The hand-over (setmaxnreg) is what makes 128 x 256 fit.
// Shared memory: 4 stages of (128 + 256) * 128 = 196,608 bytes, barriers 64.
//
// Schedule: producer   | k0 k1 k2 k3 | k4 when consumers free stage 0 | ...
//           consumers  | wait full, 4 wgmma each, wait for them, free the stage |
// One tile per CTA, stored straight from registers: nothing overlaps the epilogue (rung 5).
#include "common/barrier.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "int8_gemm/problem.cuh"

constexpr int kConsumers = 2;
constexpr int kStages = 4;
constexpr int kTileM = 64 * kConsumers;
constexpr int kTileN = 256;
constexpr int kTileK = 128;
constexpr int kBand = 16;  // tile rows worked together for L2
constexpr int kStageBytes = (kTileM + kTileN) * kTileK;
constexpr int kAccumulators = kTileN / 2;
constexpr int kThreads = kWarpgroup * (1 + kConsumers);

struct Shared {
    s8 a[kStages][kTileM * kTileK];
    s8 b[kStages][kTileN * kTileK];
    u64 full[kStages];
    u64 empty[kStages];
};

extern __shared__ __align__(1024) u8 shared_bytes[];

__device__ __forceinline__ void produce(Shared& s, const TensorMap* a, const TensorMap* b,
                                        int k_blocks, int row, int col) {
    ptx::Ring<kStages> ring;
    for (int block = 0; block < k_blocks; ++block) {
        u64* full = &s.full[ring.stage];
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        ptx::mbarrier_arrive_expect(full, kStageBytes);
        ptx::tma_load_2d(s.a[ring.stage], a, full, block * kTileK, row);
        ptx::tma_load_2d(s.b[ring.stage], b, full, block * kTileK, col);
        ring.advance();
    }
}

__device__ __forceinline__ void multiply(Shared& s, s32 (&sums)[kAccumulators], int k_blocks,
                                         int group, int thread) {
    ptx::Ring<kStages> ring;
    int block = 0;
#pragma unroll 1
    do {
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        const u64 a = ptx::k_major_128(s.a[ring.stage] + group * 64 * kTileK);
        const u64 b = ptx::k_major_128(s.b[ring.stage]);
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < kTileK / 32; ++step)
            ptx::wgmma_s8(sums, a + step * ptx::kDescriptorStepK,
                          b + step * ptx::kDescriptorStepK, block + step > 0);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();  // the other warpgroup's products fill the wait
        if (thread == 0) ptx::mbarrier_arrive(&s.empty[ring.stage]);
        ring.advance();
    } while (++block < k_blocks);
    ptx::pin(sums);
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

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    int8_gemm(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_a,
              const __grid_constant__ TensorMap map_b) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            ptx::mbarrier_init(&s.full[stage], 1);
            ptx::mbarrier_init(&s.empty[stage], kConsumers);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();

    const TileIndex tile = tile_in_bands(blockIdx.x, ceil_div(p.m, kTileM), ceil_div(p.n, kTileN),
                                         kBand);
    const int k_blocks = ceil_div(p.k, kTileK);
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_shrink<24>();
        if (warp_index() == 0 && ptx::elect_one())
            produce(s, &map_a, &map_b, k_blocks, tile.row * kTileM, tile.col * kTileN);
    } else {
        ptx::registers_grow<240>();
        s32 sums[kAccumulators];
        multiply(s, sums, k_blocks, role - 1, threadIdx.x % kWarpgroup);
        const int row = tile.row * kTileM + (warp_index() - 4) * 16;
        store_tile(p, sums, row, tile.col * kTileN);
    }
}
