// Bulk copies by the tensor memory accelerator (PTX ISA 9.7.9.27: cp.async.bulk and
// cp.async.bulk.tensor). One elected thread issues them; a load completes on an mbarrier that was
// told the byte count, a store completes by commit group. Coordinates are in elements, innermost
// first; out-of-range elements read as zero and are not written.
#pragma once
#include "common/barrier.cuh"

namespace ptx {

// L2 eviction policies as createpolicy.fractional would make them (fraction 1).
enum class Evict : u64 {
    kNormal = 0x1000000000000000ull,
    kFirst = 0x12f0000000000000ull,
    kLast = 0x14f0000000000000ull,
};

__device__ __forceinline__ void tma_prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ __forceinline__ void tma_load_2d(void* smem, const TensorMap* map, u64* barrier, int x,
                                            int y, Evict policy = Evict::kNormal) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(smem_address(smem)),
        "l"(map), "r"(smem_address(barrier)), "r"(x), "r"(y), "l"(static_cast<u64>(policy))
        : "memory");
}

__device__ __forceinline__ void tma_load_3d(void* smem, const TensorMap* map, u64* barrier, int x,
                                            int y, int z, Evict policy = Evict::kNormal) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(smem_address(smem)),
        "l"(map), "r"(smem_address(barrier)), "r"(x), "r"(y), "r"(z),
        "l"(static_cast<u64>(policy))
        : "memory");
}

__device__ __forceinline__ void tma_load_4d(void* smem, const TensorMap* map, u64* barrier, int x,
                                            int y, int z, int w,
                                            Evict policy = Evict::kNormal) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(smem_address(smem)),
        "l"(map), "r"(smem_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w),
        "l"(static_cast<u64>(policy))
        : "memory");
}

// The same tile into the same offset of every CTA of the cluster whose bit is set in `mask`;
// each receiving CTA's own barrier (same offset) gets the bytes.
__device__ __forceinline__ void tma_load_2d_multicast(void* smem, const TensorMap* map,
                                                      u64* barrier, u16 mask, int x, int y,
                                                      Evict policy = Evict::kNormal) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster.L2::cache_hint [%0], [%1, {%4, %5}], [%2], %3, %6;" ::"r"(
            smem_address(smem)),
        "l"(map), "r"(smem_address(barrier)), "h"(mask), "r"(x), "r"(y),
        "l"(static_cast<u64>(policy))
        : "memory");
}

__device__ __forceinline__ void tma_load_3d_multicast(void* smem, const TensorMap* map,
                                                      u64* barrier, u16 mask, int x, int y, int z,
                                                      Evict policy = Evict::kNormal) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster.L2::cache_hint [%0], [%1, {%4, %5, %6}], [%2], %3, %7;" ::"r"(
            smem_address(smem)),
        "l"(map), "r"(smem_address(barrier)), "h"(mask), "r"(x), "r"(y), "r"(z),
        "l"(static_cast<u64>(policy))
        : "memory");
}

__device__ __forceinline__ void tma_load_4d_multicast(void* smem, const TensorMap* map,
                                                      u64* barrier, u16 mask, int x, int y, int z,
                                                      int w, Evict policy = Evict::kNormal) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster.L2::cache_hint [%0], [%1, {%4, %5, %6, %7}], [%2], %3, %8;" ::"r"(
            smem_address(smem)),
        "l"(map), "r"(smem_address(barrier)), "h"(mask), "r"(x), "r"(y), "r"(z),
        "r"(w), "l"(static_cast<u64>(policy))
        : "memory");
}

// Stores read shared memory through the async proxy: writers fence_async_shared() and meet at a
// barrier before the elected thread issues the store.
__device__ __forceinline__ void tma_store_2d(const TensorMap* map, const void* smem, int x,
                                             int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
                     map),
                 "r"(smem_address(smem)), "r"(x), "r"(y)
                 : "memory");
}

__device__ __forceinline__ void tma_store_3d(const TensorMap* map, const void* smem, int x, int y,
                                             int z) {
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
            map),
        "r"(smem_address(smem)), "r"(x), "r"(y), "r"(z)
        : "memory");
}

__device__ __forceinline__ void tma_store_4d(const TensorMap* map, const void* smem, int x, int y,
                                             int z, int w) {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
            map),
        "r"(smem_address(smem)), "r"(x), "r"(y), "r"(z), "r"(w)
        : "memory");
}

// As tma_store_2d, but adds to what is there (the map's data type decides the addition).
__device__ __forceinline__ void tma_reduce_add_2d(const TensorMap* map, const void* smem, int x,
                                                  int y) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];" ::
            "l"(map),
        "r"(smem_address(smem)), "r"(x), "r"(y)
        : "memory");
}

// Contiguous bytes without a map; addresses and size are multiples of 16.
__device__ __forceinline__ void bulk_load(void* smem, const void* global, u32 bytes, u64* barrier,
                                          Evict policy = Evict::kNormal) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1], %2, [%3], %4;" ::"r"(smem_address(smem)),
        "l"(global), "r"(bytes), "r"(smem_address(barrier)), "l"(static_cast<u64>(policy))
        : "memory");
}

__device__ __forceinline__ void bulk_store(void* global, const void* smem, u32 bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global),
                 "r"(smem_address(smem)), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void bulk_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// At most `Pending` of this thread's newest store groups have not yet read their shared memory.
template <int Pending>
__device__ __forceinline__ void bulk_wait_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}

// At most `Pending` of this thread's newest store groups are not yet complete.
template <int Pending>
__device__ __forceinline__ void bulk_wait() {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace ptx
