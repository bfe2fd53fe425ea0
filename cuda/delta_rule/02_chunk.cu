// arch: sm_80 sm_90a
// registers: 255
// threads: 64
// dynamic_smem: 112640
// defines: DK=128
// defines: DK=64
//
// Delta rule, rung 2: chunks in two launches on mma.sync (Ampere and later), see walk.cuh.
//
// Limits of the walk, 512 chunks of 32 heads of 128 x 128: 128 blocks of two warps, one a scheduler,
// 32 columns of dv each. Per chunk a warp issues 232 mma and 150 ldmatrix, and waits for most of them:
// 232 * 6 clocks at the rate, 232 * 17 at half the latency of one: 0.4 ms to 1.1 ms and more.
#include "delta_rule/walk.cuh"

constexpr int kThreads = 64;
constexpr int kColumns = kThreads / kWarp * 16;  // of dv, per block
constexpr int kPitchV = kColumns + 8;            // 80 bytes: 8 rows meet 8 different bank groups
constexpr int kStages = 2;

struct Stage {
    KeyTile k, q;
    Prepared made;
    u16 v[kChunk * kPitchV];  // then the outputs
};
struct Shared {
    Stage stage[kStages];
};
extern __shared__ __align__(1024) u8 shared_bytes[];

struct Place {
    int batch, head, col;
};

__device__ __forceinline__ void load_chunk(Stage& s, const Problem& p, const Place& at, int chunk) {
    const int t = chunk * kChunk, key_head = at.head / (p.heads / p.key_heads);
    load_keys<kThreads>(s.k, p.k, p, at.batch, t, key_head);
    load_keys<kThreads>(s.q, p.q, p, at.batch, t, key_head);
    const size_t row = static_cast<size_t>(at.batch) * p.heads + at.head;
    const u8* made = reinterpret_cast<const u8*>(p.prepared + row * p.chunks + chunk);
    u8* to = reinterpret_cast<u8*>(&s.made);
#pragma unroll 1
    for (int i = threadIdx.x * 16; i < static_cast<int>(sizeof(Prepared)); i += kThreads * 16)
        ptx::copy_async_16(to + i, made + i);
    const size_t stride = static_cast<size_t>(p.heads) * p.dv;
    const u16* v = p.v + token_row(at.batch, t, p.length, at.head, p.heads) * p.dv + at.col;
#pragma unroll 1
    for (int i = threadIdx.x; i < kChunk * kColumns / 8; i += kThreads) {
        const int token = i / (kColumns / 8), unit = i % (kColumns / 8);
        const bool valid = t + token < p.length;
        ptx::copy_async_16(s.v + token * kPitchV + unit * 8,
                           v + (valid ? token * stride + unit * 8 : 0), valid);
    }
    ptx::copy_async_commit();
}

// x += s tile^T over dk: X from K, the outputs' first part from Q.
__device__ __forceinline__ void read_state(float (&x)[kTokenSums], const u32 (&s)[kDk / 16][4],
                                           const KeyTile& tile) {
#pragma unroll
    for (int d = 0; d < kDk / 16; ++d)
#pragma unroll
        for (int n = 0; n < kTokenSteps; ++n) {
            u32 b[4];
            load_b_transposed(b, tile.panel[d / 4], d % 4 * 16, n * 16);
            multiply(x, 2 * n, s[d], b);
        }
}

// x += a tile^T over tokens, the tile lower triangular: T or A.
__device__ __forceinline__ void mix_tokens(float (&x)[kTokenSums], const u32 (&a)[kTokenSteps][4],
                                           const u16* tile) {
#pragma unroll
    for (int m = 0; m < kTokenSteps; ++m)
#pragma unroll
        for (int n = m; n < kTokenSteps; ++n) {
            u32 b[4];
            load_b_transposed(b, tile, m * 16, n * 16);
            multiply(x, 2 * n, a[m], b);
        }
}

// A warp's outputs: through its own columns of the stage's values, which it has read.
__device__ __forceinline__ void store_outputs(Stage& s, const Problem& p, const Place& at, int t,
                                              const float (&o)[kTokenSums]) {
    const int g = lane_index() / 4, own = warp_index() * 16;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kTokenSums; ++i) {
        const int token = i / 4 * 8 + lane_index() % 4 * 2 + i % 2;
        s.v[token * kPitchV + own + g + i % 4 / 2 * 8] = to_bf16(o[i]);
    }
    __syncwarp();
    u16* out = p.out + token_row(at.batch, t, p.length, at.head, p.heads) * p.dv + at.col + own;
#pragma unroll 1
    for (int i = lane_index(); i < kChunk * 2; i += kWarp) {
        const int token = i / 2, unit = i % 2 * 8;
        if (t + token < p.length)
            *reinterpret_cast<uint4*>(out + static_cast<size_t>(token) * p.heads * p.dv + unit) =
                *reinterpret_cast<const uint4*>(s.v + token * kPitchV + own + unit);
    }
}

__device__ __forceinline__ void walk_chunk(Stage& stage, const Problem& p, const Place& at, int t,
                                           float (&s)[kStateSums]) {
    const int lane = lane_index(), matrix = lane / 8;
    u32 state[kDk / 16][4], v[kTokenSteps][4], r[kTokenSteps][4], later[kTokenSteps][4];
    pack_rows(state, s);
#pragma unroll
    for (int m = 0; m < kTokenSteps; ++m)
        ptx::ldmatrix_x4_transposed(v[m], stage.v + (m * 16 + matrix / 2 * 8 + lane % 8) * kPitchV +
                                              warp_index() * 16 + matrix % 2 * 8);
    float x[kTokenSums] = {}, u[kTokenSums] = {}, o[kTokenSums] = {};
    read_state(x, state, stage.k);
    subtract_read(r, v, x, load_powers(stage.made.since_start));
    mix_tokens(u, r, stage.made.t);
    pack_rows(r, u);
    scale_tokens(u, load_powers(stage.made.to_end), 1.f);
    pack_rows(later, u);
    read_state(o, state, stage.q);
    scale_tokens(o, load_powers(stage.made.since_start), p.scale);
    mix_tokens(o, r, stage.made.a);
    store_outputs(stage, p, at, t, o);
    scale_state(s, stage.made.since_start[kChunk - 1]);
#pragma unroll
    for (int m = 0; m < kTokenSteps; ++m)
#pragma unroll
        for (int n = 0; n < kDk / 16; ++n) {
            u32 b[4];
            load_b(b, stage.k.panel[n / 4], m * 16, n % 4 * 16);
            multiply(s, 2 * n, later[m], b);
        }
}

// Grid (dv / 32, heads, batch).
extern "C" __global__ void __launch_bounds__(kThreads)
    walk(const __grid_constant__ Problem p) {
    Shared& shared = *reinterpret_cast<Shared*>(shared_bytes);
    const Place at = {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      static_cast<int>(blockIdx.x) * kColumns};
    const size_t state = (static_cast<size_t>(at.batch) * p.heads + at.head) * kDk * p.dv;
    const int col = at.col + warp_index() * 16;
    float s[kStateSums] = {};
    if (p.first) move_state<false>(s, const_cast<float*>(p.first) + state, p.dv, col);
    load_chunk(shared.stage[0], p, at, 0);
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        if (chunk + 1 < p.chunks) load_chunk(shared.stage[(chunk + 1) % kStages], p, at, chunk + 1);
        else ptx::copy_async_commit();
        ptx::copy_async_wait<1>();
        __syncthreads();
        walk_chunk(shared.stage[chunk % kStages], p, at, chunk * kChunk, s);
        __syncthreads();
    }
    if (p.last) move_state<true>(s, p.last + state, p.dv, col);
}
