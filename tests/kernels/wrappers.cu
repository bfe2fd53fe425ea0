// One tile through the shared wrappers: TMA load, wgmma, accumulators to memory.
//
// arch: sm_90a
// registers: 200
// threads: 128
// defines: TYPE=bf16 TILE_N=8
// defines: TYPE=bf16 TILE_N=128
// defines: TYPE=bf16 TILE_N=256
// defines: TYPE=f16 TILE_N=64
// defines: TYPE=e4m3 TILE_N=64
// defines: TYPE=s8 TILE_N=256
#include "common/tma.cuh"
#include "common/wgmma.cuh"

struct ProductParams {
    const u32* a;  // the same operands in plain rows of 128 bytes
    const u32* b;
    float* out;  // [64 x TILE_N]
};

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

namespace operand {
struct bf16 {
    using Accumulator = float;
};
struct f16 {
    using Accumulator = float;
};
struct e4m3 {
    using Accumulator = float;
};
struct s8 {
    using Accumulator = s32;
};
}  // namespace operand

constexpr u32 kBytesA = 64 * 128;
constexpr u32 kBytesB = TILE_N * 128;

__device__ __forceinline__ void store(const ProductParams& p,
                                      const operand::TYPE::Accumulator (&d)[TILE_N / 2]) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int i = 0; i < TILE_N / 2; ++i) {
        const int row = 16 * warp_index() + g + 8 * (i % 4 / 2);
        const int column = 8 * (i / 4) + 2 * t + i % 2;
        p.out[row * TILE_N + column] = static_cast<float>(d[i]);
    }
}

__device__ __forceinline__ void load_tiles(u8* a, u8* b, u64* full, const TensorMap* map_a,
                                           const TensorMap* map_b) {
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(full, 1);
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect(full, kBytesA + kBytesB);
        ptx::tma_load_2d(a, map_a, full, 0, 0);
        ptx::tma_load_2d(b, map_b, full, 0, 0);
    }
    ptx::mbarrier_wait(full, 0);
}

extern "C" __global__ void __launch_bounds__(128)
    product(const ProductParams p, const __grid_constant__ TensorMap map_a,
            const __grid_constant__ TensorMap map_b) {
    __shared__ __align__(1024) u8 a[kBytesA];
    __shared__ __align__(1024) u8 b[kBytesB];
    __shared__ u64 full;
    load_tiles(a, b, &full, &map_a, &map_b);
    operand::TYPE::Accumulator d[TILE_N / 2];
    const u64 da = ptx::k_major_128(a), db = ptx::k_major_128(b);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        JOIN(ptx::wgmma_, TYPE)
        (d, da + k * ptx::kDescriptorStepK, db + k * ptx::kDescriptorStepK, k != 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin(d);
    store(p, d);
}

// As product, with the rows of a in registers: lane (g, t) holds words t and t + 4 of rows g and
// g + 8 of its warp's 16.
extern "C" __global__ void __launch_bounds__(128)
    product_registers(const ProductParams p, const __grid_constant__ TensorMap map_a,
                      const __grid_constant__ TensorMap map_b) {
    __shared__ __align__(1024) u8 a[kBytesA];
    __shared__ __align__(1024) u8 b[kBytesB];
    __shared__ u64 full;
    load_tiles(a, b, &full, &map_a, &map_b);
    operand::TYPE::Accumulator d[TILE_N / 2];
    const int g = lane_index() / 4, t = lane_index() % 4;
    const u32* low = p.a + (16 * warp_index() + g) * 32;
    u32 rows[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        rows[k][0] = low[8 * k + t];
        rows[k][1] = low[8 * 32 + 8 * k + t];
        rows[k][2] = low[8 * k + t + 4];
        rows[k][3] = low[8 * 32 + 8 * k + t + 4];
    }
    const u64 db = ptx::k_major_128(b);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        JOIN(ptx::wgmma_, TYPE)(d, rows[k], db + k * ptx::kDescriptorStepK, k != 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin(d);
    store(p, d);
}
