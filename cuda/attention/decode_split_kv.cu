// arch: sm_80
// registers: 255
// threads: 256
// dynamic_smem: 137216
// defines: HEAD_DIM=128
// defines: HEAD_DIM=128 STRIPS=2
// defines: HEAD_DIM=128 KV=1
// defines: HEAD_DIM=128 KV=2 FP16=1
#include "attention/numbers.cuh"
#include "attention/rows.cuh"
#include "attention/schedule.cuh"
#include "common/async_copy.cuh"
#include "common/mma.cuh"

#define KV_16BIT 0
#define KV_E4M3 1
#define KV_INT8 2
#ifndef KV
#define KV KV_16BIT
#endif
#ifndef STRIPS
#define STRIPS 1
#endif

constexpr bool kBytes = KV != KV_16BIT;
constexpr int kStrips = STRIPS;                           // of 16 packed queries
constexpr int kRows = 16 * kStrips;
constexpr int kTile = 16;                                 // keys a warp works on at once
constexpr int kRowBytes = kHeadDim * (kBytes ? 1 : 2);
constexpr int kUnits = kRowBytes / 16;                    // of 16 bytes per key
constexpr int kTileBytes = kTile * kRowBytes;
constexpr int kWarps = kTileBytes > 4096 ? 4 : 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kUnitKeys = kTile * kWarps;                 // one unit of the schedule
constexpr int kSteps = kHeadDim / 16;
constexpr int kMaxSequences = 1024;
#ifndef STAGES
#define STAGES (131072 / (2 * kTileBytes * kWarps))
#endif
constexpr int kStages = STAGES;
static_assert(kStages >= 2, "a stage to fill while another is read");

struct Problem {
    const u16* q;
    const u8* k;
    const u8* v;
    u16* out;
    float* lse;          // null: not wanted
    const int* lengths;  // keys of each sequence; null: kv_len each
    const int* table;    // [sequences, table_width] page numbers; null: contiguous keys
    const float* k_scale;  // 8-bit keys and values: one scale per KV head
    const float* v_scale;
    float* partial;      // [2 * CTAs][kRows][kHeadDim], then as many [kRows][2] of (max, sum)
    u32* arrivals;       // one zero per list
    s64 outer_bytes, token_bytes, head_bytes;  // strides; outer: a sequence's, or a page's
    int sequences, q_len, kv_len, heads, kv_heads;
    int page_size, table_width;
    int causal, window;
    float scale_log2;
};

// One list of keys: a sequence, a KV head and kRows of the queries that share them.
struct List {
    int index, sequence, kv_head, row_group;
    int kv_len, key_begin;    // the sequence's keys; the first that anyone here sees
    int unit_begin, unit_end; // in the line of all units
};

struct Merge {
    float max[kWarps][kRows], sum[kWarps][kRows];
};

struct Shared {
    u8 ring[kWarps][kStages][2][kTileBytes];  // keys, values; later the warps' outputs
    Merge merge;
    uint4 queries[kStrips][kSteps][kWarp];
    List list;  // here and not in registers, of which the sums leave few
    int prefix[kMaxSequences + 1];
    int last_arriver;
};
static_assert(kRows * kHeadDim * 4 <= kStages * 2 * kTileBytes, "outputs fit where keys were");

extern __shared__ __align__(128) u8 shared_bytes[];

// ---------------------------------------------------------------- the schedule

__device__ __forceinline__ int group_size(const Problem& p) { return p.heads / p.kv_heads; }

__device__ __forceinline__ int row_groups(const Problem& p) {
    return ceil_div(group_size(p) * p.q_len, kRows);
}

__device__ __forceinline__ int length_of(const Problem& p, int sequence) {
    return p.lengths == nullptr ? p.kv_len : __ldg(p.lengths + sequence);
}

__device__ __forceinline__ int begin_of(const Problem& p, int length) {
    return attention::first_key(p.causal ? p.q_len : 1, length, p.window, kTile);
}

// Every list has a unit, also one without keys: somebody has to write its zeros.
__device__ __forceinline__ int units_of(const Problem& p, int sequence) {
    const int length = length_of(p, sequence);
    return most(1, ceil_div(length - begin_of(p, length), kUnitKeys));
}

// prefix[i] = units of all lists of the sequences before i.
__device__ __forceinline__ void sum_units(const Problem& p, int* prefix) {
    if (warp_index() == 0) {
        const int lane = lane_index(), lists = p.kv_heads * row_groups(p);
        int before = 0;
        if (lane == 0) prefix[0] = 0;
        for (int first = 0; first < p.sequences; first += kWarp) {
            const int i = first + lane;
            int sum = i < p.sequences ? units_of(p, i) * lists : 0;
#pragma unroll
            for (int step = 1; step < kWarp; step *= 2) {
                const int other = __shfl_up_sync(kFullMask, sum, step);
                if (lane >= step) sum += other;
            }
            if (i < p.sequences) prefix[i + 1] = before + sum;
            before += __shfl_sync(kFullMask, sum, kWarp - 1);
        }
    }
    __syncthreads();
}

__device__ __forceinline__ List list_of_unit(const Problem& p, const int* prefix, int unit) {
    List list;
    list.sequence = attention::find_entry(prefix, p.sequences, unit);
    const int lists = p.kv_heads * row_groups(p);
    const int units = (prefix[list.sequence + 1] - prefix[list.sequence]) / lists;
    const int within = (unit - prefix[list.sequence]) / units;
    list.index = list.sequence * lists + within;
    list.kv_head = within / row_groups(p);
    list.row_group = within % row_groups(p);
    list.kv_len = length_of(p, list.sequence);
    list.key_begin = begin_of(p, list.kv_len);
    list.unit_begin = prefix[list.sequence] + within * units;
    list.unit_end = list.unit_begin + units;
    return list;
}

// Row r of a list is query r / group of head kv_head * group + r % group.
struct Row {
    int query, head;
    bool valid;
    __device__ __forceinline__ Row(const Problem& p, const List& list, int r) {
        const int packed = list.row_group * kRows + r;
        query = packed / group_size(p);
        head = list.kv_head * group_size(p) + packed % group_size(p);
        valid = query < p.q_len;
    }
    __device__ __forceinline__ size_t token(const Problem& p, const List& list) const {
        return static_cast<size_t>(list.sequence) * p.q_len + query;
    }
};

// ---------------------------------------------------------------- loads

// Wide heads leave no registers for addresses kept from one tile to the next.
constexpr int kLoadsUnrolled = kHeadDim == 256 ? 4 : kTile * kUnits / kWarp;

__device__ __forceinline__ int address_lane() {
    return kHeadDim == 256 ? opaque(lane_index()) : lane_index();
}

// Units are stored so that the 8 rows of an ldmatrix meet 8 different groups of banks.
__device__ __forceinline__ u8* swizzled(u8* tile, int row, int unit) {
    const int mixed = kUnits >= 8 ? unit ^ (row % 8) : unit ^ (row / 2 % 4);
    return tile + row * kRowBytes + (mixed << 4);
}

// The tiles of one warp in one piece of a list: key_begin + kTile * (warp + kWarps * i).
struct Tiles {
    int first_key, end;  // of this warp's first tile; of the piece's keys
    int count;
    __device__ __forceinline__ Tiles(int begin, int end_key)
        : first_key(begin + kTile * warp_index()), end(end_key),
          count(most(0, ceil_div(end_key - first_key, kUnitKeys))) {}
    __device__ __forceinline__ int key(int i) const { return first_key + i * kUnitKeys; }
};

// A tile lies in one page, whose number is fetched one tile ahead of its use.
struct Loader {
    const Problem& p;
    const List& list;
    const Tiles& tiles;
    int outer;

    __device__ __forceinline__ Loader(const Problem& p, const List& list, const Tiles& tiles)
        : p(p), list(list), tiles(tiles), outer(outer_of(0)) {}

    __device__ __forceinline__ int outer_of(int i) const {
        if (p.table == nullptr || i >= tiles.count) return list.sequence;
        return __ldg(p.table + static_cast<size_t>(list.sequence) * p.table_width +
                     tiles.key(i) / p.page_size);
    }

    __device__ __forceinline__ void load(u8 (&stage)[2][kTileBytes], int i) {
        if (i < tiles.count) {
            const int key = tiles.key(i), lane = address_lane();
            const int inner = p.table == nullptr ? key : key % p.page_size;
            const s64 base = outer * p.outer_bytes + inner * p.token_bytes +
                             list.kv_head * p.head_bytes;
#pragma unroll kLoadsUnrolled
            for (int first = 0; first < kTile * kUnits; first += kWarp) {
                const int part = first + lane, row = part / kUnits, unit = part % kUnits;
                const bool inside = key + row < tiles.end;
                const s64 at = base + (inside ? row * p.token_bytes : 0) + unit * 16;
                ptx::copy_async_16(swizzled(stage[0], row, unit), p.k + at, inside);
                ptx::copy_async_16(swizzled(stage[1], row, unit), p.v + at, inside);
            }
            outer = outer_of(i + 1);
        }
        ptx::copy_async_commit();  // an empty group keeps the count of groups right
    }
};

// ---------------------------------------------------------------- products of one tile

// Bytes are widened to fp16, so 8-bit keys and values are multiplied in fp16 whatever q is.
constexpr bool kHalf = kBytes || FP16;

__device__ __forceinline__ void multiply(float* d, const u32 (&a)[4], u32 b0, u32 b1) {
    const u32 b[2] = {b0, b1};
    float(&sums)[4] = *reinterpret_cast<float(*)[4]>(d);
    if constexpr (kHalf) ptx::mma_f16(sums, a, b);
    else ptx::mma_bf16(sums, a, b);
}

template <int First, int Second>
__device__ __forceinline__ u32 widen(u32 bytes) {
    return KV == KV_E4M3 ? widen_e4m3<First, Second>(bytes) : widen_s8<First, Second>(bytes);
}

__device__ __forceinline__ u32 pack_half(float low, float high) {
    return kHalf ? pack_f16(low, high) : pack_bf16(low, high);
}

// Queries as A operands, in shared memory as the lanes want them: [strip][step][lane] of 4 registers.
// An 8-bit ldmatrix hands a lane 4 neighbouring bytes, columns 4 t .. 4 t + 3 of 16; the sum over
// columns may run in any order, so q simply follows: its columns 4 t, 4 t + 1 stand where the
// operand's 2 t, 2 t + 1 are, and 4 t + 2, 4 t + 3 where 2 t + 8, 2 t + 9 are.
__device__ __forceinline__ u32 query_pair(const Problem& p, const List& list, int r, int column) {
    const Row row(p, list, r);
    if (!row.valid) return 0;
    const u32 pair = __ldg(reinterpret_cast<const u32*>(
        p.q + (row.token(p, list) * p.heads + row.head) * kHeadDim + column));
    return kBytes && !FP16 ? pack_f16(bf16_low(pair), bf16_high(pair)) : pair;
}

__device__ __forceinline__ void load_queries(Shared& s, const Problem& p, const List& list) {
    for (int i = threadIdx.x; i < kStrips * kSteps * kWarp; i += kThreads) {
        const int lane = i % kWarp, step = i / kWarp % kSteps, strip = i / kWarp / kSteps;
        const int r = 16 * strip + lane / 4, t = lane % 4;
        const int column = 16 * step + (kBytes ? 4 * t : 2 * t), next = kBytes ? 2 : 8;
        s.queries[strip][step][lane] = make_uint4(
            query_pair(p, list, r, column), query_pair(p, list, r + 8, column),
            query_pair(p, list, r, column + next), query_pair(p, list, r + 8, column + next));
    }
}

__device__ __forceinline__ void multiply_queries(float* d, const uint4& q, u32 b0, u32 b1) {
    const u32 a[4] = {q.x, q.y, q.z, q.w};
    multiply(d, a, b0, b1);
}

__device__ __forceinline__ void score(const Shared& shared, u8* keys, float (&s)[kStrips][8]) {
    const int lane = address_lane();
    if constexpr (!kBytes) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
            u32 k[4];  // keys 0-7: columns 0-7 and 8-15; then keys 8-15
            ptx::ldmatrix_x4(k, swizzled(keys, lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
#pragma unroll
            for (int strip = 0; strip < kStrips; ++strip) {
                const uint4 q = shared.queries[strip][step][lane];
                multiply_queries(&s[strip][0], q, k[0], k[1]);
                multiply_queries(&s[strip][4], q, k[2], k[3]);
            }
        }
    } else {
#pragma unroll
        for (int step = 0; step < kSteps; step += 2) {
            u32 k[4];  // keys 0-7: 16 columns, the next 16; then keys 8-15
            ptx::ldmatrix_x4(k, swizzled(keys, lane / 16 * 8 + lane % 8, step + lane / 8 % 2));
#pragma unroll
            for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    multiply_queries(&s[strip][i / 2 * 4],
                                     shared.queries[strip][step + i % 2][lane], widen<0, 1>(k[i]),
                                     widen<2, 3>(k[i]));
        }
    }
}

// Column of element i of this thread's outputs. 16 bits: as the accumulator has it. Bytes: a
// transposed ldmatrix moves pairs of them, so the even columns of 16 land in one product and the
// odd ones in the next.
__device__ __forceinline__ int output_column(int element) {
    const int tile = element / 4, i = element % 2, t = lane_index() % 4;
    return kBytes ? tile / 2 * 16 + 4 * t + 2 * i + tile % 2 : 8 * tile + 2 * t + i;
}

__device__ __forceinline__ void accumulate(u8* values, const u32 (&weights)[kStrips][1][4],
                                           float (&o)[kStrips][kHeadDim / 2]) {
    const int lane = address_lane();
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
        u32 v[4];
        if constexpr (!kBytes) {  // columns 0-7: keys 0-7 and 8-15; then columns 8-15
            ptx::ldmatrix_x4_transposed(v, swizzled(values, lane % 16, 2 * j + lane / 16));
        } else if (j % 2 == 0) {  // 16 columns: keys 0-7 and 8-15; then the next 16
            ptx::ldmatrix_x4_transposed(v, swizzled(values, lane % 16, j + lane / 16));
        }
#pragma unroll
        for (int strip = 0; strip < kStrips; ++strip) {
            if constexpr (!kBytes) {
                multiply(&o[strip][8 * j], weights[strip][0], v[0], v[1]);
                multiply(&o[strip][8 * j + 4], weights[strip][0], v[2], v[3]);
            } else if (j % 2 == 0) {
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float* at = &o[strip][8 * (j + i)];
                    multiply(at, weights[strip][0], widen<0, 2>(v[2 * i]), widen<0, 2>(v[2 * i + 1]));
                    multiply(at + 4, weights[strip][0], widen<1, 3>(v[2 * i]),
                             widen<1, 3>(v[2 * i + 1]));
                }
            }
        }
    }
}

// ---------------------------------------------------------------- one piece of a list

struct Partial {
    OnlineSoftmax rows[kStrips];
    float o[kStrips][kHeadDim / 2] = {};
};

// Keys that a packed row does not see, and those beyond the piece, become -inf.
__device__ __forceinline__ void mask_tile(const Problem& p, const List& list, int key, int end,
                                          float (&s)[kStrips][8]) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const Row row(p, list, 16 * strip + 8 * half + g);
            const attention::Range keys =
                attention::visible_keys(row.query, p.q_len, list.kv_len, p.causal, p.window);
            mask_row(s[strip], half, keys.first - key - 2 * t, least(keys.last, end) - key - 2 * t);
        }
}

__device__ __forceinline__ float score_scale(const Problem& p, const List& list) {
    if (!kBytes) return p.scale_log2;
    return p.scale_log2 * __ldg(p.k_scale + list.kv_head) *
           (KV == KV_E4M3 ? kWidenedE4m3Scale : 1.f);
}

__device__ __forceinline__ float value_scale(const Problem& p, const List& list) {
    if (!kBytes) return 1.f;
    return __ldg(p.v_scale + list.kv_head) * (KV == KV_E4M3 ? kWidenedE4m3Scale : 1.f);
}

// This warp's tiles of the keys [begin, end): past the queries, no warp waits for another one.
__device__ __forceinline__ void attend(Shared& s, const Problem& p, const List& list, int begin,
                                       int end, Partial& partial) {
    const Tiles tiles(begin, end);
    auto& ring = s.ring[warp_index()];
    Loader loader(p, list, tiles);
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) loader.load(ring[i], i);
    load_queries(s, p, list);
    __syncthreads();
    const float scale = score_scale(p, list);
    const int all_see = attention::visible_keys(0, p.q_len, list.kv_len, p.causal, p.window).last;
    const int some_miss =
        attention::visible_keys(p.q_len - 1, p.q_len, list.kv_len, p.causal, p.window).first;
    int stage = 0;
    for (int i = 0; i < tiles.count; ++i) {
        ptx::copy_async_wait<kStages - 2>();
        __syncwarp();  // the tile is in; and every lane has left the stage loaded next
        loader.load(ring[stage == 0 ? kStages - 1 : stage - 1], i + kStages - 1);
        const int key = tiles.key(i);
        float scores[kStrips][8] = {};
        u32 weights[kStrips][1][4];
        score(s, ring[stage][0], scores);
        if (key + kTile > least(all_see, end) || key < some_miss)
            mask_tile(p, list, key, end, scores);
#pragma unroll
        for (int strip = 0; strip < kStrips; ++strip) {
            partial.rows[strip].weigh(scores[strip], scale);
            partial.rows[strip].rescale_outputs(partial.o[strip]);
#pragma unroll
            for (int half = 0; half < 4; ++half)
                weights[strip][0][half] =
                    pack_half(scores[strip][2 * half], scores[strip][2 * half + 1]);
        }
        accumulate(ring[stage][1], weights, partial.o);
        stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    ptx::copy_async_wait<0>();
}

// ---------------------------------------------------------------- merging

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

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    attention_decode(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    sum_units(p, s.prefix);
    const int units = s.prefix[p.sequences], cta = blockIdx.x;
    const int share_begin = attention::share_begin(cta, gridDim.x, units);
    const int share_end = attention::share_begin(cta + 1, gridDim.x, units);
    for (int unit = share_begin; unit < share_end;) {
        if (threadIdx.x == 0) s.list = list_of_unit(p, s.prefix, unit);
        __syncthreads();
        const List& list = s.list;
        const int end = least(share_end, list.unit_end);
        const int key = list.key_begin + (unit - list.unit_begin) * kUnitKeys;
        const int end_key = least(list.kv_len, list.key_begin + (end - list.unit_begin) * kUnitKeys);
        Partial partial;
        attend(s, p, list, key, end_key, partial);
        publish(s, partial, score_scale(p, list));
        const bool whole = unit == list.unit_begin && end == list.unit_end;
        merge_warps(s, p, list, whole, attention::partial_slot(cta, list.unit_begin, share_begin));
        if (!whole) merge_pieces(s, p, list, units);
        __syncthreads();  // the next list's keys arrive where the outputs lie
        unit = end;
    }
}
