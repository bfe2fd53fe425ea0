// The decoding problem, and how its work is cut: lists of keys, units, shares (schedule.cuh has the
// arithmetic), and what lies where in shared memory.
#pragma once
#include "attention/numbers.cuh"
#include "attention/schedule.cuh"

#define KV_16BIT 0
#define KV_E4M3 1
#define KV_INT8 2
#ifndef KV
#define KV KV_16BIT
#endif
#ifndef STRIPS
#define STRIPS 1
#endif

// Contiguous keys, as many in every sequence: what is known of them needs no instruction at the start.
#ifndef FIXED
#define FIXED 0
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
constexpr int kStages = 131072 / (2 * kTileBytes * kWarps);
static_assert(kStages >= 2, "a stage to fill while another is read");

// Partial results meet in shared memory a few rows at a time, so that they need not lie where keys
// are: the ring goes on filling. Eight floats more per row keep a warp's rows in different banks.
constexpr int kMergeRows = least(8, 16384 / (kWarps * kHeadDim * 4));
constexpr int kMergeWidth = kHeadDim + 8;

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
    float4* letters;     // [2 CTAs][kRows][kHeadDim / 2] of (two columns, maximum, sum): decode_merge.cuh
    s64 outer_bytes, token_bytes, head_bytes;  // strides; outer: a sequence's, or a page's
    int sequences, q_len, kv_len, heads, kv_heads;
    int group, row_groups;  // heads per KV head; lists per sequence and KV head
    int page_size, table_width;
    int causal, window;
    float scale_log2;
};

// One list of keys: a sequence, a KV head and kRows of the queries that share them.
struct List {
    int sequence, kv_head, row_group;
    int kv_len, key_begin;    // the sequence's keys; the first that anyone here sees
    int unit_begin, unit_end; // in the line of all units
};

// Where a warp's loads are: its next tile, the piece's end, what lies beyond the piece. And what is not to
// be kept in registers from one piece to the next.
struct Cursor {
    s64 head;  // bytes from a token's start
    int key, end, sequence, next;
    attention::Range share;
    attention::Shares shares;
};

struct Shared {
    u8 ring[kWarps][kStages][2][kTileBytes];  // keys, values
    float outputs[kWarps][kMergeRows][kMergeWidth];  // of the warps, for one piece
    float max[kWarps][kRows], sum[kWarps][kRows];
    uint4 queries[kStrips][kSteps][kWarp];
    Cursor cursors[kWarps];  // these and the list are here, since sums leave few registers
    List list;
    int prefix[kMaxSequences + 1];
    int list_units;          // of every list, or 0: they differ
};

extern __shared__ __align__(128) u8 shared_bytes[];

// ---------------------------------------------------------------- the schedule

__device__ __forceinline__ bool is_fixed(const Problem& p) { return FIXED || p.lengths == nullptr; }
__device__ __forceinline__ bool is_paged(const Problem& p) { return !FIXED && p.table != nullptr; }

__device__ __forceinline__ int length_of(const Problem& p, int sequence) {
    return is_fixed(p) ? p.kv_len : __ldg(p.lengths + sequence);
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
__device__ __forceinline__ void sum_units(const Problem& p, Shared& s) {
    if (warp_index() == 0) {
        const int lane = lane_index(), lists = p.kv_heads * p.row_groups;
        const int first_units = units_of(p, 0);
        int before = 0;
        bool same = true;
        if (lane == 0) s.prefix[0] = 0;
        for (int first = 0; first < p.sequences; first += kWarp) {
            const int i = first + lane;
            const int each = i < p.sequences ? units_of(p, i) : 0;
            same = same && (each == first_units || i >= p.sequences);
            int sum = each * lists;
#pragma unroll
            for (int step = 1; step < kWarp; step *= 2) {
                const int other = __shfl_up_sync(kFullMask, sum, step);
                if (lane >= step) sum += other;
            }
            if (i < p.sequences) s.prefix[i + 1] = before + sum;
            before += __shfl_sync(kFullMask, sum, kWarp - 1);
        }
        same = __all_sync(kFullMask, same);
        if (lane == 0) s.list_units = same ? first_units : 0;
    }
    __syncthreads();
}

// Where no lengths are given nothing has to be fetched, and no prefix is needed.
__device__ __forceinline__ attention::Shares shares_of(const Problem& p, Shared& s) {
    const int lists = p.sequences * p.kv_heads * p.row_groups, most = static_cast<int>(gridDim.x);
    if (is_fixed(p)) return attention::even_shares(lists, units_of(p, 0), most);
    sum_units(p, s);
    if (s.list_units > 0) return attention::even_shares(lists, s.list_units, most);
    return attention::uneven_shares(s.prefix[p.sequences], 0, most);
}

__device__ __forceinline__ List list_of_unit(const Problem& p, const int* prefix,
                                             const attention::Shares& shares, int unit) {
    List list;
    const int lists = p.kv_heads * p.row_groups;
    int units = shares.list_units, within;
    if (FIXED || units > 0) {
        const int index = attention::quotient(unit, units);
        list.sequence = attention::quotient(index, lists);
        within = index - list.sequence * lists;
        list.unit_begin = index * units;
    } else {
        list.sequence = attention::find_entry(prefix, p.sequences, unit);
        const int begin = prefix[list.sequence];
        units = attention::quotient(prefix[list.sequence + 1] - begin, lists);
        within = attention::quotient(unit - begin, units);
        list.unit_begin = begin + within * units;
    }
    list.unit_end = list.unit_begin + units;
    list.kv_head = p.row_groups == 1 ? within : attention::quotient(within, p.row_groups);
    list.row_group = within - list.kv_head * p.row_groups;
    list.kv_len = length_of(p, list.sequence);
    list.key_begin = begin_of(p, list.kv_len);
    return list;
}

// The part of a list that lies in one CTA's share: units [unit, next), keys [key, end).
struct Piece {
    int next, key, end;
    __device__ __forceinline__ Piece(const List& list, int unit, int share_end)
        : next(least(share_end, list.unit_end)),
          key(list.key_begin + (unit - list.unit_begin) * kUnitKeys),
          end(least(list.kv_len, list.key_begin + (next - list.unit_begin) * kUnitKeys)) {}
};

// Row r of a list is query r / group of head kv_head * group + r % group.
struct Row {
    int query, head;
    bool valid;
    __device__ __forceinline__ Row(const Problem& p, const List& list, int r) {
        const int packed = list.row_group * kRows + r;  // the start of a launch waits for what follows
        query = p.q_len == 1 ? 0 : attention::quotient(packed, p.group);
        head = list.kv_head * p.group + packed - query * p.group;
        valid = packed < p.q_len * p.group;
    }
    // Where the row's elements begin in q and in out.
    __device__ __forceinline__ size_t offset(const Problem& p, const List& list) const {
        return static_cast<size_t>(token(p, list) * p.heads + head) * kHeadDim;
    }
    __device__ __forceinline__ int token(const Problem& p, const List& list) const {
        return list.sequence * p.q_len + query;
    }
};

// Rows of a list that are queries.
__device__ __forceinline__ int rows_of(const Problem& p, const List& list) {
    return least(kRows, p.group * p.q_len - list.row_group * kRows);
}
