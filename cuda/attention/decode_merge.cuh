// What becomes of partial results: the warps' parts of a piece meet in shared memory, the pieces of
// a list in device memory. Parts of one row with the maxima m_i, sums l_i and outputs o_i (m in units of
// log2) add up as
//
//     m = max m_i     w_i = 2^(m_i - m)     l = sum w_i l_i     o = sum w_i o_i
//
// Every CTA that has a piece of a list mails it in letters of 16 bytes, two columns of a row with the
// row's maximum and sum, and at its end collects a slice of the letters of all pieces: as many lanes side by
// side as there are pieces, one letter each. A letter arrives whole and its sum says that it is there: no
// fence, no flag and no count, which took longer than the sums themselves. Whoever has read a letter leaves
// the box empty. All CTAs have to be resident together: the launch is a cooperative one.
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
    float* row = s.outputs[warp_index()][g % kMergeRows];
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
        p.lse[row.head * p.sequences * p.q_len + row.token(p, list)] =
            total.y > 0.f ? (total.x + log2_approx(total.y)) * kLn2 : minus_infinity();
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
            s.outputs[warp][r % kMergeRows] + column);
        total.y = fmaf(weight, s.sum[warp][r], total.y);
        o.x = fmaf(weight, part.x, o.x);
        o.y = fmaf(weight, part.y, o.y);
    }
    return o;
}

constexpr float kNoSum = -1.f;  // of an empty box

// The letter box for a pair of columns of a row of the piece in `slot`.
__device__ __forceinline__ float4* letter_box(const Problem& p, int slot, int item) {
    return p.letters + static_cast<size_t>(slot) * kRows * kPairs + item;
}

__device__ __forceinline__ float4 take_letter(float4* box) {
    float4 letter;
    do letter = ptx::load_whole(box);
    while (letter.w == kNoSum);
    ptx::store_whole(box, float4{0.f, 0.f, 0.f, kNoSum});
    return letter;
}

// The CTAs that have a piece of a list, and the slot of the first one's.
struct Pieces {
    int first, count, first_slot;
    __device__ __forceinline__ Pieces(const List& list, const attention::Shares& shares)
        : first(shares.owner(list.unit_begin)),
          count(shares.owner(list.unit_end - 1) - first + 1),
          first_slot(attention::piece_slot(first, list.unit_begin, shares.share(first).first)) {}
    __device__ __forceinline__ int slot(int i) const {
        return i == 0 ? first_slot : 2 * (first + i);
    }
};

// The warps' parts of a piece: to the output if the piece is the whole list, else into letters.
__device__ __forceinline__ void merge_warps(Shared& s, const Problem& p, const List& list,
                                            Partial& partial, float scale, bool whole, int slot) {
    const int rows = rows_of(p, list);
    publish_sums(s, partial, scale);
    for (int first = 0; first < rows; first += kMergeRows) {
        if (first > 0) __syncthreads();  // the rows before have been read
        publish_rows(s, partial, first);
        __syncthreads();
        for (int item = threadIdx.x; item < kMergeRows * kPairs; item += kThreads) {
            const int r = first + item / kPairs, column = item % kPairs * 2;
            if (r >= rows) break;
            float2 total;
            const float2 o = add_warps(s, r, column, total);
            if (whole) write_result(p, list, r, column, o, total, value_scale(p, list));
            else
                ptx::store_whole(letter_box(p, slot, r * kPairs + column / 2),
                                 float4{o.x, o.y, total.x, total.y});
        }
    }
}

// This CTA's slice of the sums of a list. Lane by lane over the pieces, then across the lanes: an order
// that nobody's speed changes.
__device__ __forceinline__ void collect(const Problem& p, const List& list, const Pieces& pieces,
                                        int cta) {
    const int items = rows_of(p, list) * kPairs;
    const int each = attention::quotient(items + pieces.count - 1, pieces.count);
    const int begin = (cta - pieces.first) * each, end = least(items, begin + each);
    int log_width = 1;  // of the lanes to an item
    while (1 << log_width < least(kWarp, pieces.count)) ++log_width;
    const int width = 1 << log_width, lane = static_cast<int>(threadIdx.x) & (width - 1);
    for (int base = begin; base < end; base += kThreads >> log_width) {  // shuffles want whole warps
        const int item = base + (static_cast<int>(threadIdx.x) >> log_width);
        float2 o{0.f, 0.f}, total{minus_infinity(), 0.f};
        for (int i = lane; i < pieces.count && item < end; i += width) {
            const float4 letter = take_letter(letter_box(p, pieces.slot(i), item));
            const float top = fmaxf(total.x, letter.z);
            const float mine = weight_of(total.x, top), its = weight_of(letter.z, top);
            o = {fmaf(its, letter.x, o.x * mine), fmaf(its, letter.y, o.y * mine)};
            total = {top, fmaf(its, letter.w, total.y * mine)};
        }
        __syncwarp();
        float top = total.x;
        for (int other = width / 2; other > 0; other /= 2)
            top = fmaxf(top, __shfl_xor_sync(kFullMask, top, other));
        const float weight = weight_of(total.x, top);
        float sums[3] = {o.x * weight, o.y * weight, total.y * weight};
        for (int other = width / 2; other > 0; other /= 2)
#pragma unroll
            for (float& sum : sums) sum += __shfl_xor_sync(kFullMask, sum, other);
        if (lane == 0 && item < end)
            write_result(p, list, item / kPairs, item % kPairs * 2, float2{sums[0], sums[1]},
                         float2{top, sums[2]}, value_scale(p, list));
    }
}
