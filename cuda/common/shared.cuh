// Shared memory by address: for kernels whose few places in it, one register each, serve a whole loop.
#pragma once
#include "common/types.cuh"

namespace ptx {

struct Shared {
    u32 address;
    __device__ __forceinline__ Shared operator+(int bytes) const { return {address + bytes}; }
};

__device__ __forceinline__ Shared shared_at(const void* place) { return {smem_address(place)}; }

// The same address, from a shuffle of the warp: the assembler, short of registers, computes addresses anew
// from the thread's index wherever they are used; it cannot compute this one.
__device__ __forceinline__ Shared pinned(Shared at) {
    return {__shfl_sync(kFullMask, at.address, lane_index())};
}

__device__ __forceinline__ u32 load_4(Shared at) {
    u32 x;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(at.address) : "memory");
    return x;
}
__device__ __forceinline__ uint2 load_8(Shared at) {
    uint2 x;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                 : "=r"(x.x), "=r"(x.y)
                 : "r"(at.address)
                 : "memory");
    return x;
}
__device__ __forceinline__ uint4 load_16(Shared at) {
    uint4 x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "r"(at.address)
                 : "memory");
    return x;
}
__device__ __forceinline__ float4 load_floats(Shared at) {
    const uint4 x = load_16(at);
    return make_float4(__uint_as_float(x.x), __uint_as_float(x.y), __uint_as_float(x.z),
                       __uint_as_float(x.w));
}

__device__ __forceinline__ void store_2(Shared at, u16 x) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(at.address), "h"(x) : "memory");
}
__device__ __forceinline__ void store_16(Shared at, uint4 x) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at.address), "r"(x.x), "r"(x.y), "r"(x.z),
                 "r"(x.w)
                 : "memory");
}
__device__ __forceinline__ void store_16(Shared at, float4 x) {
    store_16(at, make_uint4(__float_as_uint(x.x), __float_as_uint(x.y), __float_as_uint(x.z),
                            __float_as_uint(x.w)));
}

// cp.async of 16 bytes; zeros if `valid` is false. `kept` also leaves the line in the SM's first-level
// cache, for other warps that read it soon.
__device__ __forceinline__ void copy_async_16(Shared to, const void* global, bool valid, bool kept) {
    const u32 bytes = valid ? 16 : 0;
    if (kept)
        asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to.address),
                     "l"(global), "r"(bytes)
                     : "memory");
    else
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to.address),
                     "l"(global), "r"(bytes)
                     : "memory");
}

// cp.async of 16 bytes that nobody reads again: the first to leave L2 (the policy is that of
// createpolicy.fractional.L2::evict_first with fraction 1). `to` has to be pinned or a sum of pinned ones:
// where ptxas 13.0 adds a uniform register to an address and has a policy, it encodes an illegal
// instruction, `LDGSTS [R25+UR0], desc[UR1]`, an odd descriptor register.
__device__ __forceinline__ void copy_async_16_once(Shared to, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(
                     to.address),
                 "l"(global), "r"(valid ? 16 : 0), "l"(0x12f0000000000000ull)
                 : "memory");
}

}  // namespace ptx
