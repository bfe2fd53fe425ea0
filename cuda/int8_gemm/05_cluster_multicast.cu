// arch: sm_90a
// registers: 168
// threads: 384
// dynamic_smem: 231488
// cluster: 2
// defines: OUT=0
// defines: OUT=1
// defines: OUT=2
// defines: OUT=3
// defines: OUT=3 OUTLIERS=1
// defines: OUT=2 OUTLIERS=2
// defines: OUT=1 OUTLIERS=1
//
// INT8 GEMM, rung 5: clusters with multicast, a persistent schedule, stores by TMA.
//
// Rung 4 keeps the tensor cores fed from shared memory; what is left is how the bytes get there
// and what happens between tiles.
//
// Limits, 8192^3 with bf16 out on an H200 (132 SMs):
//   operations  2 * 8192^3 = 1.10e12; 8192 per clock and SM -> 1.017e6 clocks
//               556 us at 1830 MHz, 814 us at the 1250 MHz where the power limit may hold it
//   memory      2 * 64 MiB + 128 MiB = 268 MB; 63 us at 4.27 TB/s: not the bound
//   L2 -> SM    a 128 x 256 tile takes (128 + 256) * 128 bytes per 1024 clocks = 48 bytes per
//               clock and SM, 9.5 TB/s at 1.5 GHz: more than L2 delivers. Two CTAs of a cluster
//               that work the same 256 columns load half of b each and multicast it to both:
//               (128 + 128) * 128 / 1024 = 32 bytes per clock
//   shared      each product m64n256k32 reads (64 + 256) * 32 bytes in 128 clocks: 80 of 128
//
// Registers: 65,536 = 128 * 24 (producer warpgroup) + 256 * 240 (two consumer warpgroups) + 1024
//   spare. A consumer holds a 64 x 256 accumulator: 128 of its 240.
// Shared memory: 4 stages of (128 + 256) * 128 bytes = 196,608; staging for stores 2 warpgroups *
//   2 buffers * 8 KiB = 32,768; column scales 2 * 1 KiB; barriers 64: 231,488 of 232,448.
//
// Schedule (one CTA; its pair does the same 128 rows further down):
//   producer    | load k0 k1 k2 k3 | ... as stages free up, on into the next tile ...
//   consumer 0  | wait k0, 4 wgmma | wait k1 ... | scale, pack, stage, TMA store |  next tile
//   consumer 1  | wait k0, 4 wgmma | wait k1 ... | scale, pack, stage, TMA store |  next tile
// The consumers share b but not their barriers of the epilogue, so one may run ahead of the other
// by the depth of the ring: its epilogue then overlaps the other's products. The next tile's
// first four stages arrive during the epilogue.
//
// A stage is free when both consumers of both CTAs have read it, since either CTA's multicast
// writes half of b into both: `empty` counts 4 arrivals, two of them from the other CTA.
//
// OUTLIERS (LLM.int8(), Dettmers et al. 2022): after the byte products the accumulator becomes
// float, times the row's scale, in the same registers, and a few more k-steps in 16 bits add
// x_o w_o over the outlier columns, compacted by quantise.cu. 64 columns of 16 bits are 128 bytes,
// so these steps are ordinary stages of the same ring with other maps. How many there are is read
// from device memory: the host never waits. Weights are bytes, exact in 16 bits, so both parts
// share the column's scale:  y = col_scale * (row_scale * sum_k a b + sum_o x_o w_o) + bias.
#include "common/async_copy.cuh"
#include "common/barrier.cuh"
#include "common/mma.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "int8_gemm/problem.cuh"

#define OUTLIERS_NONE 0
#define OUTLIERS_BF16 1
#define OUTLIERS_FP16 2
#ifndef OUTLIERS
#define OUTLIERS OUTLIERS_NONE
#endif
#ifndef BAND
#define BAND 8
#endif
#ifndef CLUSTER
#define CLUSTER 2
#endif

constexpr int kCluster = CLUSTER;
constexpr int kConsumers = 2;  // warpgroups, 64 rows of the tile each
constexpr int kStages = 4;
constexpr int kTileM = 64 * kConsumers;
constexpr int kTileN = 256;
constexpr int kTileK = 128;                 // bytes: one 128-byte swizzle row
constexpr int kShareN = kTileN / kCluster;  // rows of b that this CTA loads for the cluster
constexpr int kStageBytes = (kTileM + kTileN) * kTileK;
constexpr int kAccumulators = kTileN / 2;   // per thread
constexpr int kThreads = kWarpgroup * (1 + kConsumers);
constexpr int kChunkCols = 128 / kOutBytes;  // output columns in one staged 128-byte row
constexpr int kChunks = kTileN / kChunkCols;
constexpr int kOutlierStep = 64;             // outlier columns per stage

// Every array starts at a multiple of 1024 bytes, as the 128-byte swizzle wants.
struct Shared {
    s8 a[kStages][kTileM * kTileK];
    s8 b[kStages][kTileN * kTileK];
    u8 staging[kConsumers][2][64 * 128];
    float col_scale[kConsumers][kTileN];
    u64 full[kStages];
    u64 empty[kStages];
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

extern __shared__ __align__(1024) u8 shared_bytes[];

__device__ __forceinline__ int outlier_steps(const Problem& p) {
    if (OUTLIERS == OUTLIERS_NONE) return 0;
    return ceil_div(least(__ldg(p.outlier_count), p.outlier_cap), kOutlierStep);
}

// What there is to do, in tiles of the whole cluster and in stages per tile.
struct Work {
    int tile_rows, tile_cols, k_blocks, outlier_blocks;
    __device__ __forceinline__ int tiles() const { return tile_rows * tile_cols; }
    __device__ __forceinline__ TileIndex at(int tile) const {
        return tile_in_bands(tile, tile_rows, tile_cols, BAND);
    }
};

// First row and column of this CTA's part of a cluster's tile.
struct Origin {
    int row, col;
    __device__ __forceinline__ Origin(const Work& work, int tile) {
        const TileIndex index = work.at(tile);
        row = (index.row * kCluster + static_cast<int>(ptx::cluster_rank())) * kTileM;
        col = index.col * kTileN;
    }
};

// ---------------------------------------------------------------- producer: one thread

struct Maps {
    const TensorMap *a, *b, *a_outlier, *b_outlier;
};

__device__ __forceinline__ void load_stage(Shared& s, int stage, const TensorMap* a,
                                           const TensorMap* b, int k, int row, int col) {
    ptx::mbarrier_arrive_expect(&s.full[stage], kStageBytes);
    ptx::tma_load_2d(s.a[stage], a, &s.full[stage], k, row);
    if constexpr (kCluster == 1) {
        ptx::tma_load_2d(s.b[stage], b, &s.full[stage], k, col);
    } else {
        const int rank = ptx::cluster_rank();
        ptx::tma_load_2d_multicast(s.b[stage] + rank * kShareN * kTileK, b, &s.full[stage],
                                   (1 << kCluster) - 1, k, col + rank * kShareN);
    }
}

__device__ __forceinline__ void produce(Shared& s, const Maps& maps, const Work& work) {
    ptx::Ring<kStages> ring;
    for (int tile = blockIdx.x / kCluster; tile < work.tiles(); tile += gridDim.x / kCluster) {
        const Origin at(work, tile);
        for (int block = 0; block < work.k_blocks + work.outlier_blocks; ++block) {
            const int outlier = block - work.k_blocks;
            ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
            if (outlier < 0) {
                load_stage(s, ring.stage, maps.a, maps.b, block * kTileK, at.row, at.col);
            } else {
                load_stage(s, ring.stage, maps.a_outlier, maps.b_outlier, outlier * kOutlierStep,
                           at.row, at.col);
            }
            ring.advance();
        }
    }
}

// ---------------------------------------------------------------- consumers: 64 x kTileN each

// One thread per destination CTA tells it that this warpgroup has read the stage.
__device__ __forceinline__ void release(Shared& s, int stage, int thread) {
    if constexpr (kCluster == 1) {
        if (thread == 0) ptx::mbarrier_arrive(&s.empty[stage]);
    } else {
        if (thread % kWarp == 0 && thread / kWarp < kCluster)
            ptx::mbarrier_arrive_cluster(&s.empty[stage], thread / kWarp);
    }
}

__device__ __forceinline__ void multiply_bytes(Shared& s, ptx::Ring<kStages>& ring,
                                               s32 (&sums)[kAccumulators], int k_blocks,
                                               int group, int thread) {
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
        // The other warpgroup's products fill the wait: keeping one more group in flight here
        // gained nothing.
        ptx::wgmma_wait<0>();
        release(s, ring.stage, thread);
        ring.advance();
    } while (++block < k_blocks);  // k is at least 1, and ptxas serialises products under a `for`
    ptx::pin(sums);
}

__device__ __forceinline__ void multiply_outliers(Shared& s, ptx::Ring<kStages>& ring,
                                                  float (&sums)[kAccumulators], int blocks,
                                                  int group, int thread) {
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        ptx::mbarrier_wait(&s.full[ring.stage], ring.parity);
        const u64 a = ptx::k_major_128(s.a[ring.stage] + group * 64 * kTileK);
        const u64 b = ptx::k_major_128(s.b[ring.stage]);
        ptx::pin(sums);
        ptx::wgmma_fence();
#pragma unroll
        for (int step = 0; step < kTileK / 32; ++step) {
            if constexpr (OUTLIERS == OUTLIERS_FP16) {
                ptx::wgmma_f16(sums, a + step * ptx::kDescriptorStepK,
                               b + step * ptx::kDescriptorStepK, 1);
            } else {
                ptx::wgmma_bf16(sums, a + step * ptx::kDescriptorStepK,
                                b + step * ptx::kDescriptorStepK, 1);
            }
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        ptx::pin(sums);
        release(s, ring.stage, thread);
        ring.advance();
    }
}

// Byte address of 16-byte unit `unit` of `row` in a staged tile with the 128-byte swizzle.
__device__ __forceinline__ u8* swizzled(u8* tile, int row, int unit) {
    return tile + row * 128 + ((unit ^ (row % 8)) << 4);
}

template <typename Accumulator>
struct Finisher {
    const Problem& p;
    const float* col_scale;      // of this tile, in shared memory
    float row_scale[2];          // rows g and g + 8 of this thread

    __device__ __forceinline__ float finish(Accumulator sum, int half, float scale,
                                            float bias) const {
        return fmaf(static_cast<float>(sum) * row_scale[half], scale, bias);
    }
};

template <bool Bias>
__device__ __forceinline__ float2 bias_pair(const Problem& p, int col) {
    return Bias ? load_pair(p.bias, col, p.n) : make_float2(0.f, 0.f);
}

// This thread's part of one chunk: 16 packed pairs, or 16 pairs of 4-byte values.
template <bool Bias, typename Accumulator>
__device__ __forceinline__ void finish_chunk(const Finisher<Accumulator>& f,
                                             const Accumulator (&sums)[kAccumulators], int chunk,
                                             Origin at, int t, u32 (&out)[kChunkCols / 8][kOutBytes]) {
#pragma unroll
    for (int j = 0; j < kChunkCols / 8; ++j) {
        const int local = chunk * kChunkCols + 8 * j + 2 * t;
        const Accumulator* d = &sums[(chunk * kChunkCols + 8 * j) / 8 * 4];
        if constexpr (kRawSums) {
#pragma unroll
            for (int i = 0; i < 4; ++i) out[j][i] = static_cast<u32>(d[i]);
            continue;
        }
        const float2 scale = *reinterpret_cast<const float2*>(&f.col_scale[local]);
        const float2 bias = bias_pair<Bias>(f.p, at.col + local);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float y0 = f.finish(d[2 * half], half, scale.x, bias.x);
            const float y1 = f.finish(d[2 * half + 1], half, scale.y, bias.y);
            if constexpr (kOutBytes == 2) {
                out[j][half] = pack_out(y0, y1);
            } else {
                out[j][2 * half] = __float_as_uint(y0);
                out[j][2 * half + 1] = __float_as_uint(y1);
            }
        }
    }
}

// Into a staged tile with the 128-byte swizzle: 8 x 8 matrices of 16-bit values by stmatrix (rows
// 0-7 and 8-15 of 8 columns, then of the next 8), pairs of 4-byte values by ordinary stores.
__device__ __forceinline__ void stage_chunk(u8* tile, const u32 (&out)[kChunkCols / 8][kOutBytes],
                                            int thread) {
    const int lane = thread % kWarp;
    u8* mine = tile + thread / kWarp * 16 * 128;
    if constexpr (kOutBytes == 2) {
#pragma unroll
        for (int j = 0; j < kChunkCols / 8; j += 2)
            ptx::stmatrix_x4(swizzled(mine, lane % 16, j + lane / 16), out[j][0], out[j][1],
                             out[j + 1][0], out[j + 1][1]);
    } else {
#pragma unroll
        for (int j = 0; j < kChunkCols / 8; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                u8* spot = swizzled(mine, lane / 4 + 8 * half, 2 * j + lane % 4 / 2);
                *reinterpret_cast<uint2*>(spot + lane % 2 * 8) =
                    make_uint2(out[j][2 * half], out[j][2 * half + 1]);
            }
    }
}

// Chunk by chunk: registers -> swizzled staging -> TMA store, two buffers in turn.
template <bool Bias, typename Accumulator>
__device__ __forceinline__ void store_chunks(Shared& s, const TensorMap* map_out,
                                             const Finisher<Accumulator>& f,
                                             const Accumulator (&sums)[kAccumulators], Origin at,
                                             int group, int thread) {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
        u8* tile = s.staging[group][chunk % 2];
        u32 out[kChunkCols / 8][kOutBytes];
        finish_chunk<Bias>(f, sums, chunk, at, thread % 4, out);
        if (thread == 0) ptx::bulk_wait_read<1>();  // the store before last has left this buffer
        ptx::named_barrier_sync(1 + group, kWarpgroup);
        stage_chunk(tile, out, thread);
        ptx::fence_async_shared();
        ptx::named_barrier_sync(1 + group, kWarpgroup);
        if (thread == 0) {
            ptx::tma_store_2d(map_out, tile, at.col + chunk * kChunkCols, at.row + group * 64);
            ptx::bulk_commit();
        }
    }
}

template <typename Accumulator>
__device__ __forceinline__ void store_tile(Shared& s, const TensorMap* map_out,
                                           const Finisher<Accumulator>& f,
                                           Accumulator (&sums)[kAccumulators], Origin at,
                                           int group, int thread) {
    ptx::copy_async_wait_all();  // this thread's column scales are in; the barrier says all are
    ptx::named_barrier_sync(1 + group, kWarpgroup);
    if (f.p.bias == nullptr) store_chunks<false>(s, map_out, f, sums, at, group, thread);
    else store_chunks<true>(s, map_out, f, sums, at, group, thread);
}

__device__ __forceinline__ void consume(Shared& s, const TensorMap* map_out, const Problem& p,
                                        const Work& work, int group, int thread) {
    ptx::Ring<kStages> ring;
    for (int tile = blockIdx.x / kCluster; tile < work.tiles(); tile += gridDim.x / kCluster) {
        const Origin at(work, tile);
        // Arrives behind the products. Read in the epilogue, behind its barriers; the last tile's
        // readers are behind them too.
        if constexpr (!kRawSums) {
            for (int i = thread; i < kTileN; i += kWarpgroup) {
                const bool inside = at.col + i < p.n;
                ptx::copy_async_4(&s.col_scale[group][i], p.col_scale + (inside ? at.col + i : 0),
                                  inside);
            }
        }
        const int row = at.row + group * 64 + thread / kWarp * 16 + thread % kWarp / 4;
        const float scale0 = load_or_zero(p.row_scale, row, p.m);
        const float scale1 = load_or_zero(p.row_scale, row + 8, p.m);

        s32 sums[kAccumulators];
        multiply_bytes(s, ring, sums, work.k_blocks, group, thread);
        if constexpr (OUTLIERS == OUTLIERS_NONE) {
            const Finisher<s32> finisher{p, s.col_scale[group], {scale0, scale1}};
            store_tile(s, map_out, finisher, sums, at, group, thread);
        } else {
            // The same registers, now float: a second array would not fit beside the first.
            float(&scaled)[kAccumulators] = reinterpret_cast<float(&)[kAccumulators]>(sums);
#pragma unroll
            for (int i = 0; i < kAccumulators; ++i)
                scaled[i] = static_cast<float>(sums[i]) * (i % 4 < 2 ? scale0 : scale1);
            multiply_outliers(s, ring, scaled, work.outlier_blocks, group, thread);
            const Finisher<float> finisher{p, s.col_scale[group], {1.f, 1.f}};
            store_tile(s, map_out, finisher, scaled, at, group, thread);
        }
    }
    if (thread == 0) ptx::bulk_wait_read<0>();
}

// ---------------------------------------------------------------- roles

extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(kThreads, 1)
    int8_gemm(const __grid_constant__ Problem p, const __grid_constant__ TensorMap map_a,
              const __grid_constant__ TensorMap map_b, const __grid_constant__ TensorMap map_out
#if OUTLIERS != OUTLIERS_NONE
              , const __grid_constant__ TensorMap map_a_outlier,
              const __grid_constant__ TensorMap map_b_outlier
#endif
    ) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            ptx::mbarrier_init(&s.full[stage], 1);
            ptx::mbarrier_init(&s.empty[stage], kCluster * kConsumers);
        }
        ptx::fence_mbarrier_init();
    }
    // No CTA may multicast into, or arrive at, barriers that its neighbour has not set up.
    ptx::cluster_sync();

#if OUTLIERS != OUTLIERS_NONE
    const Maps maps{&map_a, &map_b, &map_a_outlier, &map_b_outlier};
#else
    const Maps maps{&map_a, &map_b, nullptr, nullptr};
#endif
    const Work work{ceil_div(p.m, kTileM * kCluster), ceil_div(p.n, kTileN), ceil_div(p.k, kTileK),
                    outlier_steps(p)};
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_shrink<24>();
        if (warp_index() == 0 && ptx::elect_one()) produce(s, maps, work);
        __syncwarp();
    } else {
        ptx::registers_grow<240>();
        consume(s, &map_out, p, work, role - 1, threadIdx.x % kWarpgroup);
    }
    // Shared memory stays until the neighbour's last multicast and last arrival are in.
    ptx::cluster_sync();
}
