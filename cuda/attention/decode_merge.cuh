// What becomes of partial results: the warps' parts of a piece meet in shared memory, the pieces of
// a list in device memory, where the CTA that arrives last adds them up. Parts of one row with the
// maxima m_i, sums l_i and outputs o_i (m in units of log2) add up as
//
//     m = max m_i     w_i = 2^(m_i - m)     l = sum w_i l_i     o = sum w_i o_i
//
// One weight serves a whole row: beside its outputs the exponentials are few.
#pragma once
#include "attention/decode_lists.cuh"
#include "attention/decode_rows.cuh"
#include "common/barrier.cuh"

constexpr int kPairs = kHeadDim / 2;  // of neighbouring columns

struct Partial {
    OnlineSoftmax rows[kStrips];
    float o[kStrips][kHeadDim / 2] = {};
};

__device__ __forceinline__ float value_scale(const Problem& p, const List& list) {
    if (!kBytes) return 1.f;
    return __ldg(p.v_scale + list.kv_head) * (KV == KV_E4M3 ? kWidenedE4m3Scale : 1.f);
}

// 2^(max - top), and 0 where nothing was seen: -inf - -inf has no value.
__device__ __forceinline__ float weight_of(float max, float top) {
    return exp2_approx(max - (top == minus_infinity() ? 0.f : top));
}

__device__ __forceinline__ void publish_sums(Shared& s, Partial& partial, float scale) {
    const int g = lane_index() / 4, warp = warp_index();
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
        partial.rows[strip].finish_sums();
        if (lane_index() % 4 != 0) continue;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            s.max[warp][16 * strip + 8 * half + g] = partial.rows[strip].max[half] * scale;
            s.sum[warp][16 * strip + 8 * half + g] = partial.rows[strip].sum[half];
        }
    }
}

// Element i of the half of a strip that row `first` is in. Each is named by a constant: an index that
// is none would put the outputs into local memory.
__device__ __forceinline__ float element(const Partial& partial, int first, int i) {
    float value = partial.o[0][i];
#pragma unroll
    for (int half = 1; half < 2 * kStrips; ++half)
        value = select(first / 8 == half, partial.o[half / 2][i + half % 2 * 2], value);
    return value;
}

// Rows [first, first + kMergeRows) of this warp's outputs. 16 bits: an accumulator holds columns
// 8 j + 2 t and its neighbour. Bytes: a transposed ldmatrix moves pairs of them, so the even columns
// of 16 landed in one product and the odd ones in the next.
__device__ __forceinline__ void publish_rows(Shared& s, const Partial& partial, int first) {
    const int g = lane_index() / 4, t = lane_index() % 4;
    float* row = s.merging.outputs[warp_index()][g % kMergeRows];
    if (g / kMergeRows != first % 8 / kMergeRows) return;  // after warp_index: it takes all lanes
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
        const int i = kBytes ? 8 * (j / 2) + j % 2 : 4 * j;
        const int column = kBytes ? 16 * (j / 2) + 4 * t + 2 * (j % 2) : 8 * j + 2 * t;
        *reinterpret_cast<float2*>(row + column) =
            float2{element(partial, first, i), element(partial, first, i + (kBytes ? 4 : 1))};
    }
}

__device__ __forceinline__ void write_result(const Problem& p, const List& list, int r, int column,
                                             float2 o, float2 total, float value_scale) {
    const Row row(p, list, r);
    const float factor = total.y > 0.f ? value_scale / total.y : 0.f;
    *reinterpret_cast<u32*>(p.out + row.offset(p, list) + column) =
        pack_pair(o.x * factor, o.y * factor);
    if (column == 0 && p.lse != nullptr)
        p.lse[static_cast<size_t>(row.head) * p.sequences * p.q_len + row.token(p, list)] =
            total.y > 0.f ? (total.x + log2_approx(total.y)) * kLn2 : minus_infinity();
}

__device__ __forceinline__ float* slot_outputs(const Problem& p, int slot) {
    return p.partial + static_cast<size_t>(slot) * kRows * kHeadDim;
}

__device__ __forceinline__ float2* slot_sums(const Problem& p, int slot) {
    float* sums = p.partial + static_cast<size_t>(2) * gridDim.x * kRows * kHeadDim;
    return reinterpret_cast<float2*>(sums) + static_cast<size_t>(slot) * kRows;
}

// A pair of columns of one row, summed over the warps in their order.
__device__ __forceinline__ float2 add_warps(const Shared& s, int r, int column, float2& total) {
    float2 o{0.f, 0.f};
    total = {minus_infinity(), 0.f};
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) total.x = fmaxf(total.x, s.max[warp][r]);
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
        const float weight = weight_of(s.max[warp][r], total.x);
        const float2 part = *reinterpret_cast<const float2*>(
            s.merging.outputs[warp][r % kMergeRows] + column);
        total.y = fmaf(weight, s.sum[warp][r], total.y);
        o.x = fmaf(weight, part.x, o.x);
        o.y = fmaf(weight, part.y, o.y);
    }
    return o;
}

// The warps' parts of a piece: to the output if the piece is the whole list, else to a slot.
__device__ __forceinline__ void merge_warps(Shared& s, const Problem& p, const List& list,
                                            Partial& partial, float scale, bool whole, int slot) {
    const int rows = rows_of(p, list);
    publish_sums(s, partial, scale);
    for (int first = 0; first < rows; first += kMergeRows) {
        publish_rows(s, partial, first);
        __syncthreads();
        for (int item = threadIdx.x; item < kMergeRows * kPairs; item += kThreads) {
            const int r = first + item / kPairs, column = item % kPairs * 2;
            if (r >= rows) break;
            float2 total;
            const float2 o = add_warps(s, r, column, total);
            if (whole) {
                write_result(p, list, r, column, o, total, value_scale(p, list));
                continue;
            }
            *reinterpret_cast<float2*>(slot_outputs(p, slot) + r * kHeadDim + column) = o;
            if (column == 0) slot_sums(p, slot)[r] = total;
        }
        __syncthreads();
    }
}

// The pieces of a list: CTAs [first, first + count), each with its slot.
struct Pieces {
    int first, count, first_slot;
    __device__ __forceinline__ Pieces(const List& list, int ctas, int units)
        : first(attention::share_owner(list.unit_begin, ctas, units)),
          count(attention::share_owner(list.unit_end - 1, ctas, units) - first + 1),
          first_slot(attention::partial_slot(first, list.unit_begin,
                                             attention::share_begin(first, ctas, units))) {}
    __device__ __forceinline__ int slot(int i) const {
        return i == 0 ? first_slot : 2 * (first + i);
    }
};

// By one warp: the weights of the pieces of row r, and the row's maximum and sum.
__device__ __forceinline__ void weigh_pieces(Shared& s, const Problem& p, const Pieces& pieces,
                                             int r) {
    float2* parts = s.merging.pieces[r % kMergeRows];
    float top = minus_infinity(), sum = 0.f;
    for (int i = lane_index(); i < pieces.count; i += kWarp) {
        parts[i] = __ldcg(slot_sums(p, pieces.slot(i)) + r);
        top = fmaxf(top, parts[i].x);
    }
    for (int step = kWarp / 2; step > 0; step /= 2)
        top = fmaxf(top, __shfl_xor_sync(kFullMask, top, step));
    for (int i = lane_index(); i < pieces.count; i += kWarp) {
        parts[i].x = weight_of(parts[i].x, top);
        sum = fmaf(parts[i].x, parts[i].y, sum);
    }
    for (int step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kFullMask, sum, step);
    if (lane_index() == 0) s.total[r % kMergeRows] = {top, sum};
}

// All pieces of a list, summed in the order of the keys.
__device__ __forceinline__ void merge_pieces(Shared& s, const Problem& p, const List& list,
                                             const Pieces& pieces) {
    const int rows = rows_of(p, list);
    for (int first = 0; first < rows; first += kMergeRows) {
        const int mine = first + warp_index();
        if (warp_index() < kMergeRows && mine < rows) weigh_pieces(s, p, pieces, mine);
        __syncthreads();
        for (int item = threadIdx.x; item < kMergeRows * kPairs; item += kThreads) {
            const int r = first + item / kPairs, column = item % kPairs * 2;
            if (r >= rows) break;
            float2 o{0.f, 0.f};
#pragma unroll 8
            for (int i = 0; i < pieces.count; ++i) {
                const float2 part = __ldcg(reinterpret_cast<const float2*>(
                    slot_outputs(p, pieces.slot(i)) + r * kHeadDim + column));
                const float weight = s.merging.pieces[r % kMergeRows][i].x;
                o.x = fmaf(weight, part.x, o.x);
                o.y = fmaf(weight, part.y, o.y);
            }
            write_result(p, list, r, column, o, s.total[r % kMergeRows], value_scale(p, list));
        }
        __syncthreads();
    }
}

// True in every thread of the CTA that is the last of `pieces` to have written its slot. The count
// goes back to zero for the next launch.
__device__ __forceinline__ bool arrived_last(Shared& s, const Problem& p, const List& list,
                                             const Pieces& pieces) {
    if (threadIdx.x == 0) {  // all have written: merge_warps ended with a barrier
        const u32 before = ptx::atomic_add_acquire_release(p.arrivals + list.index, 1u);
        s.last_arriver = before == static_cast<u32>(pieces.count - 1);
        if (s.last_arriver) p.arrivals[list.index] = 0;
    }
    __syncthreads();
    return s.last_arriver;
}
