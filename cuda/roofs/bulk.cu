// Bandwidth as the copy engine sees it: bulk copies into shared memory, and from there back.
//
// read_bulk: one thread a block keeps kStages copies of kChunk bytes in flight (192 KB a multiprocessor).
// With `rounds` = 1 the blocks share the buffer between them (device memory); with more, each
// block walks the whole buffer from its own starting point (L2, if it fits there).
// copy_bulk: half the stages load ahead while the other half drain to memory.
//
// arch: sm_90
// registers: 24
// threads: 32
// dynamic_smem: 196608
#include "common/tma.cuh"
#include "roofs/stopwatch.cuh"

struct BulkParams {
    const u8* in;
    u8* out;
    u64 bytes;
    int rounds;
    Elapsed* elapsed;
};

constexpr int kStages = 12;
constexpr u32 kChunk = 16384;

extern "C" __global__ void __launch_bounds__(32, 1) read_bulk(const BulkParams p) {
    extern __shared__ __align__(1024) u8 buffer[];
    __shared__ u64 full[kStages];
    if (threadIdx.x != 0) return;
    for (int s = 0; s < kStages; ++s) ptx::mbarrier_init(full + s, 1);
    ptx::fence_mbarrier_init();
    Stopwatch watch;
    watch.start();
    const u32 chunks = static_cast<u32>(p.bytes / kChunk);
    const bool shared_walk = p.rounds == 1;
    const u32 step = shared_walk ? gridDim.x : 1;
    const u32 first = shared_walk ? blockIdx.x
                                  : static_cast<u32>(static_cast<u64>(chunks) * blockIdx.x /
                                                     gridDim.x);
    const u32 mine = shared_walk ? (chunks - first + step - 1) / step : chunks * p.rounds;
    ptx::Ring<kStages> fill;
    ptx::Ring<kStages> drain;
    u32 at = first;
    for (u32 issued = 0; issued < mine + kStages; ++issued) {
        if (issued >= kStages) {  // wait for the oldest copy before its stage is used again
            if (issued - kStages < mine) ptx::mbarrier_wait(full + drain.stage, drain.parity);
            drain.advance();
        }
        if (issued < mine) {
            ptx::mbarrier_arrive_expect(full + fill.stage, kChunk);
            ptx::bulk_load(buffer + fill.stage * kChunk, p.in + static_cast<u64>(at) * kChunk,
                           kChunk, full + fill.stage,
                           shared_walk ? ptx::Evict::kFirst : ptx::Evict::kNormal);
            fill.advance();
            at += step;
            if (!shared_walk && at >= chunks) at -= chunks;
        }
    }
    watch.stop(p.elapsed);
}

extern "C" __global__ void __launch_bounds__(32, 1) copy_bulk(const BulkParams p) {
    extern __shared__ __align__(1024) u8 buffer[];
    __shared__ u64 full[kStages];
    if (threadIdx.x != 0) return;
    for (int s = 0; s < kStages; ++s) ptx::mbarrier_init(full + s, 1);
    ptx::fence_mbarrier_init();
    constexpr u32 kLead = kStages / 2;
    const u32 chunks = static_cast<u32>(p.bytes / kChunk);
    const u32 mine = (chunks - blockIdx.x + gridDim.x - 1) / gridDim.x;
    ptx::Ring<kStages> fill;
    ptx::Ring<kStages> drain;
    for (u32 i = 0; i < mine + kLead; ++i) {
        if (i < mine) {
            // Chunk i - kStages left from this stage; i - kLead stores were committed since then,
            // so all but the newest kStages - kLead - 1 must have read their stage.
            ptx::bulk_wait_read<kStages - kLead - 1>();
            ptx::mbarrier_arrive_expect(full + fill.stage, kChunk);
            ptx::bulk_load(buffer + fill.stage * kChunk,
                           p.in + static_cast<u64>(blockIdx.x + i * gridDim.x) * kChunk, kChunk,
                           full + fill.stage, ptx::Evict::kFirst);
            fill.advance();
        }
        if (i >= kLead) {
            ptx::mbarrier_wait(full + drain.stage, drain.parity);
            ptx::bulk_store(p.out + static_cast<u64>(blockIdx.x + (i - kLead) * gridDim.x) * kChunk,
                            buffer + drain.stage * kChunk, kChunk);
            ptx::bulk_commit();
            drain.advance();
        }
    }
    ptx::bulk_wait<0>();
}
