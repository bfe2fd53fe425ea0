// Rate of the tensor pipe by operand type and tile width: m64 nTILE_N wgmma, operands in shared
// memory, random data, no loads while it runs.
//
// Two warpgroups share B and have their own A, as a 128 x TILE_N tile of a product would; four
// stages of 128 bytes of K hold different data, so that operands toggle. One block a
// multiprocessor. Operand traffic per clock at the full rate: (64 + N) * 32 B / (N / 2) per
// warpgroup: 80 B (N = 256), 96 B (128), 128 B (64, the limit of shared memory).
//
// arch: sm_90a
// registers: 168
// threads: 256
// dynamic_smem: 196608
// defines: TYPE=bf16 TILE_N=64
// defines: TYPE=bf16 TILE_N=128
// defines: TYPE=bf16 TILE_N=256
// defines: TYPE=f16 TILE_N=64
// defines: TYPE=f16 TILE_N=128
// defines: TYPE=f16 TILE_N=256
// defines: TYPE=e4m3 TILE_N=64
// defines: TYPE=e4m3 TILE_N=128
// defines: TYPE=e4m3 TILE_N=256
// defines: TYPE=s8 TILE_N=64
// defines: TYPE=s8 TILE_N=128
// defines: TYPE=s8 TILE_N=256
#include "common/barrier.cuh"
#include "common/wgmma.cuh"
#include "roofs/stopwatch.cuh"

struct TensorParams {
    const uint4* data;  // kBytes of random operands
    float* sink;
    int rounds;  // each: kStages x 4 products a warpgroup
    Elapsed* elapsed;
};

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

// By the name in wgmma_<name>; in a namespace because s8 is also an integer type.
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

constexpr int kStages = 4;
constexpr int kRowBytes = 128;
constexpr int kTileA = 64 * kRowBytes;
constexpr int kTileB = TILE_N * kRowBytes;
constexpr int kStage = 2 * kTileA + kTileB;
constexpr int kBytes = kStages * kStage;
static_assert(kBytes <= 196608, "shared memory");

extern "C" __global__ void __launch_bounds__(256, 1) tensor_rate(const TensorParams p) {
    extern __shared__ __align__(1024) u8 tiles[];
    for (int i = threadIdx.x; i < kBytes / 16; i += blockDim.x) {
        reinterpret_cast<uint4*>(tiles)[i] = p.data[i];
    }
    ptx::fence_async_shared();
    __syncthreads();
    operand::TYPE::Accumulator d[TILE_N / 2] = {};
    const int group = warpgroup_index();
    const u64 a = ptx::k_major_128(tiles + group * kTileA);
    const u64 b = ptx::k_major_128(tiles + 2 * kTileA);
    Stopwatch watch;
    watch.start();
    ptx::wgmma_fence();
    for (int round = 0; round < p.rounds; ++round) {
#pragma unroll
        for (int stage = 0; stage < kStages; ++stage) {
#pragma unroll
            for (int k = 0; k < kRowBytes / 32; ++k) {
                const u64 offset = stage * (kStage >> 4) + k * ptx::kDescriptorStepK;
                JOIN(ptx::wgmma_, TYPE)(d, a + offset, b + offset, 1);
            }
            ptx::wgmma_commit();
            ptx::wgmma_wait<1>();
        }
    }
    ptx::wgmma_wait<0>();
    ptx::pin(d);
    watch.stop(p.elapsed);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < TILE_N / 2; ++i) sum += static_cast<float>(d[i]);
    if (sum == 12345.678f) p.sink[threadIdx.x] = sum;
}
