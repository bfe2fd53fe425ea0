// arch: sm_80 sm_90a
// registers: 128
// threads: 128
// dynamic_smem: 8192
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 1: token by token on the fp32 pipe. The decode step (length 1), and the path of
// sequences too short for a chunk to pay.
//
// A block has 64 columns of one head's state in registers: 16 lanes side by side read 256 contiguous
// bytes, a thread has 4 columns of every 8th row. Both read-outs are taken from the old state S,
//
//     u = beta (v - e^g k^T S)      o = scale (e^g q^T S + (q . k) u)      S <- e^g S + k u
//
// so that one reduction over the block serves both. `first` and `last` may be the same buffer.
//
// Limits of a step, batch 256, 32 heads, dk = dv = 128: states read and written 2 * 537 MB: 268 us at
// 4.0 TB/s (copy); 7 FLOP per element, 15 us. A thread keeps 16 loads of 16 bytes in flight, a block
// 32 KiB, an SM 4 blocks: 17 MB in all, where latency times bandwidth is 2.6 MB.
#include "delta_rule/problem.cuh"

constexpr int kThreads = 128;
constexpr int kColumns = 64;
constexpr int kLanes = kColumns / 4;           // threads side by side
constexpr int kStride = kThreads / kLanes;     // rows between a thread's rows
constexpr int kRows = kDk / kStride;

struct Shared {
    float q[kDk], k[kDk];
    float4 sums[2][kThreads / kWarp][kLanes];  // of k^T S and q^T S, a part per warp
    float products[kThreads / kWarp];          // q . k
};
extern __shared__ __align__(16) u8 shared_bytes[];

__device__ __forceinline__ void add(float4& sum, float w, const float4& s) {
    sum.x = fmaf(w, s.x, sum.x), sum.y = fmaf(w, s.y, sum.y);
    sum.z = fmaf(w, s.z, sum.z), sum.w = fmaf(w, s.w, sum.w);
}

__device__ __forceinline__ float4 with_other_half(float4 x) {
    x.x += __shfl_xor_sync(kFullMask, x.x, 16), x.y += __shfl_xor_sync(kFullMask, x.y, 16);
    x.z += __shfl_xor_sync(kFullMask, x.z, 16), x.w += __shfl_xor_sync(kFullMask, x.w, 16);
    return x;
}

__device__ __forceinline__ float4 sum_of_warps(const float4 (&parts)[kThreads / kWarp][kLanes],
                                               int lane) {
    float4 sum = parts[0][lane];
#pragma unroll
    for (int w = 1; w < kThreads / kWarp; ++w) add(sum, 1.f, parts[w][lane]);
    return sum;
}

// q and k of a token, and each warp's part of their product.
__device__ __forceinline__ void load_keys(Shared& s, const Problem& p, size_t row) {
    const int warp = warp_index();  // by all lanes: it shuffles
    float product = 0.f;
    for (int d = threadIdx.x; d < kDk; d += kThreads) {
        s.q[d] = from_bf16(p.q[row * kDk + d]), s.k[d] = from_bf16(p.k[row * kDk + d]);
        product = s.q[d] * s.k[d];
    }
#pragma unroll
    for (int by = kWarp / 2; by > 0; by /= 2) product += __shfl_xor_sync(kFullMask, product, by);
    if (lane_index() == 0) s.products[warp] = product;
}

// Grid (dv / 64, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads, 4)
    recurrent(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const int head = blockIdx.y, batch = blockIdx.z, key_head = head / (p.heads / p.key_heads);
    const int lane = threadIdx.x % kLanes, top = threadIdx.x / kLanes, warp = warp_index();
    const int col = static_cast<int>(blockIdx.x) * kColumns + lane * 4;
    const size_t state = (static_cast<size_t>(batch) * p.heads + head) * kDk;
    float4 x[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
        x[r] = p.first ? *reinterpret_cast<const float4*>(p.first +
                                                         (state + r * kStride + top) * p.dv + col)
                       : make_float4(0.f, 0.f, 0.f, 0.f);
    for (int t = 0; t < p.length; ++t) {
        const size_t token = token_row(batch, t, p.length, head, p.heads);
        load_keys(s, p, token_row(batch, t, p.length, key_head, p.key_heads));
        const uint2 raw = *reinterpret_cast<const uint2*>(p.v + token * p.dv + col);
        const float decay = p.g ? exp2_approx(from_bf16(p.g[token]) * kLog2e) : 1.f;
        const float beta = from_bf16(p.beta[token]);
        __syncthreads();
        float4 by_k = make_float4(0.f, 0.f, 0.f, 0.f), by_q = by_k;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            add(by_k, s.k[r * kStride + top], x[r]);
            add(by_q, s.q[r * kStride + top], x[r]);
        }
        by_k = with_other_half(by_k), by_q = with_other_half(by_q);
        if (lane_index() < kLanes)
            s.sums[0][warp][lane] = by_k, s.sums[1][warp][lane] = by_q;
        __syncthreads();
        by_k = sum_of_warps(s.sums[0], lane), by_q = sum_of_warps(s.sums[1], lane);
        const float product = s.products[0] + s.products[1] + s.products[2] + s.products[3];
        const float4 u = make_float4(beta * (bf16_low(raw.x) - decay * by_k.x),
                                     beta * (bf16_high(raw.x) - decay * by_k.y),
                                     beta * (bf16_low(raw.y) - decay * by_k.z),
                                     beta * (bf16_high(raw.y) - decay * by_k.w));
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const float k = s.k[r * kStride + top];
            x[r].x = fmaf(k, u.x, decay * x[r].x), x[r].y = fmaf(k, u.y, decay * x[r].y);
            x[r].z = fmaf(k, u.z, decay * x[r].z), x[r].w = fmaf(k, u.w, decay * x[r].w);
        }
        if (top == 0) {
            const float old = p.scale * decay, own = p.scale * product;
            *reinterpret_cast<uint2*>(p.out + token * p.dv + col) =
                make_uint2(pack_bf16(fmaf(old, by_q.x, own * u.x), fmaf(old, by_q.y, own * u.y)),
                           pack_bf16(fmaf(old, by_q.z, own * u.z), fmaf(old, by_q.w, own * u.w)));
        }
        __syncthreads();  // q, k and the sums are read before the next token's are written
    }
    if (!p.last) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
        *reinterpret_cast<float4*>(p.last + (state + r * kStride + top) * p.dv + col) = x[r];
}
