// Softmax as a policy of the main loops: how a row's scores become weights, what earlier outputs
// are multiplied by when that changes, what is left to do at the end.
#pragma once
#include "attention/problem.cuh"
#include "attention/rows.cuh"

struct SoftmaxRows : OnlineSoftmax {
    static constexpr bool kMayFail = false;
    static constexpr bool kScalesQueries = false;

    __device__ __forceinline__ SoftmaxRows(const Problem&, const Work&) {}

    template <int Count>
    __device__ __forceinline__ void weigh(float (&s)[Count], const Problem& p, bool = false) {
        OnlineSoftmax::weigh(s, p.scale_log2);
    }

    // 0, but the compiler cannot know it before all weights are summed: no sum is negative.
    template <int Count>
    __device__ __forceinline__ u32 zero_after(const float (&)[Count]) const {
        return (__float_as_uint(sum[0]) | __float_as_uint(sum[1])) >> 31;
    }

    template <int Count>
    __device__ __forceinline__ void pack(u32 (&w)[Count / 8][4], const float (&s)[Count]) const {
        pack_rows(w, s);
    }

    // `first_row` is the query of this thread's row g.
    __device__ __forceinline__ bool finish(const Problem& p, const Work& work, int first_row) {
        finish_sums();
        if (p.lse == nullptr || lane_index() % 4 != 0) return true;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row + 8 * half;
            if (row < work.q_len)
                p.lse[static_cast<size_t>(work.head) * p.tokens + work.q_start + row] =
                    log_sum(max[half], sum[half], p.scale_log2);
        }
        return true;
    }

    // Outputs are divided by the sums; a row that saw no key has the output 0.
    __device__ __forceinline__ RowFactors output_factors() const {
        return {{sum[0] > 0.f ? reciprocal_approx(sum[0]) : 0.f,
                 sum[1] > 0.f ? reciprocal_approx(sum[1]) : 0.f}};
    }
};
