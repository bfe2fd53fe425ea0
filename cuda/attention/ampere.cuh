// Attention with mma.sync and cp.async (sm_80): softmax or sigmoid by the policy Rows.
//
// A tile of R rows and D columns lies in shared memory as rows of 2 D bytes whose 16-byte units are
// stored at unit ^ (row % 8): the 8 rows of an ldmatrix then meet 8 different groups of banks.
#pragma once
#include "attention/problem.cuh"
#include "attention/rows.cuh"
#include "common/async_copy.cuh"
#include "common/mma.cuh"

constexpr int kStrips = kHeadDim == 256 ? 1 : 2;       // of 16 queries per warp
constexpr int kWarps = kHeadDim == 256 ? 8 : 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kTileM = 16 * kStrips * kWarps;          // 128 queries
constexpr int kTileN = kHeadDim == 64 ? 64 : kHeadDim == 128 ? 48 : 32;  // keys per block
constexpr int kUnits = kHeadDim / 8;                   // of 16 bytes per row
constexpr int kScores = kTileN / 2;                    // registers per strip
constexpr int kOutputs = kHeadDim / 2;

struct Shared {
    u16 q[kTileM * kHeadDim];
    u16 k[kTileN * kHeadDim];
    u16 v[kTileN * kHeadDim];
    Work work;  // here and not in registers, of which the sums leave few
};

extern __shared__ __align__(128) u8 shared_bytes[];

__device__ __forceinline__ u8* swizzled(u16* tile, int row, int unit) {
    return reinterpret_cast<u8*>(tile + row * kHeadDim) + ((unit ^ (row % 8)) << 4);
}

// Rows [first, first + Rows) of one head of a sequence of `length` tokens; those beyond become 0.
template <int Rows>
__device__ __forceinline__ void load_rows(u16* tile, const u16* base, int start, int first,
                                          int length, int heads, int head) {
    const int thread = warp_index() * kWarp + opaque(lane_index());
#pragma unroll
    for (int i = 0; i < Rows * kUnits / kThreads; ++i) {
        const int part = i * kThreads + thread;
        const int row = part / kUnits, unit = part % kUnits;
        const bool inside = first + row < length;
        const size_t token = start + (inside ? first + row : 0);
        ptx::copy_async_16(swizzled(tile, row, unit),
                           base + (token * heads + head) * kHeadDim + unit * 8, inside);
    }
}

__device__ __forceinline__ void multiply(float* d, const u32 (&a)[4], u32 b0, u32 b1) {
    const u32 b[2] = {b0, b1};
    float(&sums)[4] = *reinterpret_cast<float(*)[4]>(d);
    if constexpr (FP16) ptx::mma_f16(sums, a, b);
    else ptx::mma_bf16(sums, a, b);
}

// s = q k^T of the warp's strips.
__device__ __forceinline__ void score(Shared& s, float (&scores)[kStrips][kScores]) {
    const int lane = opaque(lane_index());
    const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16 * kStrips;
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
        u32 q[kStrips][4];
        // Matrices: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15: the order of mma's a.
#pragma unroll
        for (int strip = 0; strip < kStrips; ++strip)
            ptx::ldmatrix_x4(q[strip], swizzled(s.q, warp_row + 16 * strip + lane % 16,
                                                2 * step + lane / 16));
#pragma unroll
        for (int j = 0; j < kTileN / 16; ++j) {
            u32 k[4];  // keys 0-7: columns 0-7 and 8-15; then keys 8-15
            ptx::ldmatrix_x4(k, swizzled(s.k, 16 * j + lane / 16 * 8 + lane % 8,
                                         2 * step + lane / 8 % 2));
#pragma unroll
            for (int strip = 0; strip < kStrips; ++strip) {
                multiply(&scores[strip][8 * j], q[strip], k[0], k[1]);
                multiply(&scores[strip][8 * j + 4], q[strip], k[2], k[3]);
            }
        }
    }
}

// o += p v. v is transposed on its way: a lane gets two neighbouring keys of one column.
__device__ __forceinline__ void accumulate(Shared& s, float (&o)[kStrips][kOutputs],
                                           const u32 (&weights)[kStrips][kTileN / 16][4]) {
    const int lane = opaque(lane_index());
#pragma unroll
    for (int step = 0; step < kTileN / 16; ++step)
#pragma unroll
        for (int j = 0; j < kHeadDim / 16; ++j) {
            u32 v[4];  // columns 0-7: keys 0-7 and 8-15; then columns 8-15
            ptx::ldmatrix_x4_transposed(v, swizzled(s.v, 16 * step + lane % 16,
                                                    2 * j + lane / 16));
#pragma unroll
            for (int strip = 0; strip < kStrips; ++strip) {
                multiply(&o[strip][8 * j], weights[strip][step], v[0], v[1]);
                multiply(&o[strip][8 * j + 4], weights[strip][step], v[2], v[3]);
            }
        }
}

// Through the warp's own rows of q, which nobody else reads, to whole rows of 16-byte stores.
__device__ __forceinline__ void store_outputs(Shared& s, const Problem& p, const Work& work,
                                              const float (&o)[kStrips][kOutputs]) {
    const int lane = lane_index(), warp_row = warp_index() * 16 * kStrips;
    __syncwarp();
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
        for (int j = 0; j < kUnits; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                u8* spot = swizzled(s.q, warp_row + 16 * strip + 8 * half + lane / 4, j);
                *reinterpret_cast<u32*>(spot + lane % 4 * 4) =
                    pack_pair(o[strip][4 * j + 2 * half], o[strip][4 * j + 2 * half + 1]);
            }
    __syncwarp();
    for (int part = lane; part < 16 * kStrips * kUnits; part += kWarp) {
        const int row = warp_row + part / kUnits, unit = part % kUnits;
        if (work.first_row + row >= work.q_len) break;
        const size_t token = work.q_start + work.first_row + row;
        *reinterpret_cast<uint4*>(p.out + (token * p.heads + work.head) * kHeadDim + unit * 8) =
            *reinterpret_cast<uint4*>(swizzled(s.q, row, unit));
    }
}

// This thread's row g of a strip, as a query of the sequence.
__device__ __forceinline__ int thread_row(const Work& work, int strip) {
    return work.first_row + (warp_index() * kStrips + strip) * 16 + opaque(lane_index()) / 4;
}

// One buffer each for keys and values: values arrive while scores are computed, the next keys
// while the softmax runs and the values are multiplied.
//
//   cp.async | K(j) | V(j)         | K(j-1)                   | V(j-1) ...
//   warps    |      | S = Q K(j)^T | softmax, O += P V(j)     | S = Q K(j-1)^T
template <typename Rows>
__device__ __forceinline__ void ampere_attention(const Problem& p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) s.work = work_of_block(p, kTileM, kTileN);
    __syncthreads();
    const Work& work = s.work;
    if (!work.valid) return;
    float o[kStrips][kOutputs] = {};
    Rows rows[2] = {{p, work}, {p, work}};
    load_rows<kTileM>(s.q, p.q, work.q_start, work.first_row, work.q_len, p.heads, work.head);
    int block = work.blocks.needed.last - 1;
    if (work.blocks.count() > 0)
        load_rows<kTileN>(s.k, p.k, work.kv_start, block * kTileN, work.kv_len, p.kv_heads,
                          work.kv_head);
    ptx::copy_async_commit();
    for (; block >= work.blocks.needed.first; --block) {
        float scores[kStrips][kScores] = {};
        u32 weights[kStrips][kTileN / 16][4];
        ptx::copy_async_wait<0>();
        __syncthreads();  // the keys are in, and everyone has left the values
        load_rows<kTileN>(s.v, p.v, work.kv_start, block * kTileN, work.kv_len, p.kv_heads,
                          work.kv_head);
        ptx::copy_async_commit();
        score(s, scores);
        ptx::copy_async_wait<0>();
        __syncthreads();  // the values are in, and everyone has left the keys
        if (block > work.blocks.needed.first)
            load_rows<kTileN>(s.k, p.k, work.kv_start, (block - 1) * kTileN, work.kv_len,
                              p.kv_heads, work.kv_head);
        ptx::copy_async_commit();
#pragma unroll
        for (int strip = 0; strip < kStrips; ++strip) {
            const bool masked = work.blocks.masked(block);
            if (masked)
                mask_scores(scores[strip], thread_row(work, strip), block * kTileN, work.q_len,
                            work.kv_len, p.causal, p.window);
            rows[strip].weigh(scores[strip], p, masked);
            rows[strip].rescale_outputs(o[strip]);
            rows[strip].pack(weights[strip], scores[strip]);
        }
        accumulate(s, o, weights);
    }
    ptx::copy_async_wait<0>();
    if (work.blocks.count() <= 0) __syncthreads();  // q is overwritten below
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
        rows[strip].finish(p, work, thread_row(work, strip));
        scale_rows(o[strip], rows[strip].output_factors().of);
    }
    store_outputs(s, p, work, o);
}
