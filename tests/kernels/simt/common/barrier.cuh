// Stands in for cuda/common/barrier.cuh: the named barriers.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void named_barrier_sync(int id, int threads) { simt::meet(simt::named[id], threads); }
// Bits 0-15: arrivals still missing; 16-31: arrivals of a phase; 32: phases completed.
inline void mbarrier_init(u64* barrier, u32 arrivals) { *barrier = u64{arrivals} << 16 | arrivals; }
inline void mbarrier_arrive(u64* barrier) {
    simt::moved = true;
    const u64 missing = (*barrier & 0xffff) - 1, whole = *barrier >> 16 & 0xffff;
    const u64 phases = (*barrier >> 32) + (missing == 0);
    *barrier = phases << 32 | whole << 16 | (missing ? missing : whole);
}
inline void mbarrier_wait(u64* barrier, u32 parity) {
    while ((*barrier >> 32) % 2 == parity) simt::yield();
}

}  // namespace ptx
