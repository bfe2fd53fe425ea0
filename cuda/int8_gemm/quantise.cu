// arch: sm_80
// registers: 64
// threads: 256
// defines: IN=3
// defines: IN=2
//
// Row-wise dynamic quantisation, and what LLM.int8() (Dettmers et al. 2022) needs besides.
//
//     scale[i] = max |x[i, k]| / 127 over |x[i, k]| < threshold,  q[i, k] = round(x / scale)
//     outlier columns: those k with |x[i, k]| >= threshold in any row i (a NaN counts)
//
// quantise_rows  one CTA per row: row maximum, quantised row, a bit per outlier column; the last
//                CTA to finish turns the bits into an ascending list of columns. Elements at or
//                above the threshold become 0.
// gather_outliers  one warp per row of x and of the weights: copies the outlier columns side by
//                side in 16 bits for the extra k-steps of the product, and clears them in q.
//                Weights are bytes: exact in 16 bits. Pads to a multiple of 64 columns with zeros.
//
// Limits, 4096 x 4096 bf16: quantise_rows reads 33.5 MB and writes 16.8 MB: 11.8 us at 4.27 TB/s.
// A separate kernel is the faster place for it: the product would redo it for every column tile.
// The row stays in registers between maximum and rounding (up to 8 vectors of 8 values a thread);
// longer rows are read again, from L1 or L2.
//
// Nothing waits for the host: the number of outliers stays in device memory. More of them than
// the gathered operands can hold makes the result NaN rather than wrong.
#include "common/types.cuh"

#define OUT_FP16 2
#define OUT_BF16 3
#ifndef IN
#define IN OUT_BF16
#endif

constexpr int kThreads = 256;
constexpr int kCached = 8;             // vectors of 8 values that a thread keeps in registers
constexpr int kStep = kThreads * 8;    // values that the CTA handles per turn
constexpr float kTiny = 7.8886091e-31f;  // 2^-100: smaller rows quantise to zero, 127/max is finite
constexpr int kOutlierStep = 64;

struct QuantiseParams {
    const u16* x;  // [m, k] bf16 or fp16, row pitch ldx
    s8* q;         // [m, k], row pitch ldq, a multiple of 16; the padding becomes zero
    float* scale;  // [m]
    u32* flags;    // [ceil(k / 32)] zero between launches; null: no outliers (threshold unused)
    int* columns;  // [cap] outlier columns, ascending
    int* count;    // how many there are, also beyond cap
    int* arrived;  // zero between launches
    int m, k, ldx, ldq, cap;
    float threshold;
};

struct GatherParams {
    const u16* x;        // [m, k]
    s8* q;               // [m, k]: outlier columns are cleared
    float* scale;        // [m]: NaN if there are more outliers than cap
    const s8* w;         // [n, k]
    u16* x_outlier;      // [m, cap]
    u16* w_outlier;      // [n, cap]
    const int* columns;
    const int* count;
    int m, n, ldx, ldq, ldw, cap;
};

__device__ __forceinline__ float widen(u16 bits) {
    return IN == OUT_FP16 ? from_f16(bits) : from_bf16(bits);
}

struct Vector {
    u16 value[8];
};

// Eight neighbours, zero beyond the row. Rows that start at multiples of 16 bytes load at once.
__device__ __forceinline__ Vector load_vector(const u16* row, int at, int k, bool aligned) {
    Vector v;
    if (aligned && at + 8 <= k) {
        *reinterpret_cast<uint4*>(v.value) = __ldg(reinterpret_cast<const uint4*>(row + at));
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) v.value[i] = at + i < k ? __ldg(row + at + i) : 0;
    }
    return v;
}

__device__ __forceinline__ void flag_outlier(u32* flags, int column) {
    u32* word = flags + column / 32;
    const u32 bit = 1u << column % 32;
    // Nearly always some other row has set it: look before the atomic.
    if (!(*static_cast<volatile u32*>(word) & bit)) atomicOr(word, bit);
}

// Largest ordinary magnitude; outliers are flagged.
__device__ __forceinline__ float scan(const QuantiseParams& p, const Vector& v, int at,
                                      float largest) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const float magnitude = fabsf(widen(v.value[i]));
        if (p.flags == nullptr || magnitude < p.threshold) largest = fmaxf(largest, magnitude);
        else flag_outlier(p.flags, at + i);
    }
    return largest;
}

__device__ __forceinline__ void quantise(const QuantiseParams& p, const Vector& v, s8* row, int at,
                                         float inverse) {
    u32 word[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const float x = widen(v.value[i]);
        const bool ordinary = p.flags == nullptr || fabsf(x) < p.threshold;
        const int q = ordinary ? __float2int_rn(x * inverse) : 0;
        word[i / 4] |= (q & 0xff) << i % 4 * 8;
    }
    *reinterpret_cast<uint2*>(row + at) = make_uint2(word[0], word[1]);
}

__device__ __forceinline__ float block_max(float value) {
    __shared__ float warps[kThreads / kWarp];
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(kFullMask, value, step));
    if (lane_index() == 0) warps[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = warps[lane_index() % (kThreads / kWarp)];
#pragma unroll
    for (int step = kThreads / kWarp / 2; step > 0; step /= 2)
        value = fmaxf(value, __shfl_xor_sync(kFullMask, value, step));
    return value;
}

// Bits -> ascending list, by one CTA. The bits are cleared for the next launch.
__device__ __forceinline__ void list_columns(const QuantiseParams& p) {
    __shared__ int before[kThreads + 1];
    const int words = ceil_div(p.k, 32), share = ceil_div(words, kThreads);
    const int first = least<int>(threadIdx.x * share, words), end = least(first + share, words);
    int mine = 0;
    for (int i = first; i < end; ++i) mine += __popc(__ldcg(p.flags + i));
    before[threadIdx.x + 1] = mine;
    if (threadIdx.x == 0) before[0] = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 0; i < kThreads; ++i) before[i + 1] += before[i];
        *p.count = before[kThreads];
        *p.arrived = 0;
    }
    __syncthreads();
    int at = before[threadIdx.x];
    for (int i = first; i < end; ++i) {
        for (u32 bits = __ldcg(p.flags + i); bits != 0; bits &= bits - 1, ++at)
            if (at < p.cap) p.columns[at] = i * 32 + __ffs(bits) - 1;
        p.flags[i] = 0;
    }
}

__device__ __forceinline__ bool last_to_arrive(int* arrived) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(arrived, 1) == static_cast<int>(gridDim.x) - 1;
    __syncthreads();
    __threadfence();
    return last;
}

extern "C" __global__ void __launch_bounds__(kThreads)
    quantise_rows(const __grid_constant__ QuantiseParams p) {
    const u16* x = p.x + static_cast<size_t>(blockIdx.x) * p.ldx;
    s8* q = p.q + static_cast<size_t>(blockIdx.x) * p.ldq;
    const bool aligned = p.ldx % 8 == 0;
    const int first = threadIdx.x * 8;

    Vector cache[kCached];
    float largest = 0.f;
#pragma unroll
    for (int i = 0; i < kCached; ++i)
        if (first + i * kStep < p.k) cache[i] = load_vector(x, first + i * kStep, p.k, aligned);
#pragma unroll
    for (int i = 0; i < kCached; ++i)
        if (first + i * kStep < p.k) largest = scan(p, cache[i], first + i * kStep, largest);
    for (int at = first + kCached * kStep; at < p.k; at += kStep)
        largest = scan(p, load_vector(x, at, p.k, aligned), at, largest);

    largest = block_max(largest);
    const float inverse = largest > kTiny ? 127.f / largest : 0.f;
    if (threadIdx.x == 0) p.scale[blockIdx.x] = largest / 127.f;
#pragma unroll
    for (int i = 0; i < kCached; ++i)
        if (first + i * kStep < p.k) quantise(p, cache[i], q, first + i * kStep, inverse);
    for (int at = first + kCached * kStep; at < p.k; at += kStep)
        quantise(p, load_vector(x, at, p.k, aligned), q, at, inverse);
    // The pitch is a multiple of 16: clear a last group of 8 that no value reached.
    const int padding = round_up(p.k, 8);
    if (threadIdx.x == 0 && padding < p.ldq)
        *reinterpret_cast<uint2*>(q + padding) = make_uint2(0, 0);

    if (p.flags != nullptr && last_to_arrive(p.arrived)) list_columns(p);
}

__device__ __forceinline__ u16 narrow(s8 weight) {
    return IN == OUT_FP16 ? to_f16(weight) : to_bf16(weight);
}

extern "C" __global__ void __launch_bounds__(kThreads)
    gather_outliers(const __grid_constant__ GatherParams p) {
    const int row = (blockIdx.x * kThreads + threadIdx.x) / kWarp;
    const int found = __ldg(p.count);
    const int used = least(found, p.cap);
    if (row >= p.m + p.n) return;
    for (int j = lane_index(); j < round_up(used, kOutlierStep); j += kWarp) {
        const int column = j < used ? __ldg(p.columns + j) : -1;
        if (row < p.m) {
            const size_t at = static_cast<size_t>(row);
            p.x_outlier[at * p.cap + j] = column < 0 ? 0 : __ldg(p.x + at * p.ldx + column);
            if (column >= 0) p.q[at * p.ldq + column] = 0;
        } else {
            const size_t at = static_cast<size_t>(row - p.m);
            p.w_outlier[at * p.cap + j] = column < 0 ? 0 : narrow(p.w[at * p.ldw + column]);
        }
    }
    if (found > p.cap && row < p.m && lane_index() == 0)
        p.scale[row] = __int_as_float(0x7fffffff);
}
