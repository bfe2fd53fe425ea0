// What the emulator's own files ask of one another.
#pragma once
#include <deque>
#include <vector>

#include "block.hpp"
#include "common/types.cuh"

namespace emulator {

int thread();           // in the cluster
int thread_in_block();
u8* memory_in(int rank, void* smem);  // the same place in another block
void mbarrier_complete(u64* word, std::int64_t bytes);

// Before a cluster; a bulk copy on its way to this block arrives, if there is one; after a cluster:
// fails where something was not waited for.
void forget_copies(int blocks, int threads);
void forget_products(int threads);
bool deliver_one(bool newest);
void no_copies_left();
void no_products_left();

// The 128-, 64- and 32-byte swizzles (modes 3, 2, 1): bits 4 up are mixed with bits 7 up.
inline u32 swizzled(u32 address, u64 mode) {
    const u32 mixed[4] = {0, 1, 3, 7};
    return address ^ (address >> 7 & mixed[mode]) << 4;
}

// Groups in the order of their commits; what is not committed yet is in none.
template <typename T>
struct Groups {
    std::vector<T> open;
    std::deque<std::vector<T>> committed;

    void commit() {
        committed.push_back(std::move(open));
        open.clear();
    }
    template <typename Do>
    void wait(int pending, Do finish) {
        for (; static_cast<int>(committed.size()) > pending; committed.pop_front())
            for (T& one : committed.front()) finish(one);
    }
    bool empty() const { return open.empty() && committed.empty(); }
};

}  // namespace emulator
