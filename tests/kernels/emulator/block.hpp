// A block of CUDA threads on the host: what kernels and the stand-in headers ask of block.cpp.
//
// Every thread is a coroutine that runs until it waits. What a device does late is done as late as
// possible: bulk copies arrive when nobody can go on without them, cp.async and wgmma happen when
// someone waits for them, and their targets hold NaN until then. What a device requires of a warp
// is required: all lanes of the mask at the same instruction, at the same place of the source. A
// breach, a deadlock or a write beyond the launch's shared memory ends the launch with a message.
// The blocks of a cluster take turns. Not modelled: memory ordering, timing, bank conflicts.
#pragma once
#include <cstddef>
#include <cstdint>

struct TensorMap;

namespace emulator {

// Where a kernel calls an instruction of a whole warp.
struct Site {
    const char* file;
    int line;
    static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

constexpr std::size_t kSharedBytes = 232448;  // what a block of sm_90 may ask for
constexpr unsigned kAll = 0xffffffffu;

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

int lane();

// The lanes of `mask` meet, each with `mine`; the last one runs `work` for all of them. lanes[i] is
// lane i's `mine`, null outside the mask.
using Work = void (*)(void** lanes);
void meet(const char* what, unsigned mask, Site site, void* mine = nullptr, Work work = nullptr);

// Waits while *word == value; `spin` lets others run once.
void wait_while(const char* what, Site site, const std::uint32_t* word, std::uint32_t value);
void spin();

// Barrier `id` of the block among `threads` threads, which come as whole warps.
void barrier(int id, int threads, bool waits, Site site);

// All threads of all blocks of the cluster arrive, or wait for that.
void cluster_barrier(bool arrives, bool waits, Site site);
int rank();  // of this block in its cluster

void mbarrier_init(std::uint64_t* word, unsigned arrivals);
void mbarrier_arrive(std::uint64_t* word, std::int64_t bytes);
void mbarrier_arrive_in(int rank, std::uint64_t* word);  // the barrier at that place of another block
void mbarrier_wait(std::uint64_t* word, unsigned parity, Site site);
bool mbarrier_passed(std::uint64_t* word, unsigned parity);

// cp.async: `bytes` of `size` are read, the rest becomes zero.
void copy_async(void* smem, const void* global, int bytes, int size);
void copy_commit();
void copy_wait(int pending);

// TMA: tiles of `axes` axes through a map (emulator/__init__.py encodes it), contiguous bytes without
// one; a tile may go to several blocks of the cluster.
void load_tile(void* smem, const TensorMap* map, std::uint64_t* word, int axes, const int* corner);
void load_tile_in(unsigned ranks, void* smem, const TensorMap* map, std::uint64_t* word, int axes,
                  const int* corner);
void load_bytes(void* smem, const void* global, unsigned bytes, std::uint64_t* word);
void store_tile(const TensorMap* map, const void* smem, int axes, const int* corner);
void store_bytes(void* global, const void* smem, unsigned bytes);
void store_commit();
void store_wait(int pending);

// Matrix instructions of a warp; `Format` says what the 16-bit halves of operands are.
enum class Format { kBf16, kF16 };
void load_matrices(std::uint32_t* r, const void* row, int count, bool transposed, Site site);
void store_matrices(void* row, const std::uint32_t* r, int count, bool transposed, Site site);
void mma_16x8x16(Format format, float* d, const std::uint32_t* a, const std::uint32_t* b, Site site);
void mma_tf32(int depth, float* d, const float* a, const float* b, Site site);

// A warp's 16 rows of a warpgroup's product of 64 x 2 count x 16; `a_registers` or descriptor `a`.
struct Product {
    Format format;
    int count;
    const std::uint32_t* a_registers;
    std::uint64_t a, b;
    bool accumulate, transposed_a, transposed_b;
};
void wgmma(float* d, const Product& product, Site site);
void wgmma_commit(Site site);
void wgmma_wait(int pending, Site site);

// One kernel over a grid, block by block. Returns null, or what was wrong.
struct Launch {
    int grid[3];
    int threads, smem, cluster;
    int threads_down, blocks_down;  // highest index first: what is missing shows in one direction
};
using Kernel = void (*)(const void* problem, const TensorMap* maps);
const char* launch(const Launch& launch, Kernel kernel, const void* problem, const TensorMap* maps);

}  // namespace emulator
