// What becomes of partial results: the warps' parts of a piece meet in shared memory, the pieces of
// a list in device memory. Parts of one row with the maxima m_i, sums l_i and outputs o_i (m in units of
// log2) add up as
//
//     m = max m_i     w_i = 2^(m_i - m)     l = sum w_i l_i     o = sum w_i o_i
//
// The CTA in whose share a list begins collects its pieces: they come from CTAs that were launched
// before it, and each has its piece of the list at the beginning of its share, so none comes much later
// than the collector's own. A piece is mailed in letters of 16 bytes, two columns of a row with the
// row's maximum and sum. A letter arrives whole and its sum says that it is there: no fence, no flag and
// no count, which took longer than the sums themselves. The collector leaves every letter box empty.
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
        p.lse[static_cast<size_t>(row.head) * p.sequences * p.q_len + row.token(p, list)] =
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

// The letter box for a pair of columns of a row, in the piece that CTA `cta` mails.
__device__ __forceinline__ float4* letter_box(const Problem& p, int cta, int r, int column) {
    return p.partial + (static_cast<size_t>(cta) * kRows + r) * kPairs + column / 2;
}

constexpr float kNoSum = -1.f;  // of an empty box

__device__ __forceinline__ bool arrived(const float4& letter) { return letter.w != kNoSum; }

// Pieces [first, last) of a list, mailed by the CTAs of these numbers, join (o, total) in the order of
// the keys. Eight letters are asked for at once, then waited for in turn.
__device__ __forceinline__ void collect(const Problem& p, int first, int last, int r, int column,
                                        float2& o, float2& total) {
    constexpr int kBatch = 8;
    for (int cta = first; cta < last; cta += kBatch) {
        float4 letters[kBatch];
        float top = total.x;
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
            if (cta + i < last) letters[i] = ptx::load_whole(letter_box(p, cta + i, r, column));
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
            if (cta + i < last) {
                float4* box = letter_box(p, cta + i, r, column);
                while (!arrived(letters[i])) letters[i] = ptx::load_whole(box);
                ptx::store_whole(box, float4{0.f, 0.f, 0.f, kNoSum});
                top = fmaxf(top, letters[i].z);
            }
        const float mine = weight_of(total.x, top);
        o = {o.x * mine, o.y * mine};
        total = {top, total.y * mine};
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
            if (cta + i < last) {
                const float weight = weight_of(letters[i].z, top);
                o = {fmaf(weight, letters[i].x, o.x), fmaf(weight, letters[i].y, o.y)};
                total.y = fmaf(weight, letters[i].w, total.y);
            }
    }
}

// Who has the pieces of a list beside the one at hand, which begins with `unit`: it may have been begun
// by an earlier CTA, or be continued by those after this one up to `last`.
struct Others {
    int cta, last;
    bool begun;
    __device__ __forceinline__ Others(const List& list, const attention::Shares& shares, int unit)
        : cta(shares.ctas - 1 - static_cast<int>(blockIdx.x)),
          last(shares.owner(list.unit_end - 1)),
          begun(unit > list.unit_begin) {}
};

// The warps' parts of a piece: mailed if an earlier CTA has the list's beginning, else to the output
// together with what others mail.
__device__ __forceinline__ void merge(Shared& s, const Problem& p, const List& list,
                                      const Others& others, Partial& partial, float scale) {
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
            float2 o = add_warps(s, r, column, total);
            if (others.begun) {
                ptx::store_whole(letter_box(p, others.cta, r, column),
                                 float4{o.x, o.y, total.x, total.y});
            } else {
                collect(p, others.cta + 1, others.last + 1, r, column, o, total);
                write_result(p, list, r, column, o, total, value_scale(p, list));
            }
        }
    }
}
