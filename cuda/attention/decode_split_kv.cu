// arch: sm_80 sm_90
// registers: 255
// threads: 256
// dynamic_smem: 163332
// defines: HEAD_DIM=128 KV=0 FP16=0 STRIPS=1 FIXED=1
// defines: HEAD_DIM=128 KV=0 FP16=0 STRIPS=1 FIXED=0
// defines: HEAD_DIM=128 KV=0 FP16=0 STRIPS=2 FIXED=1
// defines: HEAD_DIM=64 KV=1 FP16=0 STRIPS=1 FIXED=0
// defines: HEAD_DIM=128 KV=2 FP16=1 STRIPS=1 FIXED=1
// defines: HEAD_DIM=64 KV=1 FP16=0 STRIPS=2 FIXED=1
// defines: HEAD_DIM=128 KV=2 FP16=1 STRIPS=2 FIXED=0
// defines: HEAD_DIM=256 KV=0 FP16=0 STRIPS=1 FIXED=0
//
// Attention decoding: 1 to 16 queries per sequence against long keys, in one launch.
//
// Limits, per key of one KV head at D = 128 in bf16, on an H200:
//   memory      512 bytes: 119 ps at 4.3 TB/s, 29 clocks of one SM's share at 1830 MHz. The bound
//   tensor      a strip of 16 packed queries costs 4 * 16 * 128 = 8192 FLOP, 3.2 clocks of mma.sync
//   shared      512 bytes in, 512 out, queries again for every 16 keys 256: 10 clocks
//   in flight   latency * bandwidth = 600 ns * 4.3 TB/s = 2.6 MB: 20 KB per SM; here one of two
//               stages of 8 warps * 8 KiB = 64 KiB at least, 1.9 us of an SM's share. A third stage is
//               faster by up to 1 % where lists are many, slower by as much where they are few
//   B = 1, 8 KV heads, S = 8192: 33.6 MB, 7.3 us at 4.6 TB/s, and about 5 us of launch (1.0), first loads
//   (1.2 to ask, 2 for all to come), the warps' sums (0.8) and letters (1.4)
//
// Work: every list of keys (a sequence, a KV head, up to 16 or 32 of the packed queries that share
//   it) is cut into units of 128 keys; all units stand in one line and every CTA takes an equal
//   share (schedule.cuh), so all finish together whatever the lengths; lists of one length are cut alike
//   where that is no longer. A CTA whose share has a part of a list mails its partial sums, and all
//   that have one collect a slice of the result, in the order of the keys: the same bits every time.
//
// Within a CTA each warp has tiles of 16 keys and a ring of its own, filled by cp.async: no barrier
//   in the main loop. Loads run ahead through all lists of the share; merging has shared memory of
//   its own, a few rows at a time, and takes less time than what is on its way lasts. Keys and values
//   are the first to leave L2, so that queries, letters and the code stay there.
//
//   warp w | wait tile i | load tile i + 1 | S = Q K^T | softmax | O += P V | ...
//   end    | its rows to shared memory | add the warps' | mail | collect
//
// What runs once per launch is short: its instructions are fetched as they are needed, and 1500 of them
//   before the first load took 2 us. Hence quotients without divisions, and FIXED for contiguous keys of
//   one length, where a share follows from the CTA's number.
//
// Bytes: ldmatrix moves pairs of them, so they arrive permuted; the queries' columns are permuted
//   to match, and the outputs' are put right when they leave the registers. fp16 holds e4m3 and
//   int8 exactly.
//
// Registers, D = 128: outputs 64 per strip, scores 8, operands 12. D = 256 takes one strip.
// Shared memory (D = 128): ring 131,072, merging 17,408, sums 1,024, queries 4,096,
//   prefix 4,100.
#include "attention/decode_lists.cuh"
#include "attention/decode_merge.cuh"
#include "common/async_copy.cuh"
#include "common/mma.cuh"
#include "common/shared.cuh"

// ---------------------------------------------------------------- loads

// Wide heads, or two strips, leave no registers for addresses kept from one tile to the next.
constexpr bool kTight = kHeadDim * kStrips == 256;
constexpr int kLoadsUnrolled = kTight ? 4 : kTile * kUnits / kWarp;

__device__ __forceinline__ int address_lane() {
    return kTight ? opaque(lane_index()) : lane_index();
}

// Where a unit of a tile is: the 8 rows of an ldmatrix meet 8 different groups of banks.
__device__ __forceinline__ int place_of(int row, int unit) {
    const int mixed = kUnits >= 8 ? unit ^ (row % 8) : unit ^ (row / 2 % 4);
    return row * kRowBytes + (mixed << 4);
}

__device__ __forceinline__ u8* swizzled(u8* tile, int row, int unit) {
    return tile + place_of(row, unit);
}

// The pages of a warp's next tiles, 32 at a time: lane i has that of the i-th. The 32 after them are
// on their way meanwhile, since a page number that is fetched when it is needed, or one tile before,
// comes late behind the keys in flight.
struct Pages {
    int now, later, used;

    __device__ __forceinline__ static int fetch(const Problem& p, const Cursor& cursor, int key) {
        const int mine = key + lane_index() * kUnitKeys;
        if (mine >= cursor.end) return 0;
        return __ldg(p.table + static_cast<size_t>(cursor.sequence) * p.table_width +
                     mine / p.page_size);
    }

    // At the beginning of a piece.
    __device__ __forceinline__ void enter(const Problem& p, const Cursor& cursor) {
        now = fetch(p, cursor, cursor.key);
        later = fetch(p, cursor, cursor.key + kWarp * kUnitKeys);
        used = 0;
    }

    // On to the next tile of the same piece.
    __device__ __forceinline__ void step(const Problem& p, const Cursor& cursor) {
        if (++used < kWarp) return;
        now = later;
        later = fetch(p, cursor, cursor.key + kWarp * kUnitKeys);
        used = 0;
    }
};

// Walks the tiles of one warp, key_begin + kTile * (warp + kWarps * i), through all pieces of the
// CTA's share, ahead of the products: the end of a list does not stop the loads.
struct Loader {
    const Problem& p;
    const int* prefix;
    Cursor& cursor;  // this warp's, written by its first lane
    Pages pages;

    __device__ __forceinline__ Loader(const Problem& p, Shared& s, const attention::Shares& shares,
                                      const List& list, const attention::Range& share)
        : p(p), prefix(s.prefix), cursor(s.cursors[warp_index()]) {
        if (lane_index() == 0) {
            cursor.shares = shares;
            cursor.share = share;
            enter(list, share.first);
            settle();
        }
        __syncwarp();
        if (is_paged(p)) pages.enter(p, cursor);
    }

    __device__ __forceinline__ void enter(const List& list, int unit) {
        const Piece piece(list, unit, cursor.share.last);
        const int warp = static_cast<int>(threadIdx.x) / kWarp;  // one lane is here
        cursor.head = list.kv_head * p.head_bytes;
        cursor.key = piece.key + kTile * warp;
        cursor.end = piece.end;
        cursor.sequence = list.sequence;
        cursor.next = piece.next;
    }

    // On to the next piece that has a tile for this warp.
    __device__ __forceinline__ void settle() {
        while (cursor.key >= cursor.end && cursor.next < cursor.share.last) {
            const int unit = cursor.next;
            enter(list_of_unit(p, prefix, cursor.shares, unit), unit);
        }
    }

    __device__ __forceinline__ void advance(int key, int end) {
        __syncwarp();  // everyone has read the cursor
        if (lane_index() == 0) {
            cursor.key = key + kUnitKeys;
            settle();
        }
        __syncwarp();
        if (!is_paged(p)) return;
        if (key + kUnitKeys < end) pages.step(p, cursor);
        else pages.enter(p, cursor);
    }

    __device__ __forceinline__ void load(u8 (&stage)[2][kTileBytes]) {
        const int key = cursor.key, end = cursor.end;
        if (key < end) {
            const int lane = address_lane();
            const bool paged = is_paged(p);
            const int outer =
                paged ? __shfl_sync(kFullMask, pages.now, pages.used) : cursor.sequence;
            const int inner = paged ? key % p.page_size : key;
            const s64 base = outer * p.outer_bytes + inner * p.token_bytes + cursor.head;
            const ptx::Shared keys = ptx::pinned(ptx::shared_at(stage));
#pragma unroll kLoadsUnrolled
            for (int first = 0; first < kTile * kUnits; first += kWarp) {
                const int part = first + lane, row = part / kUnits, unit = part % kUnits;
                const bool inside = key + row < end;
                const s64 at = base + (inside ? row * p.token_bytes : 0) + unit * 16;
                const ptx::Shared place = keys + place_of(row, unit);
                ptx::copy_async_16_once(place, p.k + at, inside);
                ptx::copy_async_16_once(place + kTileBytes, p.v + at, inside);
            }
            advance(key, end);
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
// the operand's 2 t, 2 t + 1 are, and 4 t + 2, 4 t + 3 where 2 t + 8, 2 t + 9 are. Fetched and
// stored in two steps: the loads are on their way before the much longer ones of the keys.
struct Queries {
    static constexpr int kItems = kStrips * kSteps * kWarp;
    static constexpr int kEach = ceil_div(kItems, kThreads);
    uint4 items[kEach];

    __device__ __forceinline__ u32 pair(const Problem& p, const Row& row, size_t offset, int column) {
        if (!row.valid) return 0;
        const u32 pair = __ldg(reinterpret_cast<const u32*>(p.q + offset + column));
        return kBytes && !FP16 ? pack_f16(bf16_low(pair), bf16_high(pair)) : pair;
    }

    __device__ __forceinline__ void fetch(const Problem& p, const List& list) {
#pragma unroll
        for (int each = 0; each < kEach; ++each) {
            const int i = threadIdx.x + each * kThreads;
            const int lane = i % kWarp, step = i / kWarp % kSteps, strip = i / kWarp / kSteps;
            const int t = lane % 4;
            const int column = 16 * step + (kBytes ? 4 * t : 2 * t), next = kBytes ? 2 : 8;
            if (i >= kItems) return;
            const Row low(p, list, 16 * strip + lane / 4), high(p, list, 16 * strip + lane / 4 + 8);
            const size_t at = low.offset(p, list), above = high.offset(p, list);
            items[each] = make_uint4(pair(p, low, at, column), pair(p, high, above, column),
                                     pair(p, low, at, column + next), pair(p, high, above, column + next));
        }
    }

    __device__ __forceinline__ void store(Shared& s) const {
#pragma unroll
        for (int each = 0; each < kEach; ++each) {
            const int i = threadIdx.x + each * kThreads;
            if (i < kItems) (&s.queries[0][0][0])[i] = items[each];
        }
    }
};

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

// The ring of one warp: what it reads next, whatever piece that belongs to.
struct Ring {
    u8 (&stages)[kStages][2][kTileBytes];
    int stage = 0;

    __device__ __forceinline__ void fill(Loader& loader) {
#pragma unroll
        for (int i = 0; i < kStages - 1; ++i) loader.load(stages[i]);
    }

    // The next tile; the stage that was read before it is loaded anew.
    __device__ __forceinline__ u8 (&take(Loader& loader))[2][kTileBytes] {
        ptx::copy_async_wait<kStages - 2>();
        __syncwarp();  // the tile is in; and every lane has left the stage loaded next
        loader.load(stages[stage == 0 ? kStages - 1 : stage - 1]);
        u8(&tile)[2][kTileBytes] = stages[stage];
        stage = stage == kStages - 1 ? 0 : stage + 1;
        return tile;
    }
};

// This warp's tiles of the keys [begin, end): no warp waits for another one.
__device__ __forceinline__ void attend(const Shared& s, const Problem& p, const List& list,
                                       int begin, int end, float scale, Ring& ring, Loader& loader,
                                       Partial& partial) {
    const int all_see = attention::visible_keys(0, p.q_len, list.kv_len, p.causal, p.window).last;
    const int some_miss =
        attention::visible_keys(p.q_len - 1, p.q_len, list.kv_len, p.causal, p.window).first;
    for (int key = begin + kTile * warp_index(); key < end; key += kUnitKeys) {
        u8(&tile)[2][kTileBytes] = ring.take(loader);
        float scores[kStrips][8] = {};
        u32 weights[kStrips][1][4];
        score(s, tile[0], scores);
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
        accumulate(tile[1], weights, partial.o);
    }
}

// What is left of a list that others have pieces of, too.
__device__ __forceinline__ void collect_shared(const Problem& p, const List& list, const Cursor& kept,
                                               int cta) {
    if (kept.share.first <= list.unit_begin && list.unit_end <= kept.share.last) return;
    collect(p, list, Pieces(list, kept.shares), cta);
}

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    attention_decode(const __grid_constant__ Problem p) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const attention::Shares all = shares_of(p, s);
    const int cta = blockIdx.x;
    if (cta >= all.ctas) return;  // every share has a unit: collecting counts on it
    const attention::Range mine = all.share(cta);
    int unit = mine.first;
    List list = list_of_unit(p, s.prefix, all, unit);  // by every warp: sooner than being told
    Queries queries;
    queries.fetch(p, list);
    Loader loader(p, s, all, list, mine);
    const Cursor& kept = loader.cursor;  // from here on what it has of the share
    Ring ring{s.ring[warp_index()]};
    ring.fill(loader);
    for (;;) {
        queries.store(s);
        if (threadIdx.x == 0) s.list = list;
        __syncthreads();
        const Piece piece(s.list, unit, kept.share.last);
        const float scale = score_scale(p, s.list);
        Partial partial;
        attend(s, p, s.list, piece.key, piece.end, scale, ring, loader, partial);
        const bool more = piece.next < kept.share.last;
        const bool whole = unit == s.list.unit_begin && piece.next == s.list.unit_end;
        if (more) list = list_of_unit(p, s.prefix, kept.shares, piece.next);
        if (more && !kTight) queries.fetch(p, list);  // on their way while the piece is merged
        const int slot = attention::piece_slot(cta, s.list.unit_begin, kept.share.first);
        merge_warps(s, p, s.list, partial, scale, whole, slot);
        if (!more) break;
        unit = piece.next;
        if (kTight) queries.fetch(p, list);
        __syncthreads();  // everyone has left the list
    }
    // The lists that others have pieces of: the last one, and the one that the share began in.
    list = s.list;
    for (;;) {
        collect_shared(p, list, kept, cta);
        if (list.unit_begin <= kept.share.first) break;
        list = list_of_unit(p, s.prefix, kept.shares, kept.share.first);
    }
}
