// mbarriers, named barriers, cluster barriers and the fences between them (PTX ISA 9.7.13).
// An mbarrier phase has a parity: a waiter passes the parity of the phase it waits for, which
// starts at 0 and flips each time the phase completes. A barrier that nobody has completed yet
// counts as having completed a phase of parity 1: producers start by waiting for parity 1.
#pragma once
#include "common/types.cuh"

namespace ptx {

__device__ __forceinline__ void mbarrier_init(u64* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}

// After mbarrier_init and before any other thread, CTA or copy engine touches the barrier.
__device__ __forceinline__ void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Orders this thread's ordinary shared-memory writes before later reads by TMA or wgmma.
__device__ __forceinline__ void fence_async_shared() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(barrier))
                 : "memory");
}

// Arrive and announce that `bytes` will be delivered by bulk copies before the phase completes.
__device__ __forceinline__ void mbarrier_arrive_expect(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     smem_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

// Arrive on the barrier at the same offset in the shared memory of CTA `rank` of this cluster, to
// say that a stage has been read (by wgmma that has been waited for, say). Nothing this thread
// wrote is published: `.release.cluster` would cost a MEMBAR.GPU per arrival, which halves the
// speed of a multicast pipeline (seen on an H200).
__device__ __forceinline__ void mbarrier_arrive_cluster(u64* barrier, u32 rank) {
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
        "}" ::"r"(smem_address(barrier)),
        "r"(rank)
        : "memory");
}

// try_wait (sm_90) lets the hardware suspend the warp for a while; before it there was test_wait.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define MBARRIER_WAIT "mbarrier.test_wait"
#else
#define MBARRIER_WAIT "mbarrier.try_wait"
#endif

__device__ __forceinline__ bool mbarrier_try_wait(u64* barrier, u32 parity) {
    u32 done;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        MBARRIER_WAIT ".parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(done)
        : "r"(smem_address(barrier)), "r"(parity)
        : "memory");
    return done != 0;
}

__device__ __forceinline__ void mbarrier_wait(u64* barrier, u32 parity) {
    while (!mbarrier_try_wait(barrier, parity)) {
    }
}

// The stage and the parity of a ring of `Stages` buffers, advanced together.
template <int Stages>
struct Ring {
    int stage = 0;
    u32 parity = 0;
    __device__ __forceinline__ void advance() {
        if (++stage == Stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// Hardware barriers 1-15 among `threads` threads (0 is __syncthreads).
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// The address, in the cluster's shared window, of what lies at `pointer` in this CTA's shared
// memory, in CTA `rank`.
__device__ __forceinline__ u32 cluster_address(const void* pointer, u32 rank) {
    u32 address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(smem_address(pointer)), "r"(rank));
    return address;
}

// Store 4, 8 or 16 bytes into another CTA's shared memory; its mbarrier (a cluster_address too)
// counts them as a bulk copy's, so the reader needs no fence, only mbarrier_wait.
__device__ __forceinline__ void store_async(u32 address, u32 barrier, const s32 (&value)[1]) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                     address),
                 "r"(value[0]), "r"(barrier)
                 : "memory");
}

__device__ __forceinline__ void store_async(u32 address, u32 barrier, const s32 (&value)[2]) {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(
            address),
        "r"(value[0]), "r"(value[1]), "r"(barrier)
        : "memory");
}

__device__ __forceinline__ void store_async(u32 address, u32 barrier, const s32 (&value)[4]) {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4},"
        " [%5];" ::"r"(address),
        "r"(value[0]), "r"(value[1]), "r"(value[2]), "r"(value[3]), "r"(barrier)
        : "memory");
}

__device__ __forceinline__ void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}

__device__ __forceinline__ u32 cluster_rank() {
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// True in exactly one lane of a converged warp, the same one each time.
__device__ __forceinline__ bool elect_one() {
    u32 elected;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "elect.sync _|p, 0xffffffff;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(elected));
    return elected != 0;
}

// Warpgroup-wide hand-over of registers (PTX 9.7.19.5). Takes effect only in a kernel with
// __launch_bounds__(threads, 1) and when every warpgroup takes exactly one branch of the roles.
template <int Registers>
__device__ __forceinline__ void registers_shrink() {
    static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "setmaxnreg range");
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

template <int Registers>
__device__ __forceinline__ void registers_grow() {
    static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256, "setmaxnreg range");
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

// One thread tells another block's that what its block wrote to global memory before is there.
__device__ __forceinline__ void signal(u32* flag) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(1) : "memory");
}

// Waits for the signal and takes it down, for the next launch. The block that signals must be one
// that never waits for this one.
__device__ __forceinline__ void await(u32* flag) {
    u32 seen;
    do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");
    } while (seen == 0);
    *flag = 0;
}

// As signal, for a count that only grows.
__device__ __forceinline__ void signal_add(u32* count) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(count), "r"(1) : "memory");
}

// What a signalling block wrote before is seen after the load that reads the signal; by the copy engine
// after fence_async(), too.
__device__ __forceinline__ u32 load_acquire(const u32* word) {
    u32 value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}

// Orders ordinary accesses to device and shared memory and those of the copy engine around it.
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async;" ::: "memory"); }

// 16 bytes in device memory that arrive whole: a reader in any block sees all of a store or nothing of it.
// A value that says by itself whether it is there needs no flag, and its writer no fence.
__device__ __forceinline__ void store_whole(float4* place, float4 x) {
    asm volatile(
        "{\n"
        ".reg .b64 low, high;\n"
        ".reg .b128 all;\n"
        "mov.b64 low, {%1, %2};\n"
        "mov.b64 high, {%3, %4};\n"
        "mov.b128 all, {low, high};\n"
        "st.relaxed.gpu.global.b128 [%0], all;\n"
        "}" ::"l"(place),
        "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w)
        : "memory");
}

__device__ __forceinline__ float4 load_whole(const float4* place) {
    float4 x;
    asm volatile(
        "{\n"
        ".reg .b64 low, high;\n"
        ".reg .b128 all;\n"
        "ld.relaxed.gpu.global.b128 all, [%4];\n"
        "mov.b128 {low, high}, all;\n"
        "mov.b64 {%0, %1}, low;\n"
        "mov.b64 {%2, %3}, high;\n"
        "}"
        : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
        : "l"(place)
        : "memory");
    return x;
}

// One barrier of all blocks of a cooperative launch. `counter` starts at 0 and only grows, by the
// number of blocks per use, so it needs no reset between uses within a launch.
__device__ __forceinline__ void grid_barrier(u32* counter, u32 blocks) {
    __syncthreads();
    if (threadIdx.x == 0) {
        u32 ticket;
        asm volatile("atom.add.release.gpu.global.u32 %0, [%1], 1;"
                     : "=r"(ticket)
                     : "l"(counter)
                     : "memory");
        const u32 target = (ticket / blocks + 1) * blocks;
        u32 seen;
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                         : "=r"(seen)
                         : "l"(counter)
                         : "memory");
        } while (static_cast<s32>(seen - target) < 0);
    }
    __syncthreads();
}

}  // namespace ptx
