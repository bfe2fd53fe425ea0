// T and A of all chunks: a block has one chunk of one key head and, one after another, the heads that
// share it. Once per block: K K^T and Q K^T, their 10 blocks of 16 x 16 on and below the diagonal.
// Then a warp per head inverts I + L, another (or the same, later) scales A.
//
// The inverse, by blocks: those on the diagonal by forward substitution in fp32, a lane per column;
// for [[A, 0], [B, C]] of twice the size the rest is -C^-1 B A^-1, first 32 x 32, then 64 x 64. With
// the operands of mma.sync in registers, a product X Y^T takes X and Y as accumulators hold them:
//
//     Z = A^-T B^T        -C^-1 B A^-1 = -C^-1 Z^T
//
// so transposes never move. A float is split into two bf16 (16 bits in all) and a product is three:
// keys that resemble each other make L large, and T is then a small difference.
#pragma once
#include "common/barrier.cuh"
#include "delta_rule/tiles.cuh"

constexpr int kPrepareThreads = 128;
constexpr int kPrepareWarps = kPrepareThreads / kWarp;
constexpr int kSide = 16;                 // of a block
constexpr int kSides = kChunk / kSide;
constexpr int kLower = kSides * (kSides + 1) / 2;  // blocks on and below the diagonal
constexpr int kPitch = 24;                // floats: pairs of 8 rows meet all banks
constexpr int kDiagonalPitch = 20;        // floats: 16-byte units, columns meet different banks
constexpr int kDiagonal = kSide * kDiagonalPitch + 16;  // two blocks side by side meet all banks
constexpr int kTasks = 2 * kLower / kPrepareWarps;

// A block of 16 x 16 as accumulators hold it, and its two halves as operands.
using Block = float[8];
struct Split {
    u32 high[4], low[4];
};

struct PrepareShared {
    union {
        struct {
            KeyTile k, q;
        } keys;
        float products[2][kLower][kSide * kPitch];  // K K^T, Q K^T
    };
    alignas(16) float diagonal[kPrepareWarps][kSides][kDiagonal];
    float sum[kPrepareWarps][kChunk];  // G_i, per head
    float beta[kPrepareWarps][kChunk];
};

__device__ __forceinline__ int lower(int row, int col) { return row * (row + 1) / 2 + col; }

// Row and column, within a block, of element i of a lane's Block.
__device__ __forceinline__ int block_row(int i, int lane = lane_index()) {
    return lane / 4 + i % 4 / 2 * 8;
}
__device__ __forceinline__ int block_col(int i, int lane = lane_index()) {
    return i / 4 * 8 + lane % 4 * 2 + i % 2;
}

__device__ __forceinline__ Split split(const Block& x) {
    Split s;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float a = x[2 * i], b = x[2 * i + 1];
        s.high[i] = pack_bf16(a, b);
        s.low[i] = pack_bf16(a - bf16_low(s.high[i]), b - bf16_high(s.high[i]));
    }
    return s;
}

// d += x y^T.
__device__ __forceinline__ void add_product(Block& d, const u32 (&x)[4], const u32 (&y)[4]) {
    const u32 b[4] = {y[0], y[2], y[1], y[3]};
    multiply(d, 0, x, b);
}

__device__ __forceinline__ void add_product(Block& d, const Split& x, const Split& y) {
    add_product(d, x.high, y.high);
    add_product(d, x.high, y.low);
    add_product(d, x.low, y.high);
}

__device__ __forceinline__ Split negated(Split x) {
#pragma unroll
    for (int i = 0; i < 4; ++i) x.high[i] ^= 0x80008000u, x.low[i] ^= 0x80008000u;
    return x;
}

// A block may have several workers of kPrepareThreads, a chunk each.
__device__ __forceinline__ int worker_warp() { return warp_index() % kPrepareWarps; }
__device__ __forceinline__ void meet() {
    ptx::named_barrier_sync(1 + warpgroup_index(), kPrepareThreads);
}

// K K^T and Q K^T into `products`, whose place the keys leave. A lane's row of a block has the same number
// modulo 8 in all blocks, so the mix of its units (see swizzled) is the same: worked out once.
__device__ __forceinline__ void multiply_keys(PrepareShared& s) {
    const int lane = opaque(lane_index()), low = lane % 8;
    const u16* keys = s.keys.k.panel[0];
    int left[kTasks], right[kTasks];  // rows of operand a and of operand b
#pragma unroll
    for (int task = 0; task < kTasks; ++task) {
        const int index = task * kPrepareWarps + worker_warp(), block = index % kLower;
        const int row = (block > 0) + (block > 2) + (block > 5), col = block - lower(row, 0);
        left[task] = (row * kSide + lane % 16) * kPanel + (index < kLower ? 0 : kChunk * kDk);
        right[task] = (col * kSide + lane / 16 * 8 + low) * kPanel;
    }
    float sums[kTasks][8] = {};
#pragma unroll 1
    for (int panel = 0, panels = opaque(kPanels); panel < panels; ++panel, keys += kChunk * kPanel)
#pragma unroll
        for (int step = 0; step < kPanel / 16; ++step) {
            const int left_unit = ((step * 2 + lane / 16) ^ low) * 8;
            const int right_unit = ((step * 2 + lane / 8 % 2) ^ low) * 8;
#pragma unroll
            for (int task = 0; task < kTasks; ++task) {  // side by side: none waits for its own sums
                u32 a[4], b[4];
                ptx::ldmatrix_x4(a, keys + left[task] + left_unit);
                ptx::ldmatrix_x4(b, keys + right[task] + right_unit);
                multiply(sums[task], 0, a, b);
            }
        }
    meet();
    const int place = opaque(lane_index());
#pragma unroll
    for (int task = 0; task < kTasks; ++task) {
        const int index = task * kPrepareWarps + worker_warp();
        float* to = s.products[index / kLower][index % kLower];
#pragma unroll
        for (int i = 0; i < 8; i += 2)
            *reinterpret_cast<float2*>(to + block_row(i, place) * kPitch + block_col(i, place)) =
                make_float2(sums[task][i], sums[task][i + 1]);
    }
}

// A warp: sums of gates and beta of one head, two tokens a lane.
__device__ __forceinline__ void sum_gates(PrepareShared& s, const Problem& p, int batch, int t,
                                          int head) {
    const int lane = lane_index(), slot = worker_warp();
    float gate[2] = {}, beta[2] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int token = t + 2 * lane + i;
        if (token >= p.length) continue;
        const size_t from = token_row(batch, token, p.length, head, p.heads);
        gate[i] = p.g ? from_bf16(p.g[from]) * kLog2e : 0.f;
        beta[i] = from_bf16(p.beta[from]);
    }
    float sum = gate[0] + gate[1];
#pragma unroll
    for (int by = 1; by < kWarp; by *= 2) {
        const float below = __shfl_up_sync(kFullMask, sum, by);
        if (lane >= by) sum += below;
    }
    s.sum[slot][2 * lane] = sum - gate[1], s.sum[slot][2 * lane + 1] = sum;
    s.beta[slot][2 * lane] = beta[0], s.beta[slot][2 * lane + 1] = beta[1];
}

// 2^(G_i - G_j) times a block of a product, zero above the diagonal (and on it if `Strictly`).
template <bool Strictly>
__device__ __forceinline__ void read_block(Block& x, const PrepareShared& s, int slot, int row,
                                           int col) {
    // Opaque: addresses shared with other blocks would stay in registers.
    const int lane = opaque(lane_index()), g = lane / 4, t = lane % 4 * 2;
    const float* from = s.products[Strictly ? 0 : 1][lower(row, col)] + g * kPitch + t;
    const float sums[2] = {s.sum[slot][row * kSide + g], s.sum[slot][row * kSide + g + 8]};
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const int half = i % 4 / 2, right = i / 4 * 8, r = g + 8 * half, c = t + right;
        const float2 pair = *reinterpret_cast<const float2*>(from + 8 * half * kPitch + right);
        const float2 past = *reinterpret_cast<const float2*>(&s.sum[slot][col * kSide + c]);
        const bool below = row > col;
        // Above the diagonal the exponent would be positive: it is never used.
        x[i] = below || (Strictly ? c < r : c <= r) ? pair.x * exp2_approx(sums[half] - past.x) : 0.f;
        x[i + 1] = below || (Strictly ? c + 1 < r : c + 1 <= r)
                       ? pair.y * exp2_approx(sums[half] - past.y) : 0.f;
    }
}

// A block of L.
__device__ __forceinline__ void read_lower(Block& x, const PrepareShared& s, int slot, int row,
                                           int col) {
    read_block<true>(x, s, slot, row, col);
    const float* beta = s.beta[slot] + row * kSide + opaque(lane_index()) / 4;
    const float both[2] = {beta[0], beta[8]};
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] *= both[i % 4 / 2];
}

// Row j of a column is known: the rows below lose their part of it. `l` is L's column j.
__device__ __forceinline__ void eliminate(float (&x)[kSide], const float* l, int j) {
#pragma unroll
    for (int four = (j + 1) / 4; four < kSide / 4; ++four) {
        const float4 part = *reinterpret_cast<const float4*>(l + 4 * four);
        const float of[4] = {part.x, part.y, part.z, part.w};
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (4 * four + i > j) x[4 * four + i] = fmaf(-of[i], x[j], x[4 * four + i]);
    }
}

// The inverses of the blocks on the diagonal, in place: lanes 0-15 own the columns of one, 16-31 of
// the next. L lies there transposed, so that four of its rows come with one load.
__device__ __forceinline__ void invert_diagonal(PrepareShared& s, int slot) {
    float (&blocks)[kSides][kDiagonal] = s.diagonal[slot];
    const int lane = opaque(lane_index());  // addresses kept for other parts would take registers
#pragma unroll
    for (int a = 0; a < kSides; ++a) {
        Block x;
        read_lower(x, s, slot, a, a);
#pragma unroll
        for (int i = 0; i < 8; ++i)
            blocks[a][block_col(i, lane) * kDiagonalPitch + block_row(i, lane)] = x[i];
    }
    __syncwarp();
    const int column = lane % kSide;
    float x[2][kSide];
#pragma unroll
    for (int i = 0; i < 2 * kSide; ++i) x[i / kSide][i % kSide] = i % kSide == column ? 1.f : 0.f;
#pragma unroll
    for (int j = 0; j < kSide - 1; ++j)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair)
            eliminate(x[pair], blocks[2 * pair + lane / kSide] + j * kDiagonalPitch, j);
    __syncwarp();
#pragma unroll
    for (int pair = 0; pair < 2; ++pair)
#pragma unroll
        for (int i = 0; i < kSide; ++i)
            blocks[2 * pair + lane / kSide][i * kDiagonalPitch + column] = x[pair][i];
    __syncwarp();
}

template <bool Transposed>
__device__ __forceinline__ void read_diagonal(Block& x, const PrepareShared& s, int slot, int a) {
    const float* from = s.diagonal[slot][a];
    const int lane = opaque(lane_index());
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int r = block_row(i, lane), c = block_col(i, lane);
        x[i] = from[Transposed ? c * kDiagonalPitch + r : r * kDiagonalPitch + c];
    }
}

template <bool Transposed>
__device__ __forceinline__ Split split_diagonal(const PrepareShared& s, int slot, int a) {
    Block x;
    read_diagonal<Transposed>(x, s, slot, a);
    return split(x);
}

__device__ __forceinline__ Split split_lower(const PrepareShared& s, int slot, int row, int col) {
    Block x;
    read_lower(x, s, slot, row, col);
    return split(x);
}

// In a quad, lane t hands lane i its x[i] and gets lane i's x[t]: a 4 x 4 transpose.
__device__ __forceinline__ void transpose_quad(u32 (&x)[4]) {
    const int t = opaque(lane_index()) % 4;
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
        const bool upper = t & step;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & step) continue;
            const u32 given = __shfl_xor_sync(kFullMask, upper ? x[i] : x[i | step], step);
            if (upper) x[i] = given;
            else x[i | step] = given;
        }
    }
}

// 16 rows of a tile from their blocks, in bf16 and swizzled, 16 bytes a store.
__device__ __forceinline__ void store_rows(u16* tile, int row, const float (&x)[kSides][8]) {
    const int lane = opaque(lane_index()), g = lane / 4, t = lane % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int four = 0; four < 2; ++four) {
            u32 unit[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float* from = x[2 * four + i / 2] + i % 2 * 4 + 2 * half;
                unit[i] = pack_bf16(from[0], from[1]);
            }
            transpose_quad(unit);
            *reinterpret_cast<uint4*>(tile + swizzled(row * kSide + g + 8 * half, 32 * four + 8 * t)) =
                make_uint4(unit[0], unit[1], unit[2], unit[3]);
        }
}

// As store_rows, the columns times beta: T = (I + L)^-1 diag(beta).
__device__ __forceinline__ void store_inverse(u16* tile, int row, float (&x)[kSides][8],
                                              const float* beta) {
    const int lane = opaque(lane_index());
#pragma unroll
    for (int b = 0; b < kSides; ++b)
#pragma unroll
        for (int i = 0; i < 8; ++i) x[b][i] *= beta[b * kSide + block_col(i, lane)];
    store_rows(tile, row, x);
}

// [[first, 0], [below, second]]^-1 for two blocks on the diagonal: the block below, and transposed.
__device__ __forceinline__ void invert_pair(const PrepareShared& s, int slot, int a, Block& below,
                                            Block& transposed) {
    const Split first = split_diagonal<true>(s, slot, a);
    const Split second = split_diagonal<false>(s, slot, a + 1);
    Block z = {};
    add_product(z, first, split_lower(s, slot, a + 1, a));
    const Split minus = negated(split(z));
    add_product(below, second, minus);
    add_product(transposed, minus, second);
}

// T of one head, by one warp.
__device__ __forceinline__ void invert(PrepareShared& s, int slot, u16* tile) {
    invert_diagonal(s, slot);
    const float* beta = s.beta[slot];
    Block upper = {}, upper_transposed = {}, last = {}, unused = {};
    invert_pair(s, slot, 0, upper, upper_transposed);
    __syncwarp();
    {
        float rows[kSides][8] = {};
        read_diagonal<false>(rows[0], s, slot, 0);
        store_inverse(tile, 0, rows, beta);
    }
    __syncwarp();
    {
        float rows[kSides][8] = {};
#pragma unroll
        for (int i = 0; i < 8; ++i) rows[0][i] = upper[i];
        read_diagonal<false>(rows[1], s, slot, 1);
        store_inverse(tile, 1, rows, beta);
    }
    // Z = A^-T B^T, blocks (0, 2), (0, 3), (1, 2), (1, 3), negated.
    Split z[2][2];
    {
        const Split first = split_diagonal<true>(s, slot, 0);
        const Split second = split_diagonal<true>(s, slot, 1);
        const Split between = split(upper_transposed);
#pragma unroll
        for (int q = 0; q < 2; ++q) {
            __syncwarp();  // the next blocks' loads, moved up, would take registers
            const Split left = split_lower(s, slot, 2 + q, 0), right = split_lower(s, slot, 2 + q, 1);
            Block top = {}, low = {};
            add_product(top, first, left);
            add_product(top, between, right);
            add_product(low, second, right);
            z[0][q] = negated(split(top)), z[1][q] = negated(split(low));
        }
    }
    __syncwarp();
    {
        float rows[kSides][8] = {};
        const Split second = split_diagonal<false>(s, slot, 2);
        add_product(rows[0], second, z[0][0]);
        add_product(rows[1], second, z[1][0]);
        read_diagonal<false>(rows[2], s, slot, 2);
        store_inverse(tile, 2, rows, beta);
    }
    __syncwarp();
    invert_pair(s, slot, 2, last, unused);
    __syncwarp();
    {
        float rows[kSides][8] = {};
        const Split between = split(last), third = split_diagonal<false>(s, slot, 3);
#pragma unroll
        for (int p = 0; p < 2; ++p) {
            add_product(rows[p], between, z[p][0]);
            add_product(rows[p], third, z[p][1]);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) rows[2][i] = last[i];
        read_diagonal<false>(rows[3], s, slot, 3);
        store_inverse(tile, 3, rows, beta);
    }
}

// A of one head and the powers of its gates, by one warp.
__device__ __forceinline__ void scale_scores(const PrepareShared& s, int slot, float scale,
                                             Prepared& to) {
#pragma unroll 1
    for (int row = 0; row < kSides; ++row) {
        float rows[kSides][8] = {};
#pragma unroll
        for (int col = 0; col < kSides; ++col) {
            if (col > row) continue;
            read_block<false>(rows[col], s, slot, row, col);
#pragma unroll
            for (int i = 0; i < 8; ++i) rows[col][i] *= scale;
        }
        store_rows(to.a, row, rows);
    }
    const float whole = s.sum[slot][kChunk - 1];
#pragma unroll
    for (int token = lane_index(); token < kChunk; token += kWarp) {
        to.since_start[token] = exp2_approx(s.sum[slot][token]);
        to.to_end[token] = exp2_approx(whole - s.sum[slot][token]);
    }
}

// One chunk of one key head. The first heads' gates are on their way with the keys. Warps of one number
// share a scheduler, and few heads give a worker's warps different work: each worker of a block begins
// with another warp.
__device__ __forceinline__ void prepare_chunk(PrepareShared& s, const Problem& p, int chunk,
                                              int key_head, int batch) {
    const int t = chunk * kChunk, group = p.heads / p.key_heads;
    const auto sum_from = [&](int base) {
        const int nth = base + worker_warp();
        if (nth < group) sum_gates(s, p, batch, t, key_head * group + nth);
    };
    load_keys<kPrepareThreads>(s.keys.k, p.k, p, batch, t, key_head);
    load_keys<kPrepareThreads>(s.keys.q, p.q, p, batch, t, key_head);
    sum_from(0);
    ptx::copy_async_wait_all();
    meet();
    multiply_keys(s);
#pragma unroll 1
    for (int base = 0; base < group; base += kPrepareWarps) {
        const int heads = least(group - base, kPrepareWarps), first = key_head * group + base;
        meet();  // the products are there, or the heads before are done
        if (base > 0) {
            sum_from(base);
            meet();
        }
#pragma unroll 1
        for (int task = (worker_warp() + warpgroup_index()) % kPrepareWarps; task < 2 * heads;
             task += kPrepareWarps) {
            const int slot = task % heads;
            const size_t row = static_cast<size_t>(batch) * p.heads + first + slot;
            Prepared& to = p.prepared[row * p.chunks + chunk];
            if (task < heads) invert(s, slot, to.t);
            else scale_scores(s, slot, p.scale, to);
        }
    }
}
