// arch: sm_80
// registers: 128
// threads: 128
// dynamic_smem: 34816
// defines: DK=64
// defines: DK=128
//
// What heads that share q and k (SSD's groups) need of a chunk of 64 tokens, once for all of them: the
// scores q k^T on and below the diagonal, in bf16, and their gates turned, so that a head's tokens lie
// side by side.
//
// Limits, SSD at B=8 L=4096, 80 heads, N=128, one group, on an H200: 17 MB of q and k and 5 of gates in,
// 2.6 of scores and 5 of gates out, which stay in L2: 512 blocks, 7 us at 4 TB/s.
//
// A warp makes the tiles of 16 of the chunk's rows. Tokens beyond the end count as zero.
#include "common/async_copy.cuh"
#include "gla/fragments.cuh"

constexpr int kThreads = 128;
constexpr int kPitch = kDk + 8;       // the 8 rows of an ldmatrix meet 8 different bank groups
constexpr int kTogether = 8;          // heads of a token that a lane reads at once

struct Shared {
    u16 q[kChunk * kPitch], k[kChunk * kPitch];
};

extern __shared__ __align__(16) u8 shared_bytes[];

__device__ __forceinline__ float softplus(float x) {
    const float w = exp2_approx(x * kLog2e);
    const float series = w * fmaf(w, fmaf(w, fmaf(w, -0.25f, 1.f / 3.f), -0.5f), 1.f);
    return x > 20.f ? x : w < 0.03125f ? series : log2_approx(1.f + w) * kLn2;
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

// Steps of a token's neighbouring heads as they lie in memory, two in a word.
struct RawSteps {
    u32 pairs[kTogether / 2];
};

// Turning a chunk's steps, one job of a warp: 32 tokens, a lane each, of 8 heads.
struct Turn {
    int token, head;  // of the lane; the first of the group's
    bool any, whole;  // is there one; all 8 heads, at an address of a multiple of 16 bytes
};

__device__ __forceinline__ Turn turn_of(const Problem& p, int job, int t, int heads) {
    const int head = job / 2 * kTogether;
    const bool whole = head + kTogether <= heads && p.heads % kTogether == 0 && heads % kTogether == 0;
    return {t + job % 2 * kWarp + lane_index(), head, head < heads, whole};
}

__device__ __forceinline__ RawSteps read_steps(const Problem& p, const Turn& x, int batch, int first,
                                               int heads) {
    RawSteps raw = {};
    if (!x.any || x.token >= p.length) return raw;
    const u16* from = p.g + token_row(batch, x.token, p.length, first + x.head, p.heads);
    if (x.whole) {
        const uint4 all = *reinterpret_cast<const uint4*>(from);
        raw = {{all.x, all.y, all.z, all.w}};
        return raw;
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
        if (x.head + i < heads) raw.pairs[i / 2] |= static_cast<u32>(from[i]) << i % 2 * 16;
    return raw;
}

// A token beyond the end has no step.
__device__ __forceinline__ void write_steps(const Problem& p, const Turn& x, const RawSteps& raw,
                                            int batch, int first, int heads) {
    if (!x.any) return;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
        if (x.head + i >= heads) break;
        const int head = first + x.head + i;
        const float delta = (i % 2 ? bf16_high(raw.pairs[i / 2]) : bf16_low(raw.pairs[i / 2])) +
                            (p.bias ? p.bias[head] : 0.f);
        const float step = p.softplus ? softplus(delta) : delta;
        p.steps[steps_row(p, batch, head) + x.token] = x.token < p.length ? step : 0.f;
    }
}

// Several jobs' loads before the first is turned.
__device__ __forceinline__ void turn_steps(const Problem& p, int batch, int t, int first, int heads) {
    constexpr int kWarps = kThreads / kWarp, kJobs = 5;  // 80 heads: 20 jobs
    for (int job = warp_index(); job < 2 * ceil_div(heads, kTogether); job += kJobs * kWarps) {
        RawSteps raw[kJobs];
#pragma unroll
        for (int i = 0; i < kJobs; ++i)
            raw[i] = read_steps(p, turn_of(p, job + i * kWarps, t, heads), batch, first, heads);
#pragma unroll
        for (int i = 0; i < kJobs; ++i)
            write_steps(p, turn_of(p, job + i * kWarps, t, heads), raw[i], batch, first, heads);
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
    turn_steps(p, batch, t, key_head * heads, heads);
    ptx::copy_async_wait_all();
    __syncthreads();
    make_scores(s, reinterpret_cast<uint4*>(p.scores) + scores_row(p, batch, key_head, chunk) * kWarp);
}
