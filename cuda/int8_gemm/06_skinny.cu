// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 231424
// cluster: 4
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
// every SM from the first microsecond to the last.
//
// Limits, m = 16 on an H200 (132 SMs, reads at 4.2 to 4.4 TB/s at these sizes):
//   n x k = 28672 x 4096: 117 MB -> 27 us;   4096 x 14336: 58.7 MB -> 14 us
//   in flight: 4.3 TB/s * ~0.8 us = 3.4 MB, 26 KiB per SM; the ring holds 144 KiB and more
//   tensor: a 128 x 128 block of weights arrives each ~900 clocks and takes 8 products
//           m64n16k32: under 200 clocks
//
// Two ideas:
// 1. The operands change places: 128 rows of weights are the product's M side (two consumer
//    warpgroups, 64 rows each), the activations its N side, padded to TILE_M = 8, 16, 32 or 64.
//      d[j, i] = sum_k b[j, k] a[i, k]
// 2. Split-K over a cluster: 4096 x 14336 has only 32 tiles of 128 weight rows, so the 4 CTAs of a
//    cluster take a quarter of k each, and 128 SMs stream. Their sums meet in shared memory: CTA r
//    owns a quarter of the tile's sums and receives that quarter from the other three by st.async,
//    which counts bytes on the receiver's mbarrier. No second launch, no workspace, no atomics,
//    no fence; and integer addition makes the result independent of who arrives when.
//    The producer does not take part: the next tile's weights stream in all the while.
//    (Stream-K over all 132 SMs with atomics in L2 was slower: 33.8 us and 20.9 us at m = 16,
//    about 4 us of it the chain add, fence, count, read back at the very end.)
//
// Shared memory: a stage is 128 * 128 bytes of weights and TILE_M * 128 of activations; received
//   sums are two buffers of 3 senders * 256 threads * TILE_M / 8 words. As many stages as fit:
//   12, 11, 10, 7 for TILE_M = 8, 16, 32, 64.
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
constexpr int kCluster = 4;
constexpr int kConsumers = 2;
constexpr int kConsumerThreads = kConsumers * kWarpgroup;
constexpr int kThreads = kConsumerThreads + kWarpgroup;
constexpr int kAccumulators = kTileM / 2;
constexpr int kOwned = kAccumulators / kCluster;  // sums of a thread that its CTA finishes
constexpr int kVector = least(kOwned, 4);         // words per st.async

// Sums from the other CTAs of the cluster; two buffers, since a fast CTA may be a tile ahead.
using Received = s32[kCluster - 1][kOwned / kVector][kConsumerThreads][kVector];
constexpr int kReceivedBytes = sizeof(Received);

constexpr int kStageBytes = (kTileM + kTileN) * kTileK;
constexpr int kStages = (231424 - 512 - 2 * kReceivedBytes) / kStageBytes;

struct Shared {
    s8 weights[kStages][kTileN * kTileK];
    s8 acts[kStages][kTileM * kTileK];
    Received received[2];
    u64 full[kStages];
    u64 empty[kStages];
    u64 sums_in[2];
};
static_assert(sizeof(Shared) <= 231424, "shared memory of one SM");

extern __shared__ __align__(1024) u8 shared_bytes[];

// The k-blocks of this CTA, in every tile of its cluster.
struct Work {
    int tiles, first_block, blocks;
    __device__ __forceinline__ Work(const Problem& p) {
        const int rank = ptx::cluster_rank(), k_blocks = ceil_div(p.k, kTileK);
        tiles = ceil_div(p.n, kTileN);
        first_block = k_blocks * rank / kCluster;
        blocks = k_blocks * (rank + 1) / kCluster - first_block;
    }
};

__device__ __forceinline__ void produce(Shared& s, const TensorMap* weights,
                                        const TensorMap* acts, const Work& work) {
    ptx::Ring<kStages> ring;
    for (int tile = blockIdx.x / kCluster; tile < work.tiles; tile += gridDim.x / kCluster) {
        for (int block = 0; block < work.blocks; ++block) {
            const int k = (work.first_block + block) * kTileK;
            u64* full = &s.full[ring.stage];
            ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
            ptx::mbarrier_arrive_expect(full, kStageBytes);
            // Weights pass once; activations are read again by every tile.
            ptx::tma_load_2d(s.weights[ring.stage], weights, full, k, tile * kTileN,
                             ptx::Evict::kFirst);
            ptx::tma_load_2d(s.acts[ring.stage], acts, full, k, 0, ptx::Evict::kLast);
            ring.advance();
        }
    }
}

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

// Sums `Rank * kOwned ...` of this thread to the same thread of CTA `Rank`. Senders are numbered
// from the receiver: its right neighbour is 0.
__device__ __forceinline__ void send(Shared& s, const s32 (&sums)[kAccumulators], int rank,
                                     int buffer) {
    const int mine = ptx::cluster_rank(), thread = threadIdx.x - kWarpgroup;
    const int sender = (mine - rank - 1 + kCluster) % kCluster;
    const u32 barrier = ptx::cluster_address(&s.sums_in[buffer], rank);
#pragma unroll
    for (int part = 0; part < kOwned / kVector; ++part) {
        s32 vector[kVector];
#pragma unroll
        for (int i = 0; i < kVector; ++i) vector[i] = sums[rank * kOwned + part * kVector + i];
        const void* slot = s.received[buffer][sender][part][thread];
        ptx::store_async(ptx::cluster_address(slot, rank), barrier, vector);
    }
}

// The cluster's sums of the quarter that this CTA owns. A slot is read by the thread of the same
// index that its sender's next store to this buffer, two tiles on, waits for in between.
__device__ __forceinline__ void exchange(Shared& s, const s32 (&sums)[kAccumulators],
                                         s32 (&owned)[kOwned], int turn) {
    const int thread = threadIdx.x - kWarpgroup, buffer = turn % 2;
    if (thread == 0) ptx::mbarrier_arrive_expect(&s.sums_in[buffer], kReceivedBytes);
#pragma unroll
    for (int rank = 0; rank < kCluster; ++rank) {
        if (rank == static_cast<int>(ptx::cluster_rank())) {
#pragma unroll
            for (int i = 0; i < kOwned; ++i) owned[i] = sums[rank * kOwned + i];
        } else {
            send(s, sums, rank, buffer);
        }
    }
    ptx::mbarrier_wait(&s.sums_in[buffer], turn / 2 % 2);
#pragma unroll
    for (int sender = 0; sender < kCluster - 1; ++sender)
#pragma unroll
        for (int i = 0; i < kOwned; ++i)
            owned[i] += s.received[buffer][sender][i / kVector][thread][i % kVector];
}

__device__ __forceinline__ void store_one(const Problem& p, int row, int col, s32 sum) {
    if (row >= p.m || col >= p.n) return;
    const size_t at = static_cast<size_t>(row) * p.ldo + col;
    if constexpr (kRawSums) {
        static_cast<s32*>(p.out)[at] = sum;
    } else {
        const float bias = p.bias == nullptr ? 0.f : __ldg(p.bias + col);
        const float y = dequantise(sum, __ldg(p.row_scale + row), __ldg(p.col_scale + col), bias);
        if constexpr (kOutBytes == 4) static_cast<float*>(p.out)[at] = y;
        else static_cast<u16*>(p.out)[at] = OUT == OUT_FP16 ? to_f16(y) : to_bf16(y);
    }
}

// d[4 j + i] is weight row g + 8 (i / 2), activation row 8 j + 2 t + i % 2: transposed on the way
// out, in runs of 8 neighbouring columns. The output is small beside the weights.
__device__ __forceinline__ void store_owned(const Problem& p, const s32 (&owned)[kOwned], int tile,
                                            int group, int thread) {
    const int lane = thread % kWarp;
    const int col = tile * kTileN + group * 64 + thread / kWarp * 16 + lane / 4;
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
        const int index = ptx::cluster_rank() * kOwned + i;
        store_one(p, index / 4 * 8 + lane % 4 * 2 + index % 2, col + index / 2 % 2 * 8, owned[i]);
    }
}

__device__ __forceinline__ void consume(Shared& s, const Problem& p, const Work& work, int group,
                                        int thread) {
    ptx::Ring<kStages> ring;
    int turn = 0;
    for (int tile = blockIdx.x / kCluster; tile < work.tiles; tile += gridDim.x / kCluster) {
        s32 sums[kAccumulators] = {}, owned[kOwned];
        if (work.blocks > 0) multiply(s, ring, sums, work.blocks, group, thread);
        exchange(s, sums, owned, turn++);
        store_owned(p, owned, tile, group, thread);
    }
}

extern "C" __global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    int8_gemm(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_acts,
              const __grid_constant__ TensorMap map_weights) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            ptx::mbarrier_init(&s.full[stage], 1);
            ptx::mbarrier_init(&s.empty[stage], kConsumers);
        }
        ptx::mbarrier_init(&s.sums_in[0], 1);
        ptx::mbarrier_init(&s.sums_in[1], 1);
        ptx::fence_mbarrier_init();
    }
    ptx::cluster_sync();  // no sums may arrive before their barriers are set up

    const Work work(p);
    const int role = warpgroup_index();
    if (role == 0) {
        if (warp_index() == 0 && ptx::elect_one()) produce(s, &map_weights, &map_acts, work);
    } else {
        // Each CTA waits for all that is sent to it, so none leaves while its memory is written.
        consume(s, p, work, role - 1, threadIdx.x % kWarpgroup);
    }
}
