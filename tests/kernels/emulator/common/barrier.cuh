// Stands in for cuda/common/barrier.cuh.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void mbarrier_init(u64* barrier, u32 arrivals) { emulator::mbarrier_init(barrier, arrivals); }
inline void fence_mbarrier_init() {}
inline void fence_async_shared() {}
inline void fence_async() {}
inline void mbarrier_arrive(u64* barrier) { emulator::mbarrier_arrive(barrier, 0); }
inline void mbarrier_arrive_expect(u64* barrier, u32 bytes) {
    emulator::mbarrier_arrive(barrier, bytes);
}
inline void mbarrier_arrive_cluster(u64* barrier, u32 rank) {
    emulator::mbarrier_arrive_in(static_cast<int>(rank), barrier);
}
inline void mbarrier_wait(u64* barrier, u32 parity, Site site = Site::here()) {
    emulator::mbarrier_wait(barrier, parity, site);
}
inline bool mbarrier_try_wait(u64* barrier, u32 parity) {
    return emulator::mbarrier_passed(barrier, parity);
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

inline void named_barrier_sync(int id, int threads, Site site = Site::here()) {
    emulator::barrier(id, threads, true, site);
}
inline void named_barrier_arrive(int id, int threads, Site site = Site::here()) {
    emulator::barrier(id, threads, false, site);
}

inline void cluster_arrive(Site site = Site::here()) {
    emulator::cluster_barrier(true, false, site);
}
inline void cluster_wait(Site site = Site::here()) { emulator::cluster_barrier(false, true, site); }
inline void cluster_sync(Site site = Site::here()) { emulator::cluster_barrier(true, true, site); }
inline u32 cluster_rank() { return emulator::rank(); }

inline void signal(u32* flag) { *flag = 1; }
inline void signal_add(u32* count) { ++*count; }
inline void await(u32* flag, Site site = Site::here()) {
    emulator::wait_while("a flag", site, flag, 0);
    *flag = 0;
}
inline void store_whole(float4* place, float4 x) { *place = x; }
inline float4 load_whole(const float4* place) {
    emulator::spin();  // whoever reads this polls
    return *place;
}
inline u32 load_acquire(const u32* word) { return *word; }
inline bool elect_one(Site site = Site::here()) {
    emulator::meet("elect_one", kFullMask, site);
    return lane_index() == 0;
}
template <int Registers>
void registers_shrink(Site site = Site::here()) {
    emulator::meet("setmaxnreg", kFullMask, site);
}
template <int Registers>
void registers_grow(Site site = Site::here()) {
    emulator::meet("setmaxnreg", kFullMask, site);
}

}  // namespace ptx
