// Threads and barriers of the emulated block: see block.hpp. What is late is in copies.cpp and
// products.cpp.
#include "block.hpp"

#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ucontext.h>

#include "late.hpp"

dim3 threadIdx, blockIdx, blockDim, gridDim;
alignas(1024) unsigned char shared_bytes[emulator::kSharedBytes];

namespace emulator {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr int kIdleRounds = 10'000;  // in which threads only poll, until they count as stuck
constexpr u64 kMBarrierMark = 0x6d62'6172'7269'6572;

struct Thread {
    jmp_buf context;
    bool started = false, done = false, polls = false;
    const u32* word = nullptr;  // waits while *word == value
    u32 value = 0;
    u32 met = 0;  // meetings of its warp that took place
    u32 entered = 0;  // the cluster barrier's generation when it arrived there
    const char* what = "";
    Site site{};
};

struct Meeting {
    unsigned mask, arrived;
    const char* what;
    Site site;
    void* lanes[32];
};

struct Warp {
    std::vector<Meeting> meetings;  // of disjoint masks
    unsigned ended = 0;
};

struct Barrier {
    int arrived = 0, threads = 0;
    u32 generation = 0;
};

struct MBarrier {
    int expected, pending;
    std::int64_t bytes;
    u32 phase;
};

struct Block {
    dim3 index;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    Barrier barriers[16];
    std::map<const u64*, MBarrier> mbarriers;
    std::vector<u8> memory;  // shared memory while another block of the cluster has its turn
};

std::vector<Block> cluster;
Barrier of_cluster;
std::vector<std::unique_ptr<char[]>> stacks;
jmp_buf scheduler, caller;
int turn;     // whose turn it is in the cluster
int current;  // thread of that block
bool downwards;
std::string message;
struct {
    Kernel kernel;
    const void* problem;
    const TensorMap* maps;
} body;

Block& block() { return cluster[turn]; }
Thread& self() { return block().threads[current]; }
Warp& warp() { return block().warps[current / 32]; }

// Gives the turn to a block: its index and its shared memory are the ones that kernels see.
void enter_block(int rank) {
    if (rank != turn) {
        block().memory.assign(shared_bytes, shared_bytes + kSharedBytes);
        std::memcpy(shared_bytes, cluster[rank].memory.data(), kSharedBytes);
    }
    turn = rank;
    blockIdx = block().index;
}

std::string place(const char* what, Site site) {
    if (!site.file) return what;
    const char* cuda = std::strstr(site.file, "cuda/");
    return std::string(what) + " (" + (cuda ? cuda + 5 : site.file) + ":" +
           std::to_string(site.line) + ")";
}

// ---------------------------------------------------------------- coroutines
// A stack is made once by makecontext; switches save registers only, without system calls.

void to_scheduler() {
    if (_setjmp(self().context) == 0) _longjmp(scheduler, 1);
}

void enter() {
    body.kernel(body.problem, body.maps);
    for (const Meeting& m : warp().meetings)
        if (m.mask >> lane() & 1)
            fail("thread %d has ended; lanes %08x of its warp wait for it at %s", current,
                 m.arrived, place(m.what, m.site).c_str());
    warp().ended |= 1u << lane();
    self().done = true;
    _longjmp(scheduler, 1);
}

void resume(int thread) {
    current = thread;
    threadIdx.x = static_cast<unsigned>(thread);
    if (_setjmp(scheduler)) return;
    if (self().started) _longjmp(self().context, 1);
    self().started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks[emulator::thread()].get();
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, enter, 0);
    setcontext(&context);
}

std::string where_all_wait() {
    std::map<std::string, std::vector<int>> at;
    int index = 0;
    for (const Block& b : cluster)
        for (const Thread& t : b.threads) {
            if (!t.done) at[place(t.what, t.site)].push_back(index);
            ++index;
        }
    std::string all;
    for (const auto& [where, threads] : at)
        all += "; " + std::to_string(threads.size()) + " threads of " +
               std::to_string(threads.front()) + " .. " + std::to_string(threads.back()) + " at " +
               where;
    return all;
}

// Runs every thread of the block that can go on once; true if one did more than poll.
bool round(bool& polled, int& left) {
    const int threads = static_cast<int>(block().threads.size());
    bool moved = false;
    for (int k = 0; k < threads; ++k) {
        const int i = downwards ? threads - 1 - k : k;
        Thread& t = block().threads[i];
        if (t.done || (t.word && *t.word == t.value)) continue;
        t.word = nullptr;
        t.polls = false;
        resume(i);
        (t.polls ? polled : moved) = true;
        left -= t.done;
    }
    return moved;
}

void start_cluster(int size, int threads, dim3 first) {
    cluster.assign(size, Block{});
    of_cluster = Barrier{};
    turn = 0;
    for (Block& b : cluster) {
        b.index = first;
        ++first.x;
        b.threads.resize(threads);
        b.warps.resize(threads / 32);
        if (size > 1) b.memory.assign(kSharedBytes, 0xff);
    }
    forget_copies(size, size * threads);
    forget_products(size * threads);
    while (static_cast<int>(stacks.size()) < size * threads)
        stacks.emplace_back(new char[kStackBytes]);
    std::memset(shared_bytes, 0xff, kSharedBytes);
}

// A block has its turn until none of its threads can go on.
void run_cluster(int size, int threads, int smem, dim3 first) {
    start_cluster(size, threads, first);
    for (int left = size * threads, idle = 0; left > 0;) {
        bool moved = false, polled = false;
        for (int rank = 0; rank < size; ++rank) {
            enter_block(rank);
            while (round(polled, left)) moved = true;
        }
        idle = moved ? 0 : idle + 1;
        for (int rank = 0; rank < size && !moved; ++rank) {
            enter_block(rank);
            moved = deliver_one(downwards);
        }
        if (!moved && left && (!polled || idle > kIdleRounds))
            fail("nobody can go on%s", where_all_wait().c_str());
    }
    no_copies_left();
    no_products_left();
    for (int rank = 0; rank < size; ++rank) {
        enter_block(rank);
        for (std::size_t i = smem; i < kSharedBytes; ++i)
            if (shared_bytes[i] != 0xff)
                fail("byte %zu of shared memory was written, %d were asked for", i, smem);
    }
}

}  // namespace

void fail(const char* format, ...) {
    char text[2000];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    message = "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
              std::to_string(blockIdx.z) + "): " + text;
    _longjmp(caller, 1);
}

const char* launch(const Launch& l, Kernel kernel, const void* problem, const TensorMap* maps) {
    if (_setjmp(caller)) return message.c_str();
    const unsigned x = l.grid[0], y = l.grid[1], z = l.grid[2];
    body = {kernel, problem, maps};
    gridDim = {x, y, z}, blockDim = {static_cast<unsigned>(l.threads), 1, 1};
    downwards = l.threads_down;
    const unsigned size = l.cluster;
    if (l.threads % 32) fail("%d threads are no whole warps", l.threads);
    if (x % size) fail("%u blocks are no whole clusters of %u", x, size);
    for (unsigned k = 0; k < z; ++k)
        for (unsigned j = 0; j < y; ++j)
            for (unsigned i = 0; i < x; i += size)
                run_cluster(l.cluster, l.threads, l.smem, {l.blocks_down ? x - size - i : i, j, k});
    return nullptr;
}

// ---------------------------------------------------------------- who waits for whom

int rank() { return turn; }
int thread_in_block() { return current; }
int thread() { return turn * static_cast<int>(block().threads.size()) + current; }
int lane() { return current % 32; }

void wait_while(const char* what, Site site, const u32* word, u32 value) {
    if (*word != value) return;
    Thread& t = self();
    t.word = word, t.value = value, t.what = what, t.site = site;
    to_scheduler();
}

void spin() {
    Thread& t = self();
    t.polls = true, t.what = "a poll", t.site = {};
    to_scheduler();
}

void meet(const char* what, unsigned mask, Site site, void* mine, Work work) {
    Warp& w = warp();
    const unsigned bit = 1u << lane();
    const auto here = [=] { return place(what, site); };
    if (!(mask & bit)) fail("lane %d at %s is not in the mask %08x", lane(), here().c_str(), mask);
    if (mask & w.ended)
        fail("%s waits for lanes %08x, which have ended", here().c_str(), mask & w.ended);
    auto m = w.meetings.begin();
    while (m != w.meetings.end() && !(m->mask & mask)) ++m;
    if (m == w.meetings.end()) m = w.meetings.insert(m, Meeting{mask, 0, what, site, {}});
    if (m->mask != mask || m->site.line != site.line || std::strcmp(m->what, what) != 0 ||
        std::strcmp(m->site.file, site.file) != 0)
        fail("warp %d is divided: lanes %08x wait at %s for %08x, lane %d comes to %s for %08x",
             current / 32, m->arrived, place(m->what, m->site).c_str(), m->mask, lane(),
             here().c_str(), mask);
    m->lanes[lane()] = mine;
    m->arrived |= bit;
    if (m->arrived != mask) {
        wait_while(what, site, &self().met, self().met);
        return;
    }
    Meeting all = *m;
    w.meetings.erase(m);
    if (work) work(all.lanes);
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1) ++block().threads[current / 32 * 32 + i].met;
}

void barrier(int id, int threads, bool waits, Site site) {
    struct Arrival {
        int id, threads;
        u32 generation;
    } mine{id, threads, 0};
    const char* what = id == 0 ? "__syncthreads" : waits ? "bar.sync" : "bar.arrive";
    if (id < 0 || id > 15 || threads % 32) fail("no barrier: %d of %d threads", id, threads);
    meet(what, kAll, site, &mine, [](void** lanes) {
        const Arrival first = *static_cast<Arrival*>(lanes[0]);
        Barrier& b = block().barriers[first.id];
        for (int i = 0; i < 32; ++i) {
            Arrival& one = *static_cast<Arrival*>(lanes[i]);
            if (one.id != first.id || one.threads != first.threads)
                fail("lanes of a warp arrive at barriers %d and %d", first.id, one.id);
            one.generation = b.generation;
        }
        if (b.arrived && b.threads != first.threads)
            fail("barrier %d takes %d threads for one, %d for another", first.id, b.threads,
                 first.threads);
        b.threads = first.threads;
        b.arrived += 32;
        if (b.arrived > b.threads) fail("more arrivals at barrier %d than it takes", first.id);
        if (b.arrived == b.threads) {
            b.arrived = 0;
            ++b.generation;
        }
    });
    if (waits) wait_while(what, site, &block().barriers[id].generation, mine.generation);
}

void cluster_barrier(bool arrives, bool waits, Site site) {
    if (arrives) {
        self().entered = of_cluster.generation;
        meet("barrier.cluster", kAll, site, nullptr, [](void**) {
            of_cluster.arrived += 32;
            if (of_cluster.arrived < static_cast<int>(cluster.size() * block().threads.size())) return;
            of_cluster.arrived = 0;
            ++of_cluster.generation;
        });
    }
    if (waits) wait_while("barrier.cluster", site, &of_cluster.generation, self().entered);
}

u8* memory_in(int rank, void* smem) {
    if (rank == turn) return static_cast<u8*>(smem);
    return cluster[rank].memory.data() + smem_address(smem);
}

// ---------------------------------------------------------------- mbarriers

namespace {

MBarrier& find(u64* word, int rank = turn) {
    auto& known = cluster[rank].mbarriers;
    const auto found = known.find(word);
    if (found == known.end()) fail("an mbarrier that was never initialised");
    u64 there;
    std::memcpy(&there, memory_in(rank, word), sizeof there);
    if (there != kMBarrierMark) fail("an mbarrier was overwritten");
    return found->second;
}

void settle(MBarrier& b) {
    if (b.pending < 0) fail("more arrivals at an mbarrier than it takes");
    if (b.pending || b.bytes) return;
    b.phase ^= 1;
    b.pending = b.expected;
}

}  // namespace

void mbarrier_init(u64* word, unsigned arrivals) {
    const int count = static_cast<int>(arrivals);
    block().mbarriers[word] = {count, count, 0, 0};
    *word = kMBarrierMark;
}

void mbarrier_arrive(u64* word, std::int64_t bytes) {
    MBarrier& b = find(word);
    b.bytes += bytes;
    --b.pending;
    settle(b);
}

void mbarrier_arrive_in(int rank, u64* word) {
    if (rank >= static_cast<int>(cluster.size())) fail("the cluster has no block %d", rank);
    MBarrier& b = find(word, rank);
    --b.pending;
    settle(b);
}

void mbarrier_complete(u64* word, std::int64_t bytes) {
    MBarrier& b = find(word);
    b.bytes -= bytes;
    settle(b);
}

void mbarrier_wait(u64* word, unsigned parity, Site site) {
    wait_while("an mbarrier", site, &find(word).phase, parity);
}

bool mbarrier_passed(u64* word, unsigned parity) {
    if (find(word).phase == parity) spin();
    return find(word).phase != parity;
}

}  // namespace emulator
