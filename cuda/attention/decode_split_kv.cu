// arch: sm_80
// registers: 255
// threads: 256
// dynamic_smem: 154112
// defines: HEAD_DIM=128 KV=0 FP16=0 STRIPS=1
// defines: HEAD_DIM=128 KV=0 FP16=0 STRIPS=2
// defines: HEAD_DIM=64 KV=1 FP16=0 STRIPS=1
// defines: HEAD_DIM=128 KV=2 FP16=1 STRIPS=1
// defines: HEAD_DIM=256 KV=0 FP16=0 STRIPS=1
//
// Attention decoding: 1 to 16 queries per sequence against long keys, in one launch.
//
// Limits, per key of one KV head at D = 128 in bf16, on an H200:
//   memory      512 bytes: 119 ps at 4.3 TB/s, 29 clocks of one SM's share at 1830 MHz. The bound
//   tensor      a strip of 16 packed queries costs 4 * 16 * 128 = 8192 FLOP, 3.2 clocks of mma.sync
//   shared      512 bytes in, 512 out, queries again for every 16 keys 256: 10 clocks
//   in flight   latency * bandwidth = 600 ns * 4.3 TB/s = 2.6 MB: 20 KB per SM; here 2 of 3 stages
//               of 8 warps * 8 KiB = 128 KiB
//   B = 1, 8 KV heads, S = 8192: 33.6 MB, 7.8 us at 4.3 TB/s, and launch, prefix, first loads,
//   merging
//
// Work: every list of keys (a sequence, a KV head, up to 16 or 32 of the packed queries that share
//   it) is cut into units of 128 keys; all units stand in one line and every CTA takes an equal
//   share (schedule.cuh), so all finish together whatever the lengths. A CTA whose share ends
//   inside a list writes its partial sums; the last one to arrive at a list adds them up, in the
//   order of the keys: the same bits every time.
//
// Within a CTA each warp has tiles of 16 keys and a ring of its own, filled by cp.async: no barrier
//   in the main loop. The warps' sums meet in shared memory at the end of a list.
//
//   warp w | wait tile i | load tile i + 2 | S = Q K^T | softmax | O += P V | ...
//
// Bytes: ldmatrix moves pairs of them, so they arrive permuted; the queries' columns are permuted
//   to match, and the outputs' are put right when they are stored. fp16 holds e4m3 and int8
//   exactly.
//
// Registers, D = 128: outputs 64 per strip, scores 8, operands 12. D = 256 takes one strip.
// Shared memory (STAGES=3, D = 128): ring 196,608, merging 1,024, queries 4,096, prefix 4,100.
#include "attention/decode_lists.cuh"
#include "attention/decode_merge.cuh"
#include "attention/rows.cuh"
#include "common/async_copy.cuh"
#include "common/mma.cuh"

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

// Queries as A operands, in shared memory as the lanes want them: [strip][step][lane] of 4
// registers. An 8-bit ldmatrix hands a lane 4 neighbouring bytes, columns 4 t .. 4 t + 3 of 16; the
// sum over columns may run in any order, so q simply follows: its columns 4 t, 4 t + 1 stand where
// the operand's 2 t, 2 t + 1 are, and 4 t + 2, 4 t + 3 where 2 t + 8, 2 t + 9 are.
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
                    multiply(at, weights[strip][0], widen<0, 2>(v[2 * i]),
                             widen<0, 2>(v[2 * i + 1]));
                    multiply(at + 4, weights[strip][0], widen<1, 3>(v[2 * i]),
                             widen<1, 3>(v[2 * i + 1]));
                }
            }
        }
    }
}

// ---------------------------------------------------------------- one piece of a list

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
        const int end_key =
            least(list.kv_len, list.key_begin + (end - list.unit_begin) * kUnitKeys);
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
