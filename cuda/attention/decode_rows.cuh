// Masks and the online softmax of decoding, on accumulators of mma.sync: as rows.cuh has them for
// prefill, with the exact maximum as the reference. Merging needs it less than prefill does, but this
// is the form that decoding was checked and timed with on a device.
#pragma once
#include "attention/row_state.cuh"

// Columns of one row outside [first, last) become -inf; both count from this thread's first column.
template <int Count>
__device__ __forceinline__ void mask_row(float (&s)[Count], int half, int first, int last) {
#pragma unroll
    for (int j = 0; j < Count / 4; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
            if (8 * j + i < first || 8 * j + i >= last) s[4 * j + 2 * half + i] = minus_infinity();
}

// The state of a thread's two rows.
struct OnlineSoftmax : RowState {
    // One block of scores becomes weights in place. The weights enter the sum before they are
    // rounded to 16 bits.
    template <int Count>
    __device__ __forceinline__ void weigh(float (&s)[Count], float scale_log2) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float top = max[half];
#pragma unroll
            for (int j = 0; j < Count / 4; ++j)
                top = fmaxf(top, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
            top = quad_max(top);
            // A row that has seen no key yet: any finite reference keeps -inf - reference at -inf.
            const float reference = top == minus_infinity() ? 0.f : top * scale_log2;
            rescale[half] = exp2_approx(fmaf(max[half], scale_log2, -reference));
            max[half] = top;
            float block_sum = 0.f;
#pragma unroll
            for (int j = 0; j < Count / 4; ++j)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float& x = s[4 * j + 2 * half + i];
                    x = exp2_approx(fmaf(x, scale_log2, -reference));
                    block_sum += x;
                }
            sum[half] = fmaf(sum[half], rescale[half], block_sum);
        }
    }
};
