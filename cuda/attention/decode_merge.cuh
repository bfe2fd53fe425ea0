// What becomes of partial results: the warps' parts of a piece meet in shared memory, the pieces of
// a list in device memory, where the CTA that arrives last adds them up.
#pragma once
#include "attention/decode_lists.cuh"
#include "attention/rows.cuh"

struct Partial {
    OnlineSoftmax rows[kStrips];
    float o[kStrips][kHeadDim / 2] = {};
};

// Column of element i of this thread's outputs. 16 bits: as the accumulator has it. Bytes: a
// transposed ldmatrix moves pairs of them, so the even columns of 16 land in one product and the
// odd ones in the next.
__device__ __forceinline__ int output_column(int element) {
    const int tile = element / 4, i = element % 2, t = lane_index() % 4;
    return kBytes ? tile / 2 * 16 + 4 * t + 2 * i + tile % 2 : 8 * tile + 2 * t + i;
}

__device__ __forceinline__ float value_scale(const Problem& p, const List& list) {
    if (!kBytes) return 1.f;
    return __ldg(p.v_scale + list.kv_head) * (KV == KV_E4M3 ? kWidenedE4m3Scale : 1.f);
}

// Parts of one row with the maxima m and sums l add up as
//     m = max m_i,  l = sum l_i 2^(m_i - m),  o = sum o_i 2^(m_i - m)      (m in units of log2)
struct Sums {
    float max = minus_infinity(), sum = 0.f, o = 0.f;

    __device__ __forceinline__ void add(float other_max, float other_sum, float other_o) {
        const float top = fmaxf(max, other_max);
        const float reference = top == minus_infinity() ? 0.f : top;
        const float mine = exp2_approx(max - reference), its = exp2_approx(other_max - reference);
        sum = sum * mine + other_sum * its;
        o = o * mine + other_o * its;
        max = top;
    }
};

__device__ __forceinline__ float* warp_outputs(Shared& s, int warp) {
    return reinterpret_cast<float*>(s.ring[warp]);
}

__device__ __forceinline__ void publish(Shared& s, Partial& partial, float scale) {
    const int g = lane_index() / 4, warp = warp_index();
    __syncwarp();  // every lane has left the keys and values that lie here
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
        partial.rows[strip].finish_sums();
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int r = 16 * strip + 8 * half + g;
            if (lane_index() % 4 == 0) {
                s.merge.max[warp][r] = partial.rows[strip].max[half] * scale;
                s.merge.sum[warp][r] = partial.rows[strip].sum[half];
            }
#pragma unroll
            for (int j = 0; j < kHeadDim / 8; ++j)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const int element = 4 * j + 2 * half + i;
                    warp_outputs(s, warp)[r * kHeadDim + output_column(element)] =
                        partial.o[strip][element];
                }
        }
    }
    __syncthreads();
}

__device__ __forceinline__ void write_result(const Problem& p, const List& list, const Row& row,
                                             int column, const Sums& total, float scale) {
    const float value = total.sum > 0.f ? total.o / total.sum * scale : 0.f;
    p.out[(row.token(p, list) * p.heads + row.head) * kHeadDim + column] =
        FP16 ? to_f16(value) : to_bf16(value);
    if (column == 0 && p.lse != nullptr)
        p.lse[static_cast<size_t>(row.head) * p.sequences * p.q_len + row.token(p, list)] =
            total.sum > 0.f ? (total.max + log2_approx(total.sum)) * kLn2 : minus_infinity();
}

__device__ __forceinline__ float* slot_outputs(const Problem& p, int slot) {
    return p.partial + static_cast<size_t>(slot) * kRows * kHeadDim;
}

__device__ __forceinline__ float* slot_sums(const Problem& p, int slot) {
    return p.partial + static_cast<size_t>(2) * gridDim.x * kRows * kHeadDim +
           static_cast<size_t>(slot) * kRows * 2;
}

// The warps' parts of a piece: to the output if the piece is the whole list, else to a slot.
__device__ __forceinline__ void merge_warps(Shared& s, const Problem& p, const List& list,
                                            bool whole, int slot) {
    for (int item = threadIdx.x; item < kRows * kHeadDim; item += kThreads) {
        const int r = item / kHeadDim, column = item % kHeadDim;
        const Row row(p, list, r);
        if (!row.valid) break;
        Sums total;
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp)
            total.add(s.merge.max[warp][r], s.merge.sum[warp][r], warp_outputs(s, warp)[item]);
        if (whole) {
            write_result(p, list, row, column, total, value_scale(p, list));
            continue;
        }
        slot_outputs(p, slot)[item] = total.o;
        if (column == 0) {
            slot_sums(p, slot)[2 * r] = total.max;
            slot_sums(p, slot)[2 * r + 1] = total.sum;
        }
    }
}

// The CTA that arrives last at a list adds up its pieces, always in the same order.
__device__ __forceinline__ void merge_pieces(Shared& s, const Problem& p, const List& list,
                                             int units) {
    const int ctas = gridDim.x;
    const int first = attention::share_owner(list.unit_begin, ctas, units);
    const int last = attention::share_owner(list.unit_end - 1, ctas, units);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const u32 before = atomicAdd(p.arrivals + list.index, 1u);
        s.last_arriver = before == static_cast<u32>(last - first);
        if (s.last_arriver) p.arrivals[list.index] = 0;
    }
    __syncthreads();
    if (!s.last_arriver) return;
    __threadfence();
    for (int item = threadIdx.x; item < kRows * kHeadDim; item += kThreads) {
        const int r = item / kHeadDim;
        const Row row(p, list, r);
        if (!row.valid) break;
        Sums total;
#pragma unroll 4
        for (int cta = first; cta <= last; ++cta) {
            const int slot = attention::partial_slot(cta, list.unit_begin,
                                                     attention::share_begin(cta, ctas, units));
            total.add(__ldcg(slot_sums(p, slot) + 2 * r), __ldcg(slot_sums(p, slot) + 2 * r + 1),
                      __ldcg(slot_outputs(p, slot) + item));
        }
        write_result(p, list, row, item % kHeadDim, total, value_scale(p, list));
    }
}
