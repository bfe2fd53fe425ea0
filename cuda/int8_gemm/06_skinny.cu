// arch: sm_90a
// registers: 168
// threads: 288
// dynamic_smem: 231424
// cluster: 2
// defines: OUT=3 TILE_M=8 RESIDENT=1
// defines: OUT=3 TILE_M=16 RESIDENT=1
// defines: OUT=3 TILE_M=32 RESIDENT=1
// defines: OUT=3 TILE_M=64 RESIDENT=1
// defines: OUT=3 TILE_M=8 RESIDENT=0
// defines: OUT=3 TILE_M=16 RESIDENT=0
// defines: OUT=3 TILE_M=32 RESIDENT=0
// defines: OUT=3 TILE_M=64 RESIDENT=0
// defines: OUT=0 TILE_M=16 RESIDENT=0
// defines: OUT=1 TILE_M=16 RESIDENT=0
// defines: OUT=2 TILE_M=16 RESIDENT=0
//
// INT8 GEMM, rung 6: few rows (m <= 64). Read the weights once, at the speed of memory.
//
// With m rows each weight byte does 2 m operations: at m = 16, 32 operations per byte against the
// ~400 where the tensor cores would bind. Everything is about keeping enough loads in flight on
// every SM from the first microsecond to the last.
//
// Limits, m = 16 on an H200 (132 SMs, reads at 4.2 to 4.4 TB/s at these sizes):
//   n x k = 28672 x 4096: 117 MB -> 27 us;   4096 x 14336: 58.7 MB -> 14 us
//   in flight: 4.3 TB/s * ~0.8 us = 3.4 MB, 26 KiB per SM; the ring holds 64 KiB and more
//   tensor: a 64 x 256 block of weights arrives each ~900 clocks and takes 8 products
//           m64n16k32: under 200 clocks
//
// Four ideas:
// 1. The operands change places: 64 rows of weights are the product's M side, the activations its
//    N side, padded to TILE_M = 8, 16, 32 or 64:  d[j, i] = sum_k b[j, k] a[i, k]
// 2. Split-K over a cluster of two: 4096 rows of weights are only 64 tiles, so the CTAs of a pair
//    take half of k each, and 128 SMs stream. The halves meet in shared memory: each CTA finishes
//    half of the tile's sums and receives the other's share of them by st.async, which counts
//    bytes on the receiver's mbarrier. No second launch, no workspace, no atomics, no fence; and
//    integer addition makes the result independent of who arrives when. The producer does not
//    take part: the next tile's weights stream in all the while.
// 3. A CTA works the same half of k in every tile. If its activations fit (RESIDENT: 8 blocks of
//    256 bytes of k, so k <= 4096) they are loaded with the first tile and stay.
// 4. Two consumer warpgroups take tiles in turn: one multiplies while the other exchanges sums
//    and stores. (With one, m = 64 was bound by that chain: 38.5 us at 28672 x 4096.)
//
// Schedule (one CTA; its neighbour works the other half of k):
//   producer    | weights of tile 0 | tile 1 | tile 2 | ... without a pause
//   consumer 0  |  multiply tile 0 | exchange, store |  multiply tile 2 | ...
//   consumer 1  |                  |  multiply tile 1 | exchange, store | ...
//
// Shared memory: a stage is 64 * 256 bytes of weights (and TILE_M * 256 of activations unless they
//   are resident: then 8 slots of them beside the ring); received sums are 2 * 2 buffers of 128
//   threads * TILE_M / 4 words. As many stages as fit: 11 at TILE_M = 16, at least 4.
// Registers: the accumulator is only TILE_M / 2.
#include "common/barrier.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "int8_gemm/problem.cuh"

#ifndef TILE_M
#define TILE_M 16
#endif
#ifndef RESIDENT
#define RESIDENT 0
#endif

constexpr int kTileM = TILE_M;
constexpr int kTileN = 64;    // rows of weights
constexpr int kTileK = 256;   // bytes: two swizzled tiles of 128
constexpr int kHalves = kTileK / 128;
constexpr int kCluster = 2;
constexpr int kConsumers = 2;
constexpr int kThreads = kConsumers * kWarpgroup + kWarp;  // the producer is the last warp
constexpr int kAccumulators = kTileM / 2;
constexpr int kOwned = kAccumulators / kCluster;  // sums of a thread that its CTA finishes
constexpr int kVector = least(kOwned, 4);         // words per st.async

// Sums from the other CTA; two buffers per consumer, since its namesake may be a tile ahead.
using Received = s32[kOwned / kVector][kWarpgroup][kVector];
constexpr int kReceivedBytes = sizeof(Received);

constexpr int kWeightBytes = kTileN * kTileK;
constexpr int kActBytes = kTileM * kTileK;
constexpr int kResidentBlocks = RESIDENT ? 8 : 0;
constexpr int kRoom = 231424 - 512 - 2 * kConsumers * kReceivedBytes - kResidentBlocks * kActBytes;
constexpr int kStages = kRoom / (kWeightBytes + (RESIDENT ? 0 : kActBytes));
constexpr int kActSlots = RESIDENT ? kResidentBlocks : kStages;

struct Shared {
    s8 weights[kStages][kHalves][kTileN * 128];
    s8 acts[kActSlots][kHalves][kTileM * 128];
    Received received[kConsumers][2];
    u64 full[kStages];
    u64 empty[kStages];
    u64 acts_in[RESIDENT ? kResidentBlocks : 1];
    u64 sums_in[kConsumers][2];
};
static_assert(sizeof(Shared) <= 231424, "shared memory of one SM");

extern __shared__ __align__(1024) u8 shared_bytes[];

// A position in the endless row of stages; consumers skip the tiles of the other one.
struct Position {
    u32 count = 0;
    __device__ __forceinline__ int stage() const { return count % kStages; }
    __device__ __forceinline__ u32 parity() const { return count / kStages & 1; }
};

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

// The producer's place in its row of loads: it stops once on the way.
struct Loads {
    int tile, block = 0;
    ptx::Ring<kStages> ring;
};

// The next `most` stages, or all that are left.
__device__ __forceinline__ void produce(Shared& s, const TensorMap* weights, const TensorMap* acts,
                                        const Work& work, Loads& at, int most) {
    const int first = blockIdx.x / kCluster;
    if (work.blocks == 0) return;
    for (int loaded = 0; loaded < most && at.tile < work.tiles; ++loaded) {
        const int k = (work.first_block + at.block) * kTileK, stage = at.ring.stage;
        u64* full = &s.full[stage];
        ptx::mbarrier_wait(&s.empty[stage], at.ring.parity ^ 1);
        ptx::mbarrier_arrive_expect(full, kWeightBytes + (RESIDENT ? 0 : kActBytes));
        u64* acts_full = RESIDENT ? &s.acts_in[at.block] : full;
        const bool with_acts = !RESIDENT || at.tile == first;
        if (RESIDENT && with_acts) ptx::mbarrier_arrive_expect(acts_full, kActBytes);
#pragma unroll
        for (int half = 0; half < kHalves; ++half) {
            // Weights pass once; activations are read again by every CTA.
            ptx::tma_load_2d(s.weights[stage][half], weights, full, k + half * 128,
                             at.tile * kTileN, ptx::Evict::kFirst);
            if (with_acts)
                ptx::tma_load_2d(s.acts[RESIDENT ? at.block : stage][half], acts, acts_full,
                                 k + half * 128, 0, ptx::Evict::kLast);
        }
        at.ring.advance();
        if (++at.block == work.blocks) {
            at.block = 0;
            at.tile += gridDim.x / kCluster;
        }
    }
}

__device__ __forceinline__ void multiply(Shared& s, Position& at, s32 (&sums)[kAccumulators],
                                         int blocks, int thread) {
    int previous = 0, block = 0;
#pragma unroll 1
    do {
        const int stage = at.stage();
        ptx::mbarrier_wait(&s.full[stage], at.parity());
        if (RESIDENT) ptx::mbarrier_wait(&s.acts_in[block], 0);
        ptx::wgmma_fence();
#pragma unroll
        for (int half = 0; half < kHalves; ++half) {
            const u64 w = ptx::k_major_128(s.weights[stage][half]);
            const u64 x = ptx::k_major_128(s.acts[RESIDENT ? block : stage][half]);
#pragma unroll
            for (int step = 0; step < 128 / 32; ++step)
                ptx::wgmma_s8(sums, w + step * ptx::kDescriptorStepK,
                              x + step * ptx::kDescriptorStepK, block + half + step > 0);
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        if (block > 0 && thread == 0) ptx::mbarrier_arrive(&s.empty[previous]);
        previous = stage;
        ++at.count;
    } while (++block < blocks);
    ptx::wgmma_wait<0>();
    ptx::pin(sums);
    if (thread == 0) ptx::mbarrier_arrive(&s.empty[previous]);
}

// Sums of the half that CTA `rank` owns, to the same thread there.
__device__ __forceinline__ void send(Shared& s, const s32 (&sums)[kAccumulators], int rank,
                                     int group, int buffer, int thread) {
    const u32 barrier = ptx::cluster_address(&s.sums_in[group][buffer], rank);
#pragma unroll
    for (int part = 0; part < kOwned / kVector; ++part) {
        s32 vector[kVector];
#pragma unroll
        for (int i = 0; i < kVector; ++i) vector[i] = sums[rank * kOwned + part * kVector + i];
        ptx::store_async(ptx::cluster_address(s.received[group][buffer][part][thread], rank),
                         barrier, vector);
    }
}

// The cluster's sums of the half that this CTA owns. A slot is read by the thread that the
// sender's next store to it, two turns on, has heard from in between.
__device__ __forceinline__ void exchange(Shared& s, const s32 (&sums)[kAccumulators],
                                         s32 (&owned)[kOwned], int group, int turn, int thread) {
    const int buffer = turn % 2;
    if (thread == 0) ptx::mbarrier_arrive_expect(&s.sums_in[group][buffer], kReceivedBytes);
#pragma unroll
    for (int rank = 0; rank < kCluster; ++rank) {
        if (rank == static_cast<int>(ptx::cluster_rank())) {
#pragma unroll
            for (int i = 0; i < kOwned; ++i) owned[i] = sums[rank * kOwned + i];
        } else {
            send(s, sums, rank, group, buffer, thread);
        }
    }
    ptx::mbarrier_wait(&s.sums_in[group][buffer], turn / 2 % 2);
#pragma unroll
    for (int i = 0; i < kOwned; ++i)
        owned[i] += s.received[group][buffer][i / kVector][thread][i % kVector];
}

// Element i of the sums that a thread finishes: d[4 j + e] of the accumulator is weight row
// g + 8 (e / 2), activation row 8 j + 2 t + e % 2.
__device__ __forceinline__ int element(int i) { return ptx::cluster_rank() * kOwned + i; }
__device__ __forceinline__ int row_of(int i, int t) {
    return element(i) / 4 * 8 + 2 * t + element(i) % 2;
}

// The scales of a thread's rows, which are the same in every tile, and of its two columns. Fetched
// before they are needed: each would otherwise be a trip to L2 between two stores.
struct Scales {
    float rows[kOwned], cols[2], biases[2];

    __device__ __forceinline__ Scales(const Problem& p, int thread) {
        if constexpr (!kRawSums)
#pragma unroll
            for (int i = 0; i < kOwned; ++i)
                rows[i] = load_or_zero(p.row_scale, row_of(i, thread % 4), p.m);
    }

    __device__ __forceinline__ void fetch(const Problem& p, int col) {
        if constexpr (!kRawSums)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                cols[half] = load_or_zero(p.col_scale, col + 8 * half, p.n);
                biases[half] = load_or_zero(p.bias, col + 8 * half, p.n);
            }
    }
};

// Transposed on the way out, in runs of 8 neighbouring columns from `col`: the output is small
// beside the weights.
__device__ __forceinline__ void store_owned(const Problem& p, const s32 (&owned)[kOwned],
                                            const Scales& scales, int first_col, int thread) {
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
        const int half = element(i) / 2 % 2;
        const int row = row_of(i, thread % 4), col = first_col + 8 * half;
        if (row >= p.m || col >= p.n) continue;
        const size_t at = static_cast<size_t>(row) * p.ldo + col;
        if constexpr (kRawSums) {
            static_cast<s32*>(p.out)[at] = owned[i];
        } else {
            const float y = dequantise(owned[i], scales.rows[i],
                                       half ? scales.cols[1] : scales.cols[0],
                                       half ? scales.biases[1] : scales.biases[0]);
            if constexpr (kOutBytes == 4) static_cast<float*>(p.out)[at] = y;
            else static_cast<u16*>(p.out)[at] = OUT == OUT_FP16 ? to_f16(y) : to_bf16(y);
        }
    }
}

__device__ __forceinline__ void consume(Shared& s, const Problem& p, const Work& work, int group,
                                        int thread) {
    const int stride = gridDim.x / kCluster;
    Scales scales(p, thread);
    Position at;
    at.count = group * work.blocks;
    int turn = 0;
    for (int tile = blockIdx.x / kCluster + group * stride; tile < work.tiles;
         tile += kConsumers * stride) {
        s32 sums[kAccumulators] = {}, owned[kOwned];
        const int col = tile * kTileN + thread / kWarp * 16 + thread % kWarp / 4;
        scales.fetch(p, col);
        // In order: a wait by parity can tell a stage's phase only from the one before, so all
        // earlier stages must have been seen by somebody.
        if (tile >= stride) ptx::named_barrier_sync(1 + group, kConsumers * kWarpgroup);
        if (work.blocks > 0) multiply(s, at, sums, work.blocks, thread);
        if (tile + stride < work.tiles)
            ptx::named_barrier_arrive(2 - group, kConsumers * kWarpgroup);
        at.count += (kConsumers - 1) * work.blocks;
        exchange(s, sums, owned, group, turn++, thread);
        store_owned(p, owned, scales, col, thread);
    }
}

extern "C" __global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    int8_gemm(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_acts,
              const __grid_constant__ TensorMap map_weights) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const Work work(p);
    // The thread that sets up the barriers fills the ring at once; the others learn of them, and of
    // the neighbour's, by the cluster's barrier. Stages that consumers have to free come after it:
    // whoever waits for another thread has passed every barrier that thread may still be at.
    if (warp_index() == kConsumers * kWarpgroup / kWarp) {
        if (ptx::elect_one()) {
            for (int stage = 0; stage < kStages; ++stage) {
                ptx::mbarrier_init(&s.full[stage], 1);
                ptx::mbarrier_init(&s.empty[stage], 1);
            }
            for (u64& barrier : s.acts_in) ptx::mbarrier_init(&barrier, 1);
            for (int i = 0; i < 2 * kConsumers; ++i) ptx::mbarrier_init(&s.sums_in[i / 2][i % 2], 1);
            ptx::fence_mbarrier_init();
        }
        __syncwarp();
        ptx::cluster_arrive();
        Loads at{static_cast<int>(blockIdx.x) / kCluster};
        if (ptx::elect_one()) produce(s, &map_weights, &map_acts, work, at, kStages);
        __syncwarp();
        ptx::cluster_wait();
        if (ptx::elect_one()) produce(s, &map_weights, &map_acts, work, at, work.tiles * work.blocks);
        __syncwarp();
    } else {
        ptx::cluster_sync();
        // Each CTA waits for all that is sent to it, so none leaves while its memory is written.
        consume(s, p, work, warpgroup_index(), threadIdx.x % kWarpgroup);
    }
}
