// Rate of warp-level products (mma.sync), operands in registers: the path of Ampere and Ada, and
// what of a Hopper's tensor pipe it reaches. 16 warps a multiprocessor, 8 accumulators each.
//
// arch: sm_80 sm_90
// registers: 72
// threads: 512
// defines: TYPE=bf16
// defines: TYPE=f16
// defines: TYPE=s8
#include "common/mma.cuh"
#include "roofs/stopwatch.cuh"

struct TensorParams {
    const uint4* data;
    float* sink;
    int rounds;  // each: kTiles products a warp
    Elapsed* elapsed;
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
struct s8 {
    using Accumulator = s32;
};
}  // namespace operand

constexpr int kTiles = 8;

extern "C" __global__ void __launch_bounds__(512) tensor_sync_rate(const TensorParams p) {
    operand::TYPE::Accumulator d[kTiles][4] = {};
    u32 a[2][4];
    u32 b[4][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint4 v = p.data[threadIdx.x + 512 * i];
        a[i][0] = v.x, a[i][1] = v.y, a[i][2] = v.z, a[i][3] = v.w;
        const uint4 w = p.data[threadIdx.x + 512 * (2 + i)];
        b[2 * i][0] = w.x, b[2 * i][1] = w.y, b[2 * i + 1][0] = w.z, b[2 * i + 1][1] = w.w;
    }
    Stopwatch watch;
    watch.start();
    for (int round = 0; round < p.rounds; ++round) {
#pragma unroll
        for (int i = 0; i < kTiles; ++i) JOIN(ptx::mma_, TYPE)(d[i], a[i / 4], b[i % 4]);
    }
    watch.stop(p.elapsed);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) sum += static_cast<float>(d[i / 4][i % 4]);
    if (sum == 12345.678f) p.sink[threadIdx.x] = sum;
}
