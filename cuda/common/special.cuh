// Special functions of the MUFU unit by name: 16 results per clock and SM. Relative errors by the
// PTX ISA: ex2 2^-22.5 in its range, lg2 2^-22.6 (absolute near 1), rcp 1 ulp. ftz: subnormals
// are zero.
#pragma once
#include "common/types.cuh"

namespace ptx {

__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float log2_approx(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal_approx(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

}  // namespace ptx
