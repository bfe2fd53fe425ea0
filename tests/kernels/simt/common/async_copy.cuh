// Stands in for cuda/common/async_copy.cuh: copies land when the thread waits for them, not before.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void queue_copy(void* to, const void* from, int bytes, int total) {
    const auto aligned = [total](const void* p) {
        return reinterpret_cast<std::uintptr_t>(p) % total == 0;
    };
    if (!aligned(to) || (bytes > 0 && !aligned(from))) {
        fprintf(stderr, "misaligned cp.async of %d bytes\n", total);
        abort();
    }
    simt::now->copies.push_back({to, from, bytes, total, simt::now->group});
}
inline void copy_async_16(void* to, const void* from, bool valid = true) {
    queue_copy(to, from, valid ? 16 : 0, 16);
}
inline void copy_async_partial(void* to, const void* from, u32 bytes) {
    queue_copy(to, from, static_cast<int>(bytes), 16);
}
inline void copy_async_4(void* to, const void* from, bool valid = true) {
    queue_copy(to, from, valid ? 4 : 0, 4);
}
inline void copy_async_commit() { ++simt::now->group; }
template <int Pending>
void copy_async_wait() { simt::finish_copies(Pending); }
inline void copy_async_wait_all() { copy_async_commit(), simt::finish_copies(0); }

}  // namespace ptx
