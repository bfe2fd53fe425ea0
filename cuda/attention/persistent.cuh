// The persistent schedule of rung 5: as many CTAs as SMs, each working tile after tile. The next
// tile's loads start while the last block of this one is multiplied, so neither the latency of the
// first loads nor the stores show; and tiles are handed out on demand, the long ones first, so that
// under a causal mask all CTAs end within one short tile of each other.
//
// Roles: warp 0 loads, warp 1 schedules (one thread each), the other warpgroups multiply. What is
// to be done goes through two slots in shared memory; computing it in one place keeps the divisions
// out of the loader, whose registers are few.
#pragma once
#include "attention/overlap.cuh"

struct Shared {
    Pipes pipes;
    Work work[2];
    u64 work_full[2], work_empty[2];
    u64 loads_issued;  // of the tile last handed out
    attention::PackedTiles packed;  // the scheduler's, whose registers are few
};
static_assert(sizeof(Shared) <= 232448, "shared memory of one SM");

constexpr int kThreads = kWarpgroup * (1 + kConsumers);
constexpr int kConsumerRegisters = kConsumers == 3 ? 160 : 240;
constexpr int kProducerRegisters = kConsumers == 3 ? 32 : 24;

// ---------------------------------------------------------------- scheduler: one thread

__device__ __forceinline__ bool find_tile(const Problem& p, int index,
                                          attention::PackedTiles& packed, attention::Tile& tile) {
    if (p.q_starts != nullptr)
        return packed.find(index, p.q_starts, p.sequences, p.heads, kTileM, tile);
    const int blocks = ceil_div(p.q_len, kTileM);
    if (index >= blocks * p.heads * p.sequences) return false;
    tile = attention::uniform_tile(index, blocks, p.heads, p.sequences, p.section);
    return true;
}

// A tile whose weights did not hold, once more and with care.
__device__ __forceinline__ void repeat(Work& work) {
    work.failed = 0;
    work.careful = 1;
}

// When no tile is left: the one before, if it turns out not to hold.
__device__ __forceinline__ bool repeat_last(Shared& s, ptx::Ring<2> ring) {
    Work& slot = s.work[ring.stage];
    ring.advance();
    ptx::mbarrier_wait(&s.work_empty[ring.stage], ring.parity ^ 1);
    Work& last = s.work[ring.stage];
    if (!last.failed) return false;
    slot = last;
    repeat(slot);
    last.failed = 0;
    return true;
}

// Hands out tiles in ascending order, each to the first CTA that asks. A CTA asks for its next tile
// when all loads of the one before have been issued, a stage or two before its end: early enough
// that the next loads find it known, late enough that no tile waits behind a long one.
template <typename Rows>
__device__ __forceinline__ void schedule(Shared& s, const Problem& p) {
    ptx::Ring<2> ring;
    int index = blockIdx.x;
    while (true) {
        Work& work = s.work[ring.stage];
        ptx::mbarrier_wait(&s.work_empty[ring.stage], ring.parity ^ 1);
        if (Rows::kMayFail && work.failed) {
            repeat(work);
        } else {
            attention::Tile tile{0, 0, 0};
            if (find_tile(p, index, s.packed, tile)) {
                work = work_of_tile(p, tile, kTileM, kTileN);
                work.careful = 0;
                index = -1;
            } else if (!Rows::kMayFail || !repeat_last(s, ring)) {
                work.valid = 0;
            }
        }
        ptx::mbarrier_arrive(&s.work_full[ring.stage]);
        if (!work.valid) break;
        ptx::mbarrier_wait(&s.loads_issued, ring.stage);  // its parity alternates as the slots do
        ring.advance();
        if (index < 0) index = gridDim.x + atomicAdd(&p.counters[0], 1u);
    }
    // Every CTA sees the end once; the last one leaves the counters as it found them.
    if (atomicAdd(&p.counters[1], 1u) == gridDim.x - 1) p.counters[0] = p.counters[1] = 0;
}

// ---------------------------------------------------------------- loader: one thread

__device__ __forceinline__ void produce(Shared& s, const Maps& maps) {
    Loader loader;
    ptx::Ring<2> ring;
    while (true) {
        ptx::mbarrier_wait(&s.work_full[ring.stage], ring.parity);
        const Work& work = s.work[ring.stage];
        if (!work.valid) return;
        if (work.blocks.count() > 0) loader.load(s.pipes, maps, work);
        ptx::mbarrier_arrive(&s.loads_issued);
        ptx::mbarrier_arrive(&s.work_empty[ring.stage]);
        ring.advance();
    }
}

// ---------------------------------------------------------------- consumers: 64 queries each

template <typename Rows>
__device__ __forceinline__ void consume(Shared& s, const Problem& p, int group, int thread) {
    Attender<Rows> attender;
    ptx::Ring<2> ring;
    if (group == 0) pass_turn(kConsumers - 1);  // the first turn is consumer 0's
    while (true) {
        ptx::mbarrier_wait(&s.work_full[ring.stage], ring.parity);
        Work& work = s.work[ring.stage];
        if (!work.valid) return;
        bool holds = true;
        if (work.blocks.count() > 0)
            holds = attender.attend(s.pipes, p, work, group);
        else
            store_nothing_seen(p, work, work.first_row + 64 * group, thread);
        if (Rows::kMayFail && !holds && lane_index() == 0) atomicOr(&work.failed, 1u);
        __syncwarp();
        free_stage(&s.work_empty[ring.stage]);
        ring.advance();
    }
}

// ---------------------------------------------------------------- roles

template <typename Rows>
__device__ __forceinline__ void persistent_attention(const Problem& p, const Maps& maps) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; ++i) {
            ptx::mbarrier_init(&s.work_full[i], 1);
            ptx::mbarrier_init(&s.work_empty[i], 4 * kConsumers + 1);
        }
        ptx::mbarrier_init(&s.loads_issued, 1);
        s.work[0].failed = s.work[1].failed = 0;
        s.packed = {};
        init_pipes(s.pipes);
    }
    __syncthreads();
    const int role = warpgroup_index();
    if (role == 0) {
        ptx::registers_shrink<kProducerRegisters>();
        const bool elected = ptx::elect_one();
        if (warp_index() == 0 && elected) produce(s, maps);
        if (warp_index() == 1 && elected) schedule<Rows>(s, p);
        __syncwarp();
    } else {
        ptx::registers_grow<kConsumerRegisters>();
        consume<Rows>(s, p, role - 1, threadIdx.x % kWarpgroup);
    }
}
