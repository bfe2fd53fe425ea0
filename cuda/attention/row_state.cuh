// What a thread keeps of its two rows, whatever its policy about the reference is (rows.cuh, decode_rows.cuh):
// rows g and g + 8 of a warp's 16 lie with the four lanes of a quad.
#pragma once
#include "attention/numbers.cuh"

__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
    return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(kFullMask, x, 1);
    return x + __shfl_xor_sync(kFullMask, x, 2);
}

// What the outputs of a thread's two rows are multiplied by at the end.
struct RowFactors {
    float of[2];
};

template <int Count>
__device__ __forceinline__ void scale_rows(float (&o)[Count], const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) o[i] *= factor[i % 4 / 2];
}

struct RowState {
    float max[2] = {minus_infinity(), minus_infinity()};  // the reference, as a raw score q . k
    float sum[2] = {0.f, 0.f};  // this thread's columns only, until finish_sums()
    float rescale[2];           // what earlier sums are multiplied by

    // Earlier outputs are multiplied only when a row's reference has grown: late in a long row it
    // seldom does, and the vote costs less than the products.
    template <int Count>
    __device__ __forceinline__ void rescale_outputs(float (&o)[Count]) const {
        if (__any_sync(kFullMask, rescale[0] != 1.f || rescale[1] != 1.f)) scale_rows(o, rescale);
    }

    __device__ __forceinline__ void finish_sums() {
        sum[0] = quad_sum(sum[0]);
        sum[1] = quad_sum(sum[1]);
    }
};
