// Stands in for cuda/common/barrier.cuh: the named barriers.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void named_barrier_sync(int id, int threads) { simt::meet(simt::named[id], threads); }

}  // namespace ptx
