// Stands in for cuda/common/barrier.cuh: the named barriers.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void named_barrier_sync(int id, int threads) { simt::meet(simt::named[id], threads); }
inline void named_barrier_arrive(int id, int threads) {
    simt::Barrier& b = simt::named[id];
    if (++b.arrived == threads) b.arrived = 0, ++b.phase;
}

}  // namespace ptx
