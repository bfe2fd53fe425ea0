// arch: sm_80
// registers: 255
// threads: 256
// dynamic_smem: 147456
// defines: OUT=0
// defines: OUT=1
// defines: OUT=2
// defines: OUT=3
//
// INT8 GEMM, rung 2: the Ampere path. Tensor cores by mma.sync, fed by ldmatrix from shared
// memory that cp.async fills several blocks ahead.
//
// Limits, 8192^3 with bf16 out: 1.10e12 operations.
//   tensor      m16n8k32 on an A100 runs at 4096 operations per clock and SM: 624 TOP/s at
//               1410 MHz, 1.76 ms. On an H200 mma.sync reaches about 5/8 of wgmma's 8192:
//               about 1200 TOP/s at 1830 MHz, 0.9 ms
//   shared      a warp's 64 x 64 x 32 step reads (64 + 64) * 32 = 4096 bytes, 32 clocks, for
//               262,144 operations: 51 clocks on the H200, 64 on the A100. Close, so the warp's
//               tile must not be smaller
//   L2 -> SM    a 128 x 256 tile, as rung 4: 30 bytes per clock and SM at that rate
//
// Registers: 8 warps in 2 x 4, each 64 x 64: 128 sums, 16 + 16 operand words; 1 CTA per SM.
// Shared memory: 3 stages of (128 + 256) * 128 = 147,456 bytes (an A100 offers 166,912). 16-byte
//   units are stored at unit ^ (row % 8), so that the 8 rows of an ldmatrix meet 8 bank groups.
//
// Schedule: | wait for block k | issue cp.async of block k + 2 | 4 steps of (8 ldmatrix, 32 mma) |
#include "common/async_copy.cuh"
#include "common/mma.cuh"
#include "int8_gemm/problem.cuh"

constexpr int kStages = 3;
constexpr int kTileM = 128;
constexpr int kTileN = 256;
constexpr int kTileK = 128;
constexpr int kUnits = kTileK / 16;
constexpr int kThreads = 256;
constexpr int kBand = 8;

struct Stage {
    s8 a[kTileM * kTileK];
    s8 b[kTileN * kTileK];
};

extern __shared__ __align__(128) u8 shared_bytes[];

__device__ __forceinline__ s8* swizzled(s8* tile, int row, int unit) {
    return tile + row * kTileK + ((unit ^ (row % 8)) << 4);
}

// Rows of one operand, 16 bytes per thread and turn; outside the matrix they become zero.
template <int Rows>
__device__ __forceinline__ void load_rows(s8* tile, const s8* base, int first_row, int rows,
                                          int pitch, int k, int k_end) {
#pragma unroll
    for (int i = 0; i < Rows * kUnits / kThreads; ++i) {
        const int part = i * kThreads + threadIdx.x;
        const int row = part / kUnits, unit = part % kUnits;
        const bool inside = first_row + row < rows && k + unit * 16 < k_end;
        const s8* from = base + (inside ? static_cast<size_t>(first_row + row) * pitch + k +
                                              unit * 16
                                        : 0);
        ptx::copy_async_16(swizzled(tile, row, unit), from, inside);
    }
}

__device__ __forceinline__ void load_stage(Stage& stage, const Problem& p, int row, int col,
                                           int k) {
    const int k_end = round_up(p.k, 16);  // the host pads rows with zeros to 16 bytes
    load_rows<kTileM>(stage.a, p.a, row, p.m, p.lda, k, k_end);
    load_rows<kTileN>(stage.b, p.b, col, p.n, p.ldb, k, k_end);
}

// The warp's 64 x 64 part of one block: 4 steps of 32 bytes of k.
__device__ __forceinline__ void multiply(Stage& stage, s32 (&sums)[4][8][4], int warp_row,
                                         int warp_col) {
    const int lane = lane_index();
#pragma unroll
    for (int step = 0; step < kTileK / 32; ++step) {
        u32 x[4][4];
        // Matrices: rows 0-7 and 8-15 of bytes 0-15, then of bytes 16-31: the order of mma's a.
#pragma unroll
        for (int i = 0; i < 4; ++i)
            ptx::ldmatrix_x4(x[i], swizzled(stage.a, warp_row + 16 * i + lane % 16,
                                            2 * step + lane / 16));
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            // Columns 0-7: bytes 0-15 and 16-31; then columns 8-15.
            u32 w[4];
            ptx::ldmatrix_x4(w, swizzled(stage.b, warp_col + 16 * j + lane / 16 * 8 + lane % 8,
                                         2 * step + lane / 8 % 2));
            const u32 left[2] = {w[0], w[1]}, right[2] = {w[2], w[3]};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                ptx::mma_s8(sums[i][2 * j], x[i], left);
                ptx::mma_s8(sums[i][2 * j + 1], x[i], right);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    int8_gemm(const __grid_constant__ Problem p) {
    Stage* stages = reinterpret_cast<Stage*>(shared_bytes);
    const TileIndex tile = tile_in_bands(blockIdx.x, ceil_div(p.m, kTileM), ceil_div(p.n, kTileN),
                                         kBand);
    const int row = tile.row * kTileM, col = tile.col * kTileN;
    const int k_blocks = ceil_div(p.k, kTileK);
    const int warp_row = warp_index() / 4 * 64, warp_col = warp_index() % 4 * 64;

#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
        if (stage < k_blocks) load_stage(stages[stage], p, row, col, stage * kTileK);
        ptx::copy_async_commit();  // an empty group keeps the count of groups right
    }
    s32 sums[4][8][4] = {};
    for (int block = 0; block < k_blocks; ++block) {
        ptx::copy_async_wait<kStages - 2>();
        __syncthreads();  // the block is in; and everyone has left the stage reloaded next
        const int next = block + kStages - 1;
        if (next < k_blocks) load_stage(stages[next % kStages], p, row, col, next * kTileK);
        ptx::copy_async_commit();
        multiply(stages[block % kStages], sums, warp_row, warp_col);
    }

    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int r = row + warp_row + 16 * i + 8 * half + g;
            const float scale = load_or_zero(p.row_scale, r, p.m);
#pragma unroll
            for (int j = 0; j < 8; ++j)
                store_pair(p, r, col + warp_col + 8 * j + 2 * t, sums[i][j][2 * half],
                           sums[i][j][2 * half + 1], scale);
        }
}
