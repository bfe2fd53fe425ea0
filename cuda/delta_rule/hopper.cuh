// The walk on Hopper: tiles by TMA, products by wgmma with the left operand in registers.
//
// A warpgroup has 64 columns of dv: 64 rows of S^T, 16 a warp, as walk.cuh has them. Tiles lie in shared
// memory as TMA's 128-byte swizzle writes them, T and A already so in global memory.
#pragma once
#include "common/barrier.cuh"
#include "common/tma.cuh"
#include "common/wgmma.cuh"
#include "delta_rule/walk.cuh"

struct Panel {
    u16 at[kChunk * kPanel];
};

constexpr int kKeyBytes = kChunk * kDk * 2;
constexpr int kStageBytes = 2 * kKeyBytes + static_cast<int>(sizeof(Panel) + sizeof(Prepared));

// What a chunk needs.
struct alignas(1024) Stage {
    KeyTile k, q;
    Panel v;
    Prepared made;
};

struct Maps {
    const TensorMap *q, *k, *v, *out;
};

struct Place {
    int batch, head, col;
};

// x (+)= state tile^T over key dimensions 16 First .. 16 Last - 1: X from K, outputs from Q.
template <int First, int Last>
__device__ __forceinline__ void issue_read(float (&x)[kTokenSums], const u32 (&state)[kDk / 16][4],
                                           const KeyTile& tile) {
    const u64 b = ptx::k_major_128(&tile);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = First; step < Last; ++step)
        ptx::wgmma_bf16(x, state[step],
                        b + step / 4 * (sizeof(Panel) >> 4) + step % 4 * ptx::kDescriptorStepK,
                        step > 0);
    ptx::wgmma_commit();
}

// x (+)= a tile^T over tokens: T or A, [i][j], K-major.
__device__ __forceinline__ void issue_mix(float (&x)[kTokenSums], const u32 (&a)[kTokenSteps][4],
                                          const u16* tile, int accumulate) {
    const u64 b = ptx::k_major_128(tile);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTokenSteps; ++step)
        ptx::wgmma_bf16(x, a[step], b + step * ptx::kDescriptorStepK, step > 0 ? 1 : accumulate);
    ptx::wgmma_commit();
}

// As issue_read over all key dimensions, into two sums that do not wait for each other (3 % of a walk).
__device__ __forceinline__ void issue_read_apart(float (&x)[kTokenSums], float (&y)[kTokenSums],
                                                 const u32 (&state)[kDk / 16][4],
                                                 const KeyTile& tile) {
    const u64 b = ptx::k_major_128(&tile);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDk / 16; ++step) {
        const u64 at = b + step / 4 * (sizeof(Panel) >> 4) + step % 4 * ptx::kDescriptorStepK;
        if (step % 2) ptx::wgmma_bf16(y, state[step], at, step > 1);
        else ptx::wgmma_bf16(x, state[step], at, step > 1);
    }
    ptx::wgmma_commit();
}

__device__ __forceinline__ void add_sums(float (&x)[kTokenSums], const float (&y)[kTokenSums]) {
#pragma unroll
    for (int i = 0; i < kTokenSums; ++i) x[i] += y[i];
}

// S^T += a K. K has dk contiguous (MN-major): groups of 64 columns are a panel apart, groups of 8
// tokens 1024 bytes, a step of 16 tokens 2048.
__device__ __forceinline__ void issue_update(float (&s)[kStateSums], const u32 (&a)[kTokenSteps][4],
                                             const KeyTile& k) {
    const u64 b = ptx::matrix_descriptor(&k, sizeof(Panel), 1024, ptx::Swizzle::k128);
    ptx::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTokenSteps; ++step)
        ptx::wgmma_bf16<1>(s, a[step], b + step * (2048 >> 4), 1);
    ptx::wgmma_commit();
}

// Lane's row of a 16 x 16 block for ldmatrix and stmatrix with transposition: tokens along the rows
// of the panel, dv along its columns, and the other way round in registers.
__device__ __forceinline__ int transposed_row(int token, int col) {
    const int lane = lane_index();
    return swizzled(token + lane / 16 * 8 + lane % 8, col + lane / 8 % 2 * 8);
}

// This warp's 16 rows of V^T over all tokens, as operand a; `place` is the lane's in the first 16 tokens,
// transposed_row(0, the warp's first row): those of 16 tokens more are 16 rows further.
__device__ __forceinline__ void load_values(u32 (&v)[kTokenSteps][4], const Panel& values,
                                            int place) {
#pragma unroll
    for (int step = 0; step < kTokenSteps; ++step)
        ptx::ldmatrix_x4_transposed(v[step], values.at + place + 16 * step * kPanel);
}

// O^T into a panel as [token][column], and from there by TMA, which leaves out tokens beyond the
// sequence's end. Two panels take turns: when all have passed the barrier of one, the copy of the
// other, a chunk old, has been read. `place` as in load_values.
__device__ __forceinline__ void store_outputs(const float (&o)[kTokenSums], Panel& panel,
                                              const TensorMap* map, int place, int token,
                                              const Place& at, int column) {
#pragma unroll
    for (int c = 0; c < kTokenSteps; ++c)
        ptx::stmatrix_x4_transposed(panel.at + place + 16 * c * kPanel,
                                    pack_bf16(o[8 * c], o[8 * c + 1]),
                                    pack_bf16(o[8 * c + 2], o[8 * c + 3]),
                                    pack_bf16(o[8 * c + 4], o[8 * c + 5]),
                                    pack_bf16(o[8 * c + 6], o[8 * c + 7]));
    ptx::fence_async_shared();
    const bool issuer = threadIdx.x % kWarpgroup == 0;
    if (issuer) ptx::bulk_wait_read<0>();
    ptx::named_barrier_sync(1, kWarpgroup);
    if (issuer) {
        ptx::tma_store_4d(map, &panel, 0, token, column, at.batch);
        ptx::bulk_commit();
    }
}

constexpr int kStages = 3;

// Chunks on their way from the loader to those who work on them.
struct Pipe {
    Stage stage[kStages];
    u64 full[kStages], empty[kStages];
};
using Ring = ptx::Ring<kStages>;

// ---------------------------------------------------------------- loader: one thread

// Another block of this launch has prepared the chunk, by ordinary stores.
__device__ __forceinline__ void wait_ready(const u32* word) {
    while (ptx::load_acquire(word) == 0) {
    }
    ptx::fence_async();
}

// `ready`, a word per chunk, is null where all chunks were prepared before.
__device__ __forceinline__ void load_chunks(Pipe& s, const Problem& p, const Maps& maps,
                                            const Place& at, const u32* ready) {
    const int key = at.head / (p.heads / p.key_heads) * kPanels;
    const int value = (at.head * p.dv + at.col) / kPanel;
    const size_t row = static_cast<size_t>(at.batch) * p.heads + at.head;
    const Prepared* made = p.prepared + row * p.chunks;
    Ring ring;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
        const int t = chunk * kChunk;
        Stage& to = s.stage[ring.stage];
        u64* full = &s.full[ring.stage];
        ptx::mbarrier_wait(&s.empty[ring.stage], ring.parity ^ 1);
        ptx::mbarrier_arrive_expect(full, kStageBytes);
        ptx::tma_load_4d(&to.k, maps.k, full, 0, t, key, at.batch);
        ptx::tma_load_4d(&to.v, maps.v, full, 0, t, value, at.batch);
        ptx::tma_load_4d(&to.q, maps.q, full, 0, t, key, at.batch);
        if (ready) wait_ready(ready + chunk);
        ptx::bulk_load(&to.made, made + chunk, sizeof(Prepared), full);
        ring.advance();
    }
}

// ---------------------------------------------------------------- barriers

// One thread. `readers` threads free a stage. Each arrives for itself: racecheck follows a thread's own
// arrivals, but not those of a lane for the others that it has met before, and it costs nothing here.
__device__ __forceinline__ void init_pipe(Pipe& s, int readers) {
    for (int i = 0; i < kStages; ++i) {
        ptx::mbarrier_init(&s.full[i], 1);
        ptx::mbarrier_init(&s.empty[i], readers);
    }
}
