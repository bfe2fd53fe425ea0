// Masks and the online softmax on accumulators. Both mma.sync and wgmma leave a thread (g = lane /
// 4, t = lane % 4) with rows g and g + 8 of its warp's 16 and, of every 8 columns, 2 t and 2 t + 1:
// element 4 j + i is row g + 8 (i / 2), column 8 j + 2 t + i % 2.
//
// Online softmax (Milakov & Gimelshein 2018), for each row, over blocks of keys in any order:
//     m' = max(m, max_j s_j)     l' = l 2^(m - m') + sum_j 2^(s_j - m')     o' = o 2^(m - m') + ...
// with s in units of log2(e); 2^-inf = 0 makes masked keys and the first block ordinary cases.
#pragma once
#include "attention/problem.cuh"

// Scores of keys that a row does not see become -inf. `first_row` is the query of this thread's
// row g, `first_key` the key of column 0.
template <int Count>
__device__ __forceinline__ void mask_scores(float (&s)[Count], const Problem& p,
                                            const Work& work, int first_row, int first_key) {
    const int t = lane_index() % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const attention::Range keys = attention::visible_keys(
            first_row + 8 * half, work.q_len, work.kv_len, p.causal, p.window);
        const int first = keys.first - first_key - 2 * t, last = keys.last - first_key - 2 * t;
#pragma unroll
        for (int j = 0; j < Count / 4; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int column = 8 * j + i;
                if (column < first || column >= last) s[4 * j + 2 * half + i] = minus_infinity();
            }
    }
}

__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
    return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(kFullMask, x, 1);
    return x + __shfl_xor_sync(kFullMask, x, 2);
}

template <int Count>
__device__ __forceinline__ void scale_rows(float (&o)[Count], const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) o[i] *= factor[i % 4 / 2];
}

// Weights as the A operand of the next product: of 16 columns, (g, 2t) (g+8, 2t) (g, 2t+8)
// (g+8, 2t+8), each with its right neighbour in the upper half of the register.
template <int Count>
__device__ __forceinline__ void pack_rows(u32 (&packed)[Count / 8][4], const float (&s)[Count]) {
#pragma unroll
    for (int k = 0; k < Count / 8; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i)
            packed[k][i] = pack_pair(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

// A policy of the main loops: how a row's scores become weights, what earlier outputs are multiplied
// by when that changes, and what is left to do at the end.
struct SoftmaxRows {
    float max[2] = {minus_infinity(), minus_infinity()};  // of the raw scores q . k
    float sum[2] = {0.f, 0.f};  // this thread's columns only, until finish()
    float rescale[2];

    __device__ __forceinline__ SoftmaxRows(const Problem&, const Work&) {}

    // One block of scores becomes weights in place. The weights enter the sum before they are
    // rounded to 16 bits.
    template <int Count>
    __device__ __forceinline__ void weigh(float (&s)[Count], const Problem& p) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float top = max[half];
#pragma unroll
            for (int j = 0; j < Count / 4; ++j)
                top = fmaxf(top, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
            top = quad_max(top);
            // A row that has seen no key yet: any finite reference keeps -inf - reference at -inf.
            const float reference = top == minus_infinity() ? 0.f : top * p.scale_log2;
            rescale[half] = exp2_approx(fmaf(max[half], p.scale_log2, -reference));
            max[half] = top;
            float block_sum = 0.f;
#pragma unroll
            for (int j = 0; j < Count / 4; ++j)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float& x = s[4 * j + 2 * half + i];
                    x = exp2_approx(fmaf(x, p.scale_log2, -reference));
                    block_sum += x;
                }
            sum[half] = fmaf(sum[half], rescale[half], block_sum);
        }
    }

    // Earlier outputs are multiplied only when a row's maximum has grown: late in a long row it
    // rarely does, and the vote costs less than the products.
    template <int Count>
    __device__ __forceinline__ void rescale_outputs(float (&o)[Count]) const {
        if (__any_sync(kFullMask, rescale[0] != 1.f || rescale[1] != 1.f)) scale_rows(o, rescale);
    }

    // Sums over all columns. `first_row` is the query of this thread's row g.
    __device__ __forceinline__ void finish(const Problem& p, const Work& work, int first_row) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[half] = quad_sum(sum[half]);
            const int row = first_row + 8 * half;
            if (p.lse != nullptr && lane_index() % 4 == 0 && row < work.q_len)
                p.lse[static_cast<size_t>(work.head) * p.tokens + work.q_start + row] =
                    sum[half] > 0.f ? fmaf(max[half], p.scale_log2, log2_approx(sum[half])) * kLn2
                                    : minus_infinity();
        }
    }

    // Divides by the sums; a row that saw no key has the output 0.
    template <int Count>
    __device__ __forceinline__ void normalise(float (&o)[Count]) const {
        const float inverse[2] = {sum[0] > 0.f ? reciprocal_approx(sum[0]) : 0.f,
                                  sum[1] > 0.f ? reciprocal_approx(sum[1]) : 0.f};
        scale_rows(o, inverse);
    }
};
