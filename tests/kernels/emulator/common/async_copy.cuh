// Stands in for cuda/common/async_copy.cuh: copies land when their thread waits for them.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void copy_async_16(void* smem, const void* global, bool valid = true) {
    emulator::copy_async(smem, global, valid ? 16 : 0, 16);
}
inline void copy_async_partial(void* smem, const void* global, u32 bytes) {
    emulator::copy_async(smem, global, static_cast<int>(bytes), 16);
}
inline void copy_async_4(void* smem, const void* global, bool valid = true) {
    emulator::copy_async(smem, global, valid ? 4 : 0, 4);
}
inline void copy_async_commit() { emulator::copy_commit(); }
template <int Pending>
void copy_async_wait() {
    emulator::copy_wait(Pending);
}
inline void copy_async_wait_all() {
    emulator::copy_commit();
    emulator::copy_wait(0);
}

}  // namespace ptx
