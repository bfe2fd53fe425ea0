// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 229376
// defines: OUT=3 TILE_M=8
// defines: OUT=3 TILE_M=16
// defines: OUT=3 TILE_M=32
// defines: OUT=3 TILE_M=64
// defines: OUT=0 TILE_M=16
// defines: OUT=1 TILE_M=16
// defines: OUT=2 TILE_M=16
//
// INT8 GEMM, rung 6: few rows (m <= 64). Read the weights once, at the speed of memory.
//
// With m rows each weight byte does 2 m operations: at m = 16, 32 operations per byte against the
// ~400 where the tensor cores would bind. Everything is about keeping enough loads in flight on
// every SM, and about not wasting the products' 64-row granularity on 16 rows.
//
// Limits, m = 16 on an H200 (132 SMs, reads at about 4.0 TB/s at these sizes):
//   n x k = 28672 x 4096: 117 MB -> 29 us;   4096 x 14336: 58.7 MB -> 15 us
//   in flight: 4 TB/s * ~0.8 us = 3.2 MB, 24 KiB per SM; the ring holds 192 KiB and more
//   tensor: a 128 x 128 block of weights arrives each ~900 clocks and takes 8 products
//           m64n16k32: under 200 clocks
//
// Two ideas:
// 1. The operands change places: 128 rows of weights are the product's M side (two consumer
//    warpgroups, 64 rows each), the activations its N side, padded to TILE_M = 8, 16, 32 or 64.
//      d[j, i] = sum_k b[j, k] a[i, k]
// 2. Stream-K: (tile of 128 weight rows, k-block of 128 bytes) units in one long row, cut into as
//    many equal pieces as there are SMs. 4096 x 14336 is only 32 tiles, but 3584 units: 27 or 28
//    per SM. A piece that covers a tile partly adds its sums to a workspace in L2; int32 addition
//    is associative, so the result does not depend on the order. Each piece then adds its length
//    to the tile's counter; whoever completes it to k_blocks reads the workspace back, zeroes it
//    and the counter for the next launch, and finishes the tile. One launch, no second pass.
//
// Shared memory: a stage is 128 * 128 bytes of weights and TILE_M * 128 of activations; as many
//   stages as fit: 13, 12, 11, 9 for TILE_M = 8, 16, 32, 64.
// Registers: the accumulator is only TILE_M / 2 of the 168 that 384 threads leave each.
#include "common/barrier.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "int8_gemm/problem.cuh"

#ifndef TILE_M
#define TILE_M 16
#endif

constexpr int kTileM = TILE_M;
constexpr int kTileN = 128;  // rows of weights
constexpr int kTileK = 128;
constexpr int kStageBytes = (kTileM + kTileN) * kTileK;
constexpr int kStages = (229376 - 1024) / kStageBytes;
constexpr int kConsumers = 2;
constexpr int kConsumerThreads = kConsumers * kWarpgroup;
constexpr int kThreads = kConsumerThreads + kWarpgroup;
constexpr int kAccumulators = kTileM / 2;

struct Shared {
    s8 weights[kStages][kTileN * kTileK];
    s8 acts[kStages][kTileM * kTileK];
    u64 full[kStages];
    u64 empty[kStages];
    int finishes;  // whether this CTA completed the tile
};
static_assert(sizeof(Shared) <= 229376, "shared memory of one SM");

struct Params {
    Problem p;
    s32* workspace;  // [tiles][kAccumulators][kConsumerThreads], zero between launches
    int* done;       // [tiles]: k-blocks added so far, zero between launches
};

extern __shared__ __align__(1024) u8 shared_bytes[];

// This CTA's piece of the row of units.
struct Piece {
    int k_blocks, first, end;
    __device__ __forceinline__ Piece(const Problem& p) {
        k_blocks = ceil_div(p.k, kTileK);
        const s64 units = static_cast<s64>(ceil_div(p.n, kTileN)) * k_blocks;
        first = static_cast<int>(units * blockIdx.x / gridDim.x);
        end = static_cast<int>(units * (blockIdx.x + 1) / gridDim.x);
    }
};

__device__ __forceinline__ void produce(Shared& s, const TensorMap* weights,
                                        const TensorMap* acts, const Piece& piece) {
    ptx::Ring<kStages> ring;
    for (int unit = piece.first; unit < piece.end; ++unit) {
        const int k = unit % piece.k_blocks * kTileK;
        u64* full = &s.full[ring.stage];
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        ptx::mbarrier_arrive_expect(full, kStageBytes);
        // Weights pass once; activations are read again by every tile.
        ptx::tma_load_2d(s.weights[ring.stage], weights, full, k,
                         unit / piece.k_blocks * kTileN, ptx::Evict::kFirst);
        ptx::tma_load_2d(s.acts[ring.stage], acts, full, k, 0, ptx::Evict::kLast);
        ring.advance();
    }
}

// Sums of `blocks` k-blocks of one tile.
__device__ __forceinline__ void multiply(Shared& s, ptx::Ring<kStages>& ring,
                                         s32 (&sums)[kAccumulators], int blocks, int group,
                                         int thread) {
    int previous = 0, block = 0;
#pragma unroll 1
    do {
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        const u64 w = ptx::k_major_128(s.weights[ring.stage] + group * 64 * kTileK);
        const u64 x = ptx::k_major_128(s.acts[ring.stage]);
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < kTileK / 32; ++step)
            ptx::wgmma_s8(sums, w + step * ptx::kDescriptorStepK,
                          x + step * ptx::kDescriptorStepK, block + step > 0);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        if (block > 0 && thread == 0) ptx::mbarrier_arrive(&s.empty[previous]);
        previous = ring.stage;
        ring.advance();
    } while (++block < blocks);
    ptx::wgmma_wait<0>();
    ptx::pin(sums);
    if (thread == 0) ptx::mbarrier_arrive(&s.empty[previous]);
}

// Adds a partial tile to the workspace. True in the CTA whose addition completes the tile: `sums`
// is then the whole of it, and workspace and counter are zero again.
__device__ __forceinline__ bool complete_tile(Shared& s, const Params& params,
                                              s32 (&sums)[kAccumulators], int tile, int blocks,
                                              int k_blocks) {
    const int thread = threadIdx.x - kWarpgroup;
    // Fragment order: neighbours in a warp are neighbours in memory, whatever they hold.
    s32* mine = params.workspace + static_cast<size_t>(tile) * kAccumulators * kConsumerThreads;
    mine += thread;
#pragma unroll
    for (int i = 0; i < kAccumulators; ++i) atomicAdd(mine + i * kConsumerThreads, sums[i]);
    __threadfence();  // the sums before the count that announces them
    ptx::named_barrier_sync(1, kConsumerThreads);
    if (thread == 0) {
        const int before = atomicAdd(&params.done[tile], blocks);
        s.finishes = before + blocks == k_blocks;
        if (s.finishes) params.done[tile] = 0;
        __threadfence();
    }
    ptx::named_barrier_sync(1, kConsumerThreads);
    if (!s.finishes) return false;
    __threadfence();
#pragma unroll
    for (int i = 0; i < kAccumulators; ++i) sums[i] = __ldcg(mine + i * kConsumerThreads);
#pragma unroll
    for (int i = 0; i < kAccumulators; ++i) mine[i * kConsumerThreads] = 0;
    return true;
}

__device__ __forceinline__ void store_one(const Problem& p, int row, int col, s32 sum,
                                          float col_scale, float bias) {
    if (row >= p.m || col >= p.n) return;
    const size_t at = static_cast<size_t>(row) * p.ldo + col;
    if constexpr (kRawSums) {
        static_cast<s32*>(p.out)[at] = sum;
    } else {
        const float y = dequantise(sum, __ldg(p.row_scale + row), col_scale, bias);
        if constexpr (kOutBytes == 4) static_cast<float*>(p.out)[at] = y;
        else static_cast<u16*>(p.out)[at] = OUT == OUT_FP16 ? to_f16(y) : to_bf16(y);
    }
}

// d[4 j + i] is weight row g + 8 (i / 2), activation row 8 j + 2 t + i % 2: transposed on the way
// out, in runs of 8 neighbouring columns. The output is small beside the weights.
__device__ __forceinline__ void store_tile(const Problem& p, const s32 (&sums)[kAccumulators],
                                           int tile, int group, int thread) {
    const int lane = thread % kWarp;
    const int col = tile * kTileN + group * 64 + thread / kWarp * 16 + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float scale = load_or_zero(p.col_scale, col + 8 * half, p.n);
        const float bias = load_or_zero(p.bias, col + 8 * half, p.n);
#pragma unroll
        for (int j = 0; j < kAccumulators / 4; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i)
                store_one(p, 8 * j + lane % 4 * 2 + i, col + 8 * half, sums[4 * j + 2 * half + i],
                          scale, bias);
    }
}

__device__ __forceinline__ void consume(Shared& s, const Params& params, const Piece& piece,
                                        int group, int thread) {
    ptx::Ring<kStages> ring;
    for (int unit = piece.first; unit < piece.end;) {
        const int tile = unit / piece.k_blocks;
        const int blocks = least((tile + 1) * piece.k_blocks, piece.end) - unit;
        s32 sums[kAccumulators];
        multiply(s, ring, sums, blocks, group, thread);
        if (blocks == piece.k_blocks ||
            complete_tile(s, params, sums, tile, blocks, piece.k_blocks))
            store_tile(params.p, sums, tile, group, thread);
        unit += blocks;
    }
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    int8_gemm(const __grid_constant__ Params params, const __grid_constant__ TensorMap map_acts,
              const __grid_constant__ TensorMap map_weights) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            ptx::mbarrier_init(&s.full[stage], 1);
            ptx::mbarrier_init(&s.empty[stage], kConsumers);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();

    const Piece piece(params.p);
    const int role = warpgroup_index();
    if (role == 0) {
        if (warp_index() == 0 && ptx::elect_one()) produce(s, &map_weights, &map_acts, piece);
    } else {
        consume(s, params, piece, role - 1, threadIdx.x % kWarpgroup);
    }
}
