// Stands in for cuda/common/tma.cuh.
#pragma once
#include "common/barrier.cuh"

namespace ptx {

enum class Evict : u64 { kNormal, kFirst, kLast };

inline void tma_prefetch_map(const TensorMap*) {}

inline void tma_load_2d(void* smem, const TensorMap* map, u64* barrier, int x, int y,
                        Evict = Evict::kNormal) {
    const int corner[] = {x, y};
    emulator::load_tile(smem, map, barrier, 2, corner);
}
inline void tma_load_3d(void* smem, const TensorMap* map, u64* barrier, int x, int y, int z,
                        Evict = Evict::kNormal) {
    const int corner[] = {x, y, z};
    emulator::load_tile(smem, map, barrier, 3, corner);
}
inline void tma_load_4d(void* smem, const TensorMap* map, u64* barrier, int x, int y, int z, int w,
                        Evict = Evict::kNormal) {
    const int corner[] = {x, y, z, w};
    emulator::load_tile(smem, map, barrier, 4, corner);
}
inline void tma_load_2d_multicast(void* smem, const TensorMap* map, u64* barrier, u16 mask, int x,
                                  int y, Evict = Evict::kNormal) {
    const int corner[] = {x, y};
    emulator::load_tile_in(mask, smem, map, barrier, 2, corner);
}
inline void tma_load_3d_multicast(void* smem, const TensorMap* map, u64* barrier, u16 mask, int x,
                                  int y, int z, Evict = Evict::kNormal) {
    const int corner[] = {x, y, z};
    emulator::load_tile_in(mask, smem, map, barrier, 3, corner);
}
inline void tma_load_4d_multicast(void* smem, const TensorMap* map, u64* barrier, u16 mask, int x,
                                  int y, int z, int w, Evict = Evict::kNormal) {
    const int corner[] = {x, y, z, w};
    emulator::load_tile_in(mask, smem, map, barrier, 4, corner);
}
inline void tma_store_2d(const TensorMap* map, const void* smem, int x, int y) {
    const int corner[] = {x, y};
    emulator::store_tile(map, smem, 2, corner);
}
inline void tma_store_3d(const TensorMap* map, const void* smem, int x, int y, int z) {
    const int corner[] = {x, y, z};
    emulator::store_tile(map, smem, 3, corner);
}
inline void tma_store_4d(const TensorMap* map, const void* smem, int x, int y, int z, int w) {
    const int corner[] = {x, y, z, w};
    emulator::store_tile(map, smem, 4, corner);
}
inline void bulk_load(void* smem, const void* global, u32 bytes, u64* barrier,
                      Evict = Evict::kNormal) {
    emulator::load_bytes(smem, global, bytes, barrier);
}
inline void bulk_store(void* global, const void* smem, u32 bytes) {
    emulator::store_bytes(global, smem, bytes);
}
inline void bulk_commit() { emulator::store_commit(); }
template <int Pending>
void bulk_wait_read() {
    emulator::store_wait(Pending);
}
template <int Pending>
void bulk_wait() {
    emulator::store_wait(Pending);
}

}  // namespace ptx
