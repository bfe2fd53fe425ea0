// Stands in for cuda/common/barrier.cuh on the host.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void mbarrier_init(u64* barrier, u32 arrivals) {
    emulator::block.mbarriers[barrier] = {static_cast<int>(arrivals), static_cast<int>(arrivals)};
}
inline void fence_mbarrier_init() {}
inline void fence_async_shared() {}
inline void fence_async() {}
inline u32 load_acquire(const u32* word) { return *word; }

inline void mbarrier_arrive(u64* barrier) {
    emulator::MBarrier& b = emulator::mbarrier(barrier);
    --b.pending;
    emulator::settle(b);
}

inline void mbarrier_arrive_cluster(u64* barrier, u32 rank) {
    emulator::MBarrier& b = emulator::mbarrier_in(emulator::block_of(rank), barrier);
    --b.pending;
    emulator::settle(b);
}

inline void mbarrier_arrive_expect(u64* barrier, u32 bytes) {
    emulator::MBarrier& b = emulator::mbarrier(barrier);
    b.bytes += bytes;
    --b.pending;
    emulator::settle(b);
}

inline void mbarrier_wait(u64* barrier, u32 parity) {
    emulator::wait_until([=] { return emulator::mbarrier(barrier).phase != parity; });
}

inline bool mbarrier_try_wait(u64* barrier, u32 parity) {
    mbarrier_wait(barrier, parity);
    return true;
}

template <int Stages>
struct Ring {
    int stage = 0;
    u32 parity = 0;
    void advance() {
        if (++stage == Stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

inline void cluster_sync() { emulator::sync_cluster(); }

inline void signal(u32* flag) { *flag = 1; }
inline void signal_add(u32* count) { ++*count; }
inline void await(u32* flag) {
    emulator::wait_until([=] { return *flag != 0; });
    *flag = 0;
}

inline void named_barrier_sync(int id, int threads) { emulator::sync(id, threads); }
inline void named_barrier_arrive(int id, int threads) { emulator::arrive(id, threads); }
inline u32 atomic_add_acquire_release(u32* counter, u32 value) {
    const u32 before = *counter;
    *counter += value;
    return before;
}
inline bool elect_one() {
    __syncwarp();
    return lane_index() == 0;
}
template <int Registers>
void registers_shrink() {}
template <int Registers>
void registers_grow() {}

}  // namespace ptx
