// Stands in for cuda/common/async_copy.cuh on the host: copies happen at the wait.
#pragma once
#include "common/types.cuh"

namespace ptx {

inline void copy_async_16(void* smem, const void* global, bool valid = true) {
    std::memset(smem, 0xff, 16);
    emulator::self().open.push_back([=] {
        if (valid) std::memcpy(smem, global, 16);
        else std::memset(smem, 0, 16);
    });
}

inline void copy_async_16_once(void* smem, const void* global, bool valid) {
    copy_async_16(smem, global, valid);
}

inline void copy_async_commit() {
    emulator::Thread& t = emulator::self();
    t.groups.push_back(std::move(t.open));
    t.open.clear();
}

template <int Pending>
void copy_async_wait() {
    emulator::Thread& t = emulator::self();
    while (static_cast<int>(t.groups.size()) > Pending) {
        for (const auto& copy : t.groups.front()) copy();
        t.groups.pop_front();
    }
}

inline void copy_async_wait_all() {
    copy_async_commit();
    copy_async_wait<0>();
}

}  // namespace ptx
