// arch: sm_80
// registers: 128
// threads: 256
// defines: IN=3 ROW_WARPS=2
// defines: IN=2 ROW_WARPS=2
// defines: IN=3 ROW_WARPS=8
// defines: IN=2 ROW_WARPS=8
//
// Row-wise dynamic quantisation, and what LLM.int8() (Dettmers et al. 2022) needs besides.
//
//     scale[i] = max |x[i, k]| / 127 over |x[i, k]| < threshold,  q[i, k] = round(x / scale)
//     outlier columns: those k with |x[i, k]| >= threshold in any row i (a NaN counts)
//
// quantise_rows    a row per 2 warps (ROW_WARPS) or per CTA (8, for long rows): row maximum,
//                  quantised row, a bit per outlier column. Values at or above the threshold
//                  become 0.
// gather_outliers  every CTA turns the bits into the ascending list of columns; then a warp per
//                  row of x and of the weights copies the listed columns side by side in 16 bits
//                  for the extra k-steps of the product, and clears them in q. Weights are bytes:
//                  exact in 16 bits. Pads to a multiple of 64 columns with zeros.
//
// Limits, 4096 x 4096 bf16: quantise_rows reads 33.5 MB and writes 16.8 MB: 11.8 us at 4.27 TB/s.
//   In flight: a lane loads its whole share of the row (8 vectors of 16 bytes) before it uses any.
//   Instructions: about 5 per value (the maximum runs on pairs), of the 23 that issue slots allow.
// A separate kernel is the faster place for it: the product would redo it for every column tile.
//
// Registers: 32 for the row, so that it is read once; what exceeds them is read again from L2.
// Nothing waits for the host: the number of outliers stays in device memory. More of them than
// the gathered operands can hold makes the result NaN rather than wrong.
#include "common/types.cuh"

#define OUT_FP16 2
#define OUT_BF16 3
#ifndef IN
#define IN OUT_BF16
#endif
#ifndef ROW_WARPS
#define ROW_WARPS 2
#endif

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kRowThreads = ROW_WARPS * kWarp;
constexpr int kRowsPerBlock = kWarps / ROW_WARPS;
constexpr int kCached = 8;                // vectors of 8 values that a thread keeps in registers
constexpr int kStep = kRowThreads * 8;    // values of a row that its threads take per turn
constexpr float kTiny = 7.8886091e-31f;   // 2^-100: smaller rows become zero, 127 / max is finite
constexpr float kRound = 12582912.f;      // 1.5 * 2^23: adding it leaves round(x) in the low bits
constexpr int kOutlierStep = 64;
constexpr int kMostOutliers = 1024;

struct QuantiseParams {
    const u16* x;  // [m, k] bf16 or fp16, row pitch ldx
    s8* q;         // [m, k], row pitch ldq, a multiple of 16; the padding becomes zero
    float* scale;  // [m]
    u32* flags;    // [ceil(k / 32)] a bit per outlier column, zero before; null: no outliers
    int m, k, ldx, ldq;
    float threshold;
};

struct GatherParams {
    const u16* x;      // [m, k]
    s8* q;             // [m, k]: outlier columns are cleared
    float* scale;      // [m]: NaN if there are more outliers than cap
    const s8* w;       // [n, k]
    u16* x_outlier;    // [m, cap]
    u16* w_outlier;    // [n, cap]
    u32* flags;        // [ceil(k / 32)] from quantise_rows; zero again afterwards
    int* count;        // outlier columns found, also beyond cap
    int* arrived;      // zero between launches
    int m, n, k, ldx, ldq, ldw, cap;  // cap: a multiple of 64, at most kMostOutliers
};

__device__ __forceinline__ float widen(u16 bits) {
    return IN == OUT_FP16 ? from_f16(bits) : from_bf16(bits);
}

union Vector {
    uint4 whole;
    u32 pair[4];
    u16 value[8];
};

// Eight neighbours, zero beyond the row. Rows that start at multiples of 16 bytes load at once.
__device__ __forceinline__ Vector load_vector(const u16* row, int at, int k, bool aligned) {
    Vector v;
    v.whole = make_uint4(0, 0, 0, 0);
    if (aligned && at + 8 <= k) {
        v.whole = __ldg(reinterpret_cast<const uint4*>(row + at));
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (at + i < k) v.value[i] = __ldg(row + at + i);
    }
    return v;
}

// A NaN among the values must end in a NaN scale, not vanish: fmaxf would drop it.
__device__ __forceinline__ float max_or_nan(float a, float b) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}

__device__ __forceinline__ u32 max_or_nan_pair(u32 a, u32 b) {
    u32 larger;
    if constexpr (IN == OUT_FP16) {
        asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    } else {
        asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    }
    return larger;
}

__device__ __forceinline__ float pair_max(u32 pair) {
    return max_or_nan(widen(pair & 0xffff), widen(pair >> 16));
}

// The larger magnitudes of both halves of four pairs.
__device__ __forceinline__ u32 magnitudes(const Vector& v) {
    constexpr u32 kNoSign = 0x7fff7fffu;
    return max_or_nan_pair(
        max_or_nan_pair(v.pair[0] & kNoSign, v.pair[1] & kNoSign),
        max_or_nan_pair(v.pair[2] & kNoSign, v.pair[3] & kNoSign));
}

// A bit per value that is an outlier; those become 0.
__device__ __forceinline__ u32 take_outliers(Vector& v, float threshold) {
    u32 bits = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i)
        if (!(fabsf(widen(v.value[i])) < threshold)) {
            bits |= 1u << i;
            v.value[i] = 0;
        }
    return bits;
}

// Returns the outliers' bits; the ordinary magnitudes go into `largest`.
__device__ __forceinline__ u32 scan(const QuantiseParams& p, Vector& v, u32& largest) {
    u32 most = magnitudes(v), bits = 0;
    if (p.flags != nullptr && !(pair_max(most) < p.threshold)) {
        bits = take_outliers(v, p.threshold);
        most = magnitudes(v);
    }
    largest = max_or_nan_pair(largest, most);
    return bits;
}

__device__ __forceinline__ void flag_outliers(const QuantiseParams& p, u32 bits, int at) {
    for (; bits != 0; bits &= bits - 1) {
        const int column = at + __ffs(bits) - 1;
        u32* word = p.flags + column / 32;
        const u32 bit = 1u << column % 32;
        // Nearly always some other row has set it: look before the atomic.
        if (!(*static_cast<volatile u32*>(word) & bit)) atomicOr(word, bit);
    }
}

__device__ __forceinline__ u32 rounded(u16 bits, float inverse) {
    return __float_as_uint(__fadd_rn(__fmul_rn(widen(bits), inverse), kRound));
}

__device__ __forceinline__ u32 four_bytes(const u16* value, float inverse) {
    const u32 low = __byte_perm(rounded(value[0], inverse), rounded(value[1], inverse), 0x0040);
    const u32 high = __byte_perm(rounded(value[2], inverse), rounded(value[3], inverse), 0x0040);
    return __byte_perm(low, high, 0x5410);
}

__device__ __forceinline__ void quantise(const Vector& v, s8* to, float inverse) {
    *reinterpret_cast<uint2*>(to) =
        make_uint2(four_bytes(v.value, inverse), four_bytes(v.value + 4, inverse));
}

// Over the threads of this thread's row.
__device__ __forceinline__ float row_max(float value) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2)
        value = max_or_nan(value, __shfl_xor_sync(kFullMask, value, step));
    if constexpr (ROW_WARPS > 1) {
        __shared__ float warps[kRowsPerBlock][ROW_WARPS];
        const int row = threadIdx.x / kRowThreads;
        if (lane_index() == 0) warps[row][threadIdx.x % kRowThreads / kWarp] = value;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ROW_WARPS; ++i) value = max_or_nan(value, warps[row][i]);
    }
    return value;
}

extern "C" __global__ void __launch_bounds__(kThreads, 3)
    quantise_rows(const __grid_constant__ QuantiseParams p) {
    // Threads beyond the last row do it again: they must meet the others at the barrier.
    const int row = least<int>(blockIdx.x * kRowsPerBlock + threadIdx.x / kRowThreads, p.m - 1);
    const u16* x = p.x + static_cast<size_t>(row) * p.ldx;
    s8* q = p.q + static_cast<size_t>(row) * p.ldq;
    const bool aligned = p.ldx % 8 == 0;
    const int first = threadIdx.x % kRowThreads * 8;
    const int uncached = first + kCached * kStep;

    Vector cache[kCached];
    u32 largest_pair = 0, outliers[kCached / 4] = {};
#pragma unroll
    for (int i = 0; i < kCached; ++i)
        if (first + i * kStep < p.k) cache[i] = load_vector(x, first + i * kStep, p.k, aligned);
#pragma unroll
    for (int i = 0; i < kCached; ++i)
        if (first + i * kStep < p.k)
            outliers[i / 4] |= scan(p, cache[i], largest_pair) << i % 4 * 8;
    for (int at = uncached; at < p.k; at += kStep) {
        Vector v = load_vector(x, at, p.k, aligned);
        flag_outliers(p, scan(p, v, largest_pair), at);
    }

    const float largest = row_max(pair_max(largest_pair));
    const float inverse = largest > kTiny ? 127.f / largest : 0.f;
    if (first == 0) p.scale[row] = largest / 127.f;
#pragma unroll
    for (int i = 0; i < kCached; ++i)
        if (first + i * kStep < p.k) quantise(cache[i], q + first + i * kStep, inverse);
    for (int at = uncached; at < p.k; at += kStep) {
        Vector v = load_vector(x, at, p.k, aligned);
        u32 unused = 0;
        scan(p, v, unused);
        quantise(v, q + at, inverse);
    }
    // Last, off the row's critical path: reading a flag takes a trip to L2.
#pragma unroll
    for (int i = 0; i < kCached; ++i)
        flag_outliers(p, outliers[i / 4] >> i % 4 * 8 & 0xff, first + i * kStep);
    // The pitch is a multiple of 16: clear a last group of 8 that no value reached.
    const int padding = round_up(p.k, 8);
    if (first == 0 && padding < p.ldq) *reinterpret_cast<uint2*>(q + padding) = make_uint2(0, 0);
}

// ---------------------------------------------------------------- outliers

// Exclusive prefix sum over the CTA's threads; `total` becomes the sum of all.
__device__ __forceinline__ int prefix_sum(int value, int& total) {
    __shared__ int warps[kWarps];
    int inclusive = value;
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
        const int left = __shfl_up_sync(kFullMask, inclusive, step);
        if (lane_index() >= step) inclusive += left;
    }
    if (lane_index() == kWarp - 1) warps[threadIdx.x / kWarp] = inclusive;
    __syncthreads();
    int before = 0;
    total = 0;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
        if (i < static_cast<int>(threadIdx.x) / kWarp) before += warps[i];
        total += warps[i];
    }
    return before + inclusive - value;
}

// Bits -> ascending list in shared memory; returns how many there are.
__device__ __forceinline__ int list_columns(const GatherParams& p, int* columns) {
    const int words = ceil_div(p.k, 32), share = ceil_div(words, kThreads);
    const int first = least<int>(threadIdx.x * share, words), end = least(first + share, words);
    int mine = 0, found;
    for (int i = first; i < end; ++i) mine += __popc(__ldcg(p.flags + i));
    int at = prefix_sum(mine, found);
    for (int i = first; i < end; ++i)
        for (u32 bits = __ldcg(p.flags + i); bits != 0; bits &= bits - 1, ++at)
            if (at < p.cap) columns[at] = i * 32 + __ffs(bits) - 1;
    __syncthreads();
    return found;
}

__device__ __forceinline__ u16 narrow(s8 weight) {
    return IN == OUT_FP16 ? to_f16(weight) : to_bf16(weight);
}

// Two neighbours of the gathered row per lane: 64 columns are one coalesced store of a warp.
template <typename Load>
__device__ __forceinline__ void gather_row(u16* to, const int* columns, int used, Load load) {
    for (int j = 2 * lane_index(); j < round_up(used, kOutlierStep); j += 2 * kWarp) {
        const u32 low = j < used ? load(columns[j]) : 0;
        const u32 high = j + 1 < used ? load(columns[j + 1]) : 0;
        *reinterpret_cast<u32*>(to + j) = low | high << 16;
    }
}

// The last CTA to be done with the flags clears them for the next launch.
__device__ __forceinline__ void clear_flags(const GatherParams& p) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(p.arrived, 1) == static_cast<int>(gridDim.x) - 1;
    __syncthreads();
    if (!last) return;
    for (int i = threadIdx.x; i < ceil_div(p.k, 32); i += kThreads) p.flags[i] = 0;
    if (threadIdx.x == 0) *p.arrived = 0;
}

extern "C" __global__ void __launch_bounds__(kThreads)
    gather_outliers(const __grid_constant__ GatherParams p) {
    __shared__ int columns[kMostOutliers];
    const int found = list_columns(p, columns);
    const int used = least(found, p.cap);
    if (blockIdx.x == 0 && threadIdx.x == 0) *p.count = found;
    const int stride = gridDim.x * kWarps;
    for (int row = blockIdx.x * kWarps + threadIdx.x / kWarp; row < p.m + p.n; row += stride) {
        if (row < p.m) {
            const u16* x = p.x + static_cast<size_t>(row) * p.ldx;
            gather_row(p.x_outlier + static_cast<size_t>(row) * p.cap, columns, used,
                       [&](int column) -> u32 { return __ldg(x + column); });
            s8* q = p.q + static_cast<size_t>(row) * p.ldq;
            for (int j = lane_index(); j < used; j += kWarp) q[columns[j]] = 0;
            if (found > p.cap && lane_index() == 0) p.scale[row] = __int_as_float(0x7fffffff);
        } else {
            const s8* w = p.w + static_cast<size_t>(row - p.m) * p.ldw;
            gather_row(p.w_outlier + static_cast<size_t>(row - p.m) * p.cap, columns, used,
                       [&](int column) -> u32 { return narrow(__ldg(w + column)); });
        }
    }
    clear_flags(p);
}
