// Rates of the arithmetic pipes: 8 independent chains a thread, 2048 threads a multiprocessor.
//
// Each kernel repeats one instruction; `rounds` x kUnroll x 8 of them a thread. The instruction is
// volatile assembly, so the count is exact; chains hide its latency (8 x 64 warps over 4 issue
// ports is far more than any latency).
//
// The bf16x2 special functions came with sm_90.
//
// arch: sm_80 sm_90
// registers: 32
// threads: 1024
#include "common/types.cuh"
#include "roofs/stopwatch.cuh"

struct ArithmeticParams {
    const float* seeds;
    float* sink;
    int rounds;
    Elapsed* elapsed;
};

constexpr int kChains = 8;
constexpr int kUnroll = 16;

template <typename T>
__device__ __forceinline__ T seed(float x);
template <>
__device__ __forceinline__ float seed<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ double seed<double>(float x) {
    return x;
}
template <>
__device__ __forceinline__ u32 seed<u32>(float x) {
    return pack_f16(x, x);
}

#define RATE_KERNEL(NAME, T, ...)                                                       \
    extern "C" __global__ void __launch_bounds__(1024) NAME(const ArithmeticParams p) { \
        T x[kChains];                                                                   \
        const T b = seed<T>(p.seeds[0]);                                                \
        const T c = seed<T>(p.seeds[1]);                                                \
        (void)b;                                                                        \
        (void)c;                                                                        \
        _Pragma("unroll") for (int i = 0; i < kChains; ++i) {                           \
            x[i] = seed<T>(p.seeds[2 + threadIdx.x % 64 + i]);                          \
        }                                                                               \
        Stopwatch watch;                                                                \
        watch.start();                                                                  \
        for (int round = 0; round < p.rounds; ++round) {                                \
            _Pragma("unroll") for (int u = 0; u < kUnroll; ++u) {                       \
                _Pragma("unroll") for (int i = 0; i < kChains; ++i) { __VA_ARGS__; }    \
            }                                                                           \
        }                                                                               \
        watch.stop(p.elapsed);                                                          \
        T sum = x[0];                                                                   \
        _Pragma("unroll") for (int i = 1; i < kChains; ++i) sum += x[i];                \
        if (sum == seed<T>(12345.678f)) p.sink[threadIdx.x] = static_cast<float>(sum);  \
    }

#define ONE(PTX, C) asm volatile(PTX " %0, %0;" : C(x[i]))
#define TWO(PTX, C, IN) asm volatile(PTX " %0, %0, %1;" : C(x[i]) : IN(b))
#define THREE(PTX, C, IN) asm volatile(PTX " %0, %0, %1, %2;" : C(x[i]) : IN(b), IN(c))

RATE_KERNEL(fma_f32, float, THREE("fma.rn.f32", "+f", "f"))
RATE_KERNEL(fma_f64, double, THREE("fma.rn.f64", "+d", "d"))
RATE_KERNEL(fma_f16x2, u32, THREE("fma.rn.f16x2", "+r", "r"))
RATE_KERNEL(fma_bf16x2, u32, THREE("fma.rn.bf16x2", "+r", "r"))
RATE_KERNEL(add_f32, float, TWO("add.rn.f32", "+f", "f"))
RATE_KERNEL(max_f32, float, TWO("max.f32", "+f", "f"))
RATE_KERNEL(mad_s32, u32, THREE("mad.lo.s32", "+r", "r"))
RATE_KERNEL(dp4a_s32, u32,
            asm volatile("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(x[i]) : "r"(b), "r"(c)))
RATE_KERNEL(lop3_b32, u32,
            asm volatile("lop3.b32 %0, %0, %1, %2, 0x6a;" : "+r"(x[i]) : "r"(b), "r"(c)))
RATE_KERNEL(ex2_f32, float, ONE("ex2.approx.ftz.f32", "+f"))
RATE_KERNEL(lg2_f32, float, ONE("lg2.approx.ftz.f32", "+f"))
// The assembler cancels rcp(rcp(x)); an addition between (128 a clock, against 16) prevents it.
RATE_KERNEL(rcp_f32, float,
            asm volatile("add.rn.f32 %0, %0, %1;\nrcp.approx.ftz.f32 %0, %0;"
                         : "+f"(x[i])
                         : "f"(b)))
RATE_KERNEL(rsqrt_f32, float, ONE("rsqrt.approx.ftz.f32", "+f"))
RATE_KERNEL(tanh_f32, float, ONE("tanh.approx.f32", "+f"))
RATE_KERNEL(ex2_f16x2, u32, ONE("ex2.approx.f16x2", "+r"))
RATE_KERNEL(tanh_f16x2, u32, ONE("tanh.approx.f16x2", "+r"))
#if __CUDA_ARCH__ >= 900
RATE_KERNEL(ex2_bf16x2, u32, ONE("ex2.approx.ftz.bf16x2", "+r"))
RATE_KERNEL(tanh_bf16x2, u32, ONE("tanh.approx.bf16x2", "+r"))
#endif
// cvt wants registers of its own types; the moves vanish in register allocation.
RATE_KERNEL(cvt_f32_s32, u32,
            asm volatile("{\n.reg .f32 t;\ncvt.rn.f32.s32 t, %0;\nmov.b32 %0, t;\n}" : "+r"(x[i])))
RATE_KERNEL(cvt_bf16x2_f32, float,
            asm volatile("{\n.reg .b32 t;\ncvt.rn.bf16x2.f32 t, %0, %1;\nmov.b32 %0, t;\n}"
                         : "+f"(x[i])
                         : "f"(b)))
RATE_KERNEL(shuffle_b32, u32,
            asm volatile("shfl.sync.bfly.b32 %0, %0, 1, 31, 0xffffffff;" : "+r"(x[i])))
