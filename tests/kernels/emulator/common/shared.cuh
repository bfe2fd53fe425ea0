// Stands in for cuda/common/shared.cuh: an address is a pointer.
#pragma once
#include "common/async_copy.cuh"

namespace ptx {

struct Shared {
    u8* address;
    Shared operator+(int bytes) const { return {address + bytes}; }
};

inline Shared shared_at(const void* place) {
    return {const_cast<u8*>(static_cast<const u8*>(place))};
}
inline Shared pinned(Shared at, Site site = Site::here()) {
    emulator::meet("pinned", kFullMask, site);
    return at;
}

template <typename T>
T& shared_word(Shared at) {
    if (smem_address(at.address) % sizeof(T))
        emulator::fail("an access of %zu bytes of shared memory is misaligned", sizeof(T));
    return *reinterpret_cast<T*>(at.address);
}
inline u32 load_4(Shared at) { return shared_word<u32>(at); }
inline uint2 load_8(Shared at) { return shared_word<uint2>(at); }
inline uint4 load_16(Shared at) { return shared_word<uint4>(at); }
inline float4 load_floats(Shared at) { return shared_word<float4>(at); }
inline void store_2(Shared at, u16 x) { shared_word<u16>(at) = x; }
inline void store_16(Shared at, uint4 x) { shared_word<uint4>(at) = x; }
inline void store_16(Shared at, float4 x) { shared_word<float4>(at) = x; }

inline void copy_async_16(Shared to, const void* global, bool valid, bool) {
    copy_async_16(to.address, global, valid);
}
inline void copy_async_16_once(Shared to, const void* global, bool valid) {
    copy_async_16(to.address, global, valid);
}

}  // namespace ptx
