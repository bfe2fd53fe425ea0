// arch: sm_80
// registers: 72
// threads: 128
// dynamic_smem: 34816
// defines: DK=64
// defines: DK=128
//
// What heads that share q and k (SSD's groups) need of a chunk of 64 tokens, once for all of them: the
// scores q k^T on and below the diagonal, in bf16 and in the order in which an accumulator's lanes hold
// them, and their steps softplus(delta + bias), turned: a head's tokens side by side, in fp32.
//
// Limits, SSD at B=8 L=4096, 80 heads, N=128, one group, on an H200: 17 MB of q and k and 5 of steps in,
// 2.6 of scores and 10 of steps out, which stay in L2: 512 blocks, 6 us at 4 TB/s; a chain of two loads
// from memory, 200 special functions a warp and 16 to 64 products: about 4 us beside it.
//
// A warp makes the tiles of 16 of the chunk's rows, and a quarter of the steps: 32 tokens, a lane each, of 8
// heads at a time. Tokens beyond the end count as zero.
#include "common/async_copy.cuh"
#include "gla/fragments.cuh"

constexpr int kThreads = 128;
constexpr int kPitch = kDk + 8;       // the 8 rows of an ldmatrix meet 8 different bank groups
constexpr int kTogether = 8;          // heads of a token that a lane reads at once

struct Shared {
    u16 q[kChunk * kPitch], k[kChunk * kPitch];
};

extern __shared__ __align__(16) u8 shared_bytes[];

// All of it for every x: without branches those of 8 heads run side by side.
__device__ __forceinline__ float softplus(float x) {
    const float w = exp2_approx(x * kLog2e);
    const float series = w * fmaf(w, fmaf(w, fmaf(w, -0.25f, 1.f / 3.f), -0.5f), 1.f);
    return select(x > 20.f, x, select(w < 0.03125f, series, log2_approx(1.f + w) * kLn2));
}

__device__ __forceinline__ void load_tile(u16* tile, const u16* from, size_t stride, int rows) {
    constexpr int kUnits = kDk / 8;
#pragma unroll
    for (int i = 0; i < kChunk * kUnits / kThreads; ++i) {
        const int part = i * kThreads + static_cast<int>(threadIdx.x);
        const int row = part / kUnits, unit = part % kUnits;
        const bool valid = row < rows;
        ptx::copy_async_16(tile + row * kPitch + unit * 8, from + (valid ? row * stride + unit * 8 : 0),
                           valid);
    }
}

// Steps of a token's neighbouring heads as they lie in memory, two in a word; lane i (modulo 8) has the
// i-th head's bias.
struct RawSteps {
    u32 pairs[kTogether / 2];
    float bias;
};

// Turning a chunk's steps, one job of a warp: 32 tokens, a lane each, of 8 heads.
struct Turn {
    int token, head;  // of the lane; the first of the group's
};

__device__ __forceinline__ Turn turn_of(int job, int t) {
    return {t + job % 2 * kWarp + lane_index(), job / 2 * kTogether};
}

// What is not there is read as the last token's or head's: no branch comes between the loads of several
// jobs. `Whole`: 8 heads at an address of a multiple of 16 bytes.
template <bool Whole>
__device__ __forceinline__ RawSteps read_steps(const Problem& p, const Turn& x, int batch, int first,
                                               int heads) {
    const int token = least(x.token, p.length - 1), head = least(x.head, heads - 1);
    const int mine = least(head + lane_index() % kTogether, heads - 1);
    RawSteps raw = {};
    if (p.bias) raw.bias = p.bias[first + mine];
    if (Whole) {
        const int whole = least(x.head, heads - kTogether);
        const uint4 all = *reinterpret_cast<const uint4*>(
            p.g + token_row(batch, token, p.length, first + whole, p.heads));
        return {{all.x, all.y, all.z, all.w}, raw.bias};
    }
    const u16* from = p.g + token_row(batch, token, p.length, first, p.heads);
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
        raw.pairs[i / 2] |= static_cast<u32>(from[least(head + i, heads - 1)]) << i % 2 * 16;
    return raw;
}

// A token beyond the end has no step.
template <bool Whole>
__device__ __forceinline__ void write_steps(const Problem& p, const Turn& x, const RawSteps& raw,
                                            int batch, int first, int heads) {
    if (x.head >= heads) return;
    float* to = p.steps + steps_row(p, batch, first + x.head) + x.token;
    const int row = round_up(p.length, kChunk);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
        const float delta = (i % 2 ? bf16_high(raw.pairs[i / 2]) : bf16_low(raw.pairs[i / 2])) +
                            __shfl_sync(kFullMask, raw.bias, i);
        const float step = select(p.softplus, softplus(delta), delta);
        if (Whole || x.head + i < heads)
            to[static_cast<size_t>(i) * row] = x.token < p.length ? step : 0.f;
    }
}

// The loads of several jobs are on their way before the first is turned.
template <bool Whole>
__device__ __forceinline__ void turn_steps(const Problem& p, int batch, int t, int first, int heads) {
    constexpr int kWarps = kThreads / kWarp, kJobs = Whole ? 5 : 2;  // 80 heads: 20 jobs
    for (int job = warp_index(); job < 2 * ceil_div(heads, kTogether); job += kJobs * kWarps) {
        RawSteps raw[kJobs];
#pragma unroll
        for (int i = 0; i < kJobs; ++i)
            raw[i] = read_steps<Whole>(p, turn_of(job + i * kWarps, t), batch, first, heads);
#pragma unroll
        for (int i = 0; i < kJobs; ++i)
            write_steps<Whole>(p, turn_of(job + i * kWarps, t), raw[i], batch, first, heads);
    }
}

__device__ __forceinline__ void make_scores(const Shared& s, uint4* to) {
    const int lane = lane_index(), a = warp_index();
    u32 q[kDk / 16][4];
#pragma unroll
    for (int step = 0; step < kDk / 16; ++step)
        ptx::ldmatrix_x4(q[step], s.q + (kSub * a + lane % 16) * kPitch + 16 * step + lane / 16 * 8);
#pragma unroll 1
    for (int b = 0; b <= a; ++b) {
        float left[4] = {}, right[4] = {};
#pragma unroll
        for (int step = 0; step < kDk / 16; ++step) {
            u32 k[4];
            const int row = kSub * b + lane / 16 * 8 + lane % 8;
            ptx::ldmatrix_x4(k, s.k + row * kPitch + 16 * step + lane / 8 % 2 * 8);
            multiply(left, right, q[step], k);
        }
        to[tile_of(a, b) * kWarp + lane] =
            make_uint4(pack_bf16(left[0], left[1]), pack_bf16(left[2], left[3]),
                       pack_bf16(right[0], right[1]), pack_bf16(right[2], right[3]));
    }
}

// Grid (chunks, key heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads) share(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const int chunk = blockIdx.x, key_head = blockIdx.y, batch = blockIdx.z, t = chunk * kChunk;
    const size_t from = token_row(batch, t, p.length, key_head, p.key_heads) * kDk;
    const size_t stride = static_cast<size_t>(p.key_heads) * kDk;
    load_tile(s.q, p.q + from, stride, p.length - t);
    load_tile(s.k, p.k + from, stride, p.length - t);
    ptx::copy_async_commit();
    const int heads = p.heads / p.key_heads;
    if (heads % kTogether == 0) turn_steps<true>(p, batch, t, key_head * heads, heads);
    else turn_steps<false>(p, batch, t, key_head * heads, heads);
    ptx::copy_async_wait_all();
    __syncthreads();
    make_scores(s, reinterpret_cast<uint4*>(p.scores) + scores_row(p, batch, key_head, chunk) * kWarp);
}
