// What test_emulator.py runs: each case is right, or breaks one rule of the device.
#include "common/async_copy.cuh"
#include "common/mma.cuh"
#include "common/special.cuh"
#include "common/wgmma.cuh"

extern __shared__ __align__(1024) unsigned char shared_bytes[];

struct Problem {
    const float* in;
    float* out;
    int which;
};

struct Shared {
    float tile[256];
    u64 full;
};

constexpr int kThreads = 64;

extern "C" __global__ void cases(const Problem p, const __grid_constant__ TensorMap map) {
    Shared& s = *reinterpret_cast<Shared*>(shared_bytes);
    const int i = static_cast<int>(threadIdx.x), lane = lane_index();
    const float mine = p.in[i];
    const u32 rank = ptx::cluster_rank();
    float* out = p.out + 64 * blockIdx.x + i;
    const auto arm = [&](u32 bytes) {  // everyone waits for what one thread starts
        if (i == 0) {
            ptx::mbarrier_init(&s.full, 1);
            if (bytes) ptx::mbarrier_arrive_expect(&s.full, bytes);
        }
        __syncthreads();
    };
    switch (p.which) {
    case 0: *out = __shfl_xor_sync(kFullMask, mine, 5); break;
    case 1: *out = __shfl_up_sync(kFullMask, mine, 3); break;
    case 2: *out = __shfl_sync(kFullMask, mine, 2, 8); break;
    case 3: *out = __shfl_xor_sync(lane < 16 ? 0xffffu : 0xffff0000u, mine, 1); break;
    case 4: *out = static_cast<float>(__ballot_sync(kFullMask, lane % 2) >> 16); break;
    case 5:  // bulk bytes arrive when they are waited for
        arm(1024);
        if (i == 0) ptx::bulk_load(s.tile, p.in, 1024, &s.full);
        __syncthreads();
        *out = s.tile[i];
        ptx::mbarrier_wait(&s.full, 0);
        *out = *out != *out ? s.tile[i] : -1.f;
        break;
    case 6:  // so do those of cp.async
        if (i < 16) ptx::copy_async_16(&s.tile[4 * i], p.in + 4 * i);
        __syncthreads();
        *out = s.tile[i];
        __syncthreads();
        ptx::copy_async_wait_all();
        __syncthreads();
        *out = *out != *out ? s.tile[i] : -1.f;
        break;
    case 7:  // a tile of 4 x 16 floats, one row and four columns beyond the data
        arm(256);
        if (i == 0) ptx::tma_load_2d(s.tile, &map, &s.full, 4, 1);
        ptx::mbarrier_wait(&s.full, 0);
        *out = s.tile[i];
        break;
    case 8:  // a poll lets others go on
        arm(0);
        if (i == 63) ptx::mbarrier_arrive(&s.full);
        while (!ptx::mbarrier_try_wait(&s.full, 0)) {
        }
        *out = mine;
        break;

    case 11:  // a tile for both
        arm(256);
        ptx::cluster_sync();
        if (rank == 1 && i == 0) ptx::tma_load_2d_multicast(s.tile, &map, &s.full, 3, 4, 1);
        ptx::mbarrier_wait(&s.full, 0);
        *out = s.tile[i];
        break;
    case 12:  // each at the other's barrier
        arm(0);
        ptx::cluster_sync();
        if (i == 5) ptx::mbarrier_arrive_cluster(&s.full, 1 - rank);
        ptx::mbarrier_wait(&s.full, 0);
        *out = mine;
        ptx::cluster_arrive();
        ptx::cluster_wait();
        break;

    case 20: if (lane < 16) *out = warp_index(); __syncthreads(); break;
    case 21: if (lane < 16) *out = warp_index(); break;
    case 22: if (i == 0) ptx::elect_one(); else __syncwarp(); break;
    case 23: if (lane != 7) *out = __any_sync(kFullMask, lane); break;
    case 24: if (lane % 2) __syncthreads(); else ptx::named_barrier_sync(1, 64); break;
    case 25: if (lane == 3) return; *out = __shfl_sync(kFullMask, mine, 0); break;
    case 26: *out = __shfl_sync(0x0000ffffu, mine, 0); break;
    case 27:
        if (lane < 8) *out = __shfl_sync(kFullMask, mine, 0);
        else *out = __shfl_sync(kFullMask, mine, 0);
        break;
    case 28: if (i < 32) ptx::named_barrier_sync(1, 64); break;
    case 29: ptx::named_barrier_sync(1, i < 32 ? 64 : 96); break;
    case 30: ptx::mbarrier_wait(&s.full, 0); break;
    case 31: arm(16); ptx::mbarrier_wait(&s.full, 0); break;
    case 32: arm(0); s.full = 0; ptx::mbarrier_arrive(&s.full); break;
    case 33: arm(16); ptx::mbarrier_arrive(&s.full); break;
    case 34: s.tile[sizeof(Shared) / 4 + i] = mine; break;
    case 35:
        arm(1024);
        if (i == 0) ptx::bulk_load(s.tile, p.in, 1024, &s.full);
        break;
    case 36: if (i == 0) ptx::bulk_store(p.out, s.tile, 64); break;
    case 37: if (i == 0) ptx::copy_async_16(&s.tile[1], p.in); break;
    case 38: if (lane < 16) ptx::wgmma_fence(); break;
    case 39: arm(0); while (!ptx::mbarrier_try_wait(&s.full, 0)) {} break;
    case 41: if (rank == 0) ptx::cluster_sync(); break;
    case 42: arm(0); if (i == 0) ptx::mbarrier_arrive_cluster(&s.full, 7); break;
    case 40: *out = __shfl_sync(lane < 16 ? 0xffffu : 0xffff0000u, mine, 20); break;
    }
}
