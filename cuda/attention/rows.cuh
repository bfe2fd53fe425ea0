// Masks and the online softmax on accumulators. Both mma.sync and wgmma leave a thread (g = lane /
// 4, t = lane % 4) with rows g and g + 8 of its warp's 16 and, of every 8 columns, 2 t and 2 t + 1:
// element 4 j + i is row g + 8 (i / 2), column 8 j + 2 t + i % 2.
//
// Online softmax (Milakov & Gimelshein 2018), for each row, over blocks of keys in any order:
//     m' = max(m, max_j s_j)     l' = l 2^(m - m') + sum_j 2^(s_j - m')     o' = o 2^(m - m') + ...
// with s in units of log2(e); 2^-inf = 0 makes masked keys and the first block ordinary cases.
#pragma once
#include "attention/row_state.cuh"
#include "attention/schedule.cuh"

// How many of a thread's columns of a row, 0 1 8 9 16 17 ..., lie before column `end`.
__device__ __forceinline__ int columns_before(int end) {
    const int reached = end > 0 ? end : 0;
    return reached / 8 * 2 + (reached % 8 < 2 ? reached % 8 : 2);
}

// The lowest `count` bits from bit 32 * word on, of a string of ones.
__device__ __forceinline__ u32 low_bits(int count, int word) {
    return ~shift_left(~0u, count > 32 * word ? count - 32 * word : 0);
}

// Columns of one row outside [first, last) become -inf; both count from this thread's first column.
// One bit a column: a test of a bit costs less than two comparisons.
template <int Count>
__device__ __forceinline__ void mask_row(float (&s)[Count], int half, int first, int last) {
    const int begin = columns_before(first), end = columns_before(last);
#pragma unroll
    for (int word = 0; word < (Count + 63) / 64; ++word) {
        const u32 seen = low_bits(end, word) & ~low_bits(begin, word);
#pragma unroll
        for (int bit = 0; bit < 32; ++bit) {
            const int column = 32 * word + bit, i = column / 2 * 4 + 2 * half + column % 2;
            if (i < Count && !(seen & 1u << bit)) s[i] = minus_infinity();
        }
    }
}

// Scores of keys that a row does not see become -inf. `first_row` is the query of this thread's
// row g, `first_key` the key of column 0.
template <int Count>
__device__ __forceinline__ void mask_scores(float (&s)[Count], int first_row, int first_key,
                                            int q_len, int kv_len, int causal, int window) {
    const int t = lane_index() % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const attention::Range keys =
            attention::visible_keys(first_row + 8 * half, q_len, kv_len, causal, window);
        mask_row(s, half, keys.first - first_key - 2 * t, keys.last - first_key - 2 * t);
    }
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

// The state of a thread's two rows. The reference m need not be the maximum: it may lag behind by
// kLag, weights are then at most 2^kLag, and earlier outputs are seldom rescaled (as
// FlashAttention-4 does).
struct OnlineSoftmax : RowState {
    static constexpr float kLag = 8.f;

    // The largest score of each row. Positive floats are ordered as their bits are as integers, and
    // above all negative ones; of integers the largest of three takes one instruction. A row that
    // has no positive score in the block is rare, and looked at again.
    template <int Count>
    __device__ __forceinline__ void find_tops(float (&top)[2], const float (&s)[Count]) const {
        s32 bits[2] = {-2147483647 - 1, -2147483647 - 1};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int j = 0; j < Count / 4; ++j)
                bits[half] = max_of_three(bits[half], __float_as_int(s[4 * j + 2 * half]),
                                          __float_as_int(s[4 * j + 2 * half + 1]));
#pragma unroll
            for (int step = 1; step <= 2; step *= 2)
                bits[half] = most(bits[half], __shfl_xor_sync(kFullMask, bits[half], step));
            top[half] = __int_as_float(bits[half]);
        }
        if (!__any_sync(kFullMask, (bits[0] | bits[1]) < 0)) return;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            top[half] = minus_infinity();
#pragma unroll
            for (int j = 0; j < Count / 4; ++j)
                top[half] = fmaxf(top[half], fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
            top[half] = quad_max(top[half]);
        }
    }

    // One block of scores becomes weights in place. The weights enter the sum before they are
    // rounded to 16 bits.
    template <int Count>
    __device__ __forceinline__ void weigh(float (&s)[Count], float scale_log2) {
        float top[2];
        find_tops(top, s);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const bool grows = (top[half] - max[half]) * scale_log2 > kLag;
            const float next = grows ? top[half] : max[half];
            // A row that has seen no key yet: any finite reference keeps -inf - reference at -inf.
            const float reference = next == minus_infinity() ? 0.f : next * scale_log2;
            rescale[half] = grows ? exp2_approx(fmaf(max[half], scale_log2, -reference)) : 1.f;
            max[half] = next;
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

// log sum_j exp(scale q . k_j) of a finished row; -inf for one that saw no key.
__device__ __forceinline__ float log_sum(float max, float sum, float scale_log2) {
    return sum > 0.f ? fmaf(max, scale_log2, log2_approx(sum)) * kLn2 : minus_infinity();
}
