// arch: sm_80
// registers: 128
// threads: 256
// defines: OUT=0
// defines: OUT=1
// defines: OUT=2
// defines: OUT=3
//
// INT8 GEMM, rung 1: dp4a, four byte products and their sum per lane and instruction. No tensor
// cores: the blocked matrix product everybody writes first, and the fallback that runs anywhere.
//
// Limits, 8192^3 with bf16 out on an H200: 2 * 8192^3 = 1.10e12 operations.
//   dp4a        64 lanes per clock and SM (half the fp32 rate), 8 operations each: 512 per clock
//               and SM, 134 TOP/s at 1980 MHz: 8.2 ms. This binds
//   shared      per 4 bytes of k a thread reads 8 + 8 words and does 64 dp4a. A warp's reads are
//               2 * 2 wavefronts for a (2 distinct rows of 16 threads) and 2 * 2 for b: 8 clocks
//               of shared memory against 64 * 32 / 64 = 32 of dp4a per warp: not the bound
//   memory      268 MB compulsory, 63 us: not the bound
//
// Registers: 8 x 8 sums, 16 operand words, 4 words of the next block: about 100; 2 CTAs per SM.
// Shared memory: 2 buffers * 2 operands * 8 words of k * 132 (128 rows + 4 against bank conflicts
//   of the transposing store) * 4 bytes = 16,896.
//
// Schedule: load block k+1 from global memory into registers | 8 x 64 dp4a on block k | store
// block k+1 to the other buffer | sync.
#include "int8_gemm/problem.cuh"

constexpr int kTile = 128;    // rows of a and rows of b per CTA
constexpr int kTileK = 32;    // bytes: 8 words
constexpr int kWords = kTileK / 4;
constexpr int kPitch = kTile + 4;
constexpr int kThreads = 256;
constexpr int kBand = 16;

// Words of k outermost, so that a thread's 4 neighbouring rows are one 16-byte read.
using Buffer = int[kWords][kPitch];

// One thread's 16 bytes of a tile: row `thread / 2`, half `thread % 2` of the 32 bytes of k.
__device__ __forceinline__ int4 load_part(const s8* base, int first_row, int rows, int pitch,
                                          int k, int k_end) {
    const int row = first_row + threadIdx.x / 2;
    const int at = k + threadIdx.x % 2 * 16;
    if (row >= rows || at >= k_end) return make_int4(0, 0, 0, 0);
    return __ldg(reinterpret_cast<const int4*>(base + static_cast<size_t>(row) * pitch + at));
}

__device__ __forceinline__ void store_part(Buffer& buffer, int4 part) {
    const int row = threadIdx.x / 2, word = threadIdx.x % 2 * 4;
    buffer[word + 0][row] = part.x;
    buffer[word + 1][row] = part.y;
    buffer[word + 2][row] = part.z;
    buffer[word + 3][row] = part.w;
}

// Rows 4 i .. 4 i + 3 and 64 + 4 i .. of one word of k.
__device__ __forceinline__ void read_rows(const int (&words)[kPitch], int i, int (&rows)[8]) {
    const int4 low = *reinterpret_cast<const int4*>(&words[4 * i]);
    const int4 high = *reinterpret_cast<const int4*>(&words[64 + 4 * i]);
    rows[0] = low.x, rows[1] = low.y, rows[2] = low.z, rows[3] = low.w;
    rows[4] = high.x, rows[5] = high.y, rows[6] = high.z, rows[7] = high.w;
}

__device__ __forceinline__ void multiply(const Buffer& a, const Buffer& b, s32 (&sums)[8][8]) {
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
        int x[8], w[8];
        read_rows(a[word], threadIdx.x / 16, x);
        read_rows(b[word], threadIdx.x % 16, w);
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < 8; ++j) sums[i][j] = __dp4a(x[i], w[j], sums[i][j]);
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, 2)
    int8_gemm(const __grid_constant__ Problem p) {
    __shared__ __align__(16) Buffer a[2], b[2];
    const TileIndex tile = tile_in_bands(blockIdx.x, ceil_div(p.m, kTile), ceil_div(p.n, kTile),
                                         kBand);
    const int row = tile.row * kTile, col = tile.col * kTile;
    // Operand rows are padded with zeros to a multiple of 16 bytes: whole parts are safe to read.
    const int k_end = round_up(p.k, 16);

    s32 sums[8][8] = {};
    store_part(a[0], load_part(p.a, row, p.m, p.lda, 0, k_end));
    store_part(b[0], load_part(p.b, col, p.n, p.ldb, 0, k_end));
    __syncthreads();
    int now = 0;
    for (int k = 0; k < p.k; k += kTileK) {
        const int4 next_a = load_part(p.a, row, p.m, p.lda, k + kTileK, k_end);
        const int4 next_b = load_part(p.b, col, p.n, p.ldb, k + kTileK, k_end);
        multiply(a[now], b[now], sums);
        now ^= 1;
        store_part(a[now], next_a);
        store_part(b[now], next_b);
        __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int r = row + i / 4 * 64 + threadIdx.x / 16 * 4 + i % 4;
        const float scale = load_or_zero(p.row_scale, r, p.m);
#pragma unroll
        for (int j = 0; j < 8; j += 2)
            store_pair(p, r, col + j / 4 * 64 + threadIdx.x % 16 * 4 + j % 4, sums[i][j],
                       sums[i][j + 1], scale);
    }
}
