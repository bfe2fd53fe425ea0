// cp.async: 16-byte global -> shared copies that bypass registers (PTX ISA 9.7.9.25, sm_80).
#pragma once
#include "common/types.cuh"

namespace ptx {

// With `valid` false nothing is read and the 16 bytes become zero: tails need no branch.
__device__ __forceinline__ void copy_async_16(void* smem, const void* global, bool valid = true) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
                     smem_address(smem)),
                 "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}

// As copy_async_16 with `bytes` (0 to 16) read and the rest zero.
__device__ __forceinline__ void copy_async_partial(void* smem, const void* global, u32 bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_address(smem)),
                 "l"(global), "r"(bytes)
                 : "memory");
}

// One 4-byte word, for data that is not aligned to 16 bytes; zero if `valid` is false.
__device__ __forceinline__ void copy_async_4(void* smem, const void* global, bool valid = true) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem_address(smem)),
                 "l"(global), "r"(valid ? 4 : 0)
                 : "memory");
}

__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// At most `Pending` of this thread's newest groups are still in flight.
template <int Pending>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

__device__ __forceinline__ void copy_async_wait_all() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

}  // namespace ptx
