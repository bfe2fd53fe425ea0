// arch: sm_80
// registers: 128
// threads: 128
// dynamic_smem: 43264
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
constexpr int kTurned = 64;           // heads turned at a time
constexpr int kTurnedPitch = kTurned + 2;

struct Shared {
    u16 q[kChunk * kPitch], k[kChunk * kPitch];
    u16 gates[kChunk * kTurnedPitch];
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

// Heads first .. first + count - 1 of the chunk at token t. Tokens beyond the end have no step.
__device__ __forceinline__ void turn_steps(Shared& s, const Problem& p, int batch, int t, int first,
                                           int count) {
    const int lane = lane_index(), warp = warp_index();
    for (int row = warp; row < kChunk; row += kThreads / kWarp)
        for (int head = lane; head < count; head += kWarp)
            s.gates[row * kTurnedPitch + head] =
                t + row < p.length
                    ? p.g[token_row(batch, t + row, p.length, first + head, p.heads)]
                    : static_cast<u16>(0);
    __syncthreads();
    for (int head = warp; head < count; head += kThreads / kWarp) {
        const float bias = p.bias ? p.bias[first + head] : 0.f;
        float* to = p.steps + steps_row(p, batch, first + head) + t;
        for (int i = lane; i < kChunk; i += kWarp) {
            const float delta = from_bf16(s.gates[i * kTurnedPitch + head]) + bias;
            to[i] = t + i < p.length ? (p.softplus ? softplus(delta) : delta) : 0.f;
        }
    }
    __syncthreads();
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
    for (int first = 0; first < heads; first += kTurned)
        turn_steps(s, p, batch, t, key_head * heads + first, least(kTurned, heads - first));
    ptx::copy_async_wait_all();
    __syncthreads();
    make_scores(s, reinterpret_cast<uint4*>(p.scores) + scores_row(p, batch, key_head, chunk) * kWarp);
}
