// Stands in for cuda/common/tma.cuh on the host: 16-bit tiles with the 128-byte swizzle.
#pragma once
#include "common/barrier.cuh"

namespace ptx {

// Bits 4-6 of an address in shared memory are mixed with bits 7-9.
inline u32 swizzle_128(u32 address) { return address ^ (address >> 7 & 7) << 4; }

enum class Evict { kNormal, kFirst, kLast };

// Into every block of the cluster whose bit is set, with the bytes counted by its own barrier.
inline void tma_load_4d_multicast(void* smem, const TensorMap* map, u64* barrier, u16 mask, int x,
                                  int y, int z, int w, Evict = Evict::kNormal) {
    const TensorMap m = *map;
    const int box[4] = {(int)m.opaque[8], (int)m.opaque[9], (int)m.opaque[10], (int)m.opaque[11]};
    const s64 corner[4] = {x, y, z, w};
    const u32 bytes = 2u * box[0] * box[1] * box[2] * box[3], base = smem_address(smem);
    if (base % 1024 || box[0] * 2 > 128) emulator::fail("a swizzled tile is misplaced");
    const auto copy = [=] {
        u32 element = 0;
        for (int d = 0; d < box[3]; ++d)
            for (int c = 0; c < box[2]; ++c)
                for (int b = 0; b < box[1]; ++b)
                    for (int a = 0; a < box[0]; ++a, ++element) {
                        const s64 at[4] = {corner[0] + a, corner[1] + b, corner[2] + c,
                                           corner[3] + d};
                        bool inside = true;
                        for (int i = 0; i < 4; ++i)
                            inside &= at[i] >= 0 && at[i] < (s64)m.opaque[1 + i];
                        u16 value = 0;
                        if (inside)
                            std::memcpy(&value,
                                        reinterpret_cast<const u8*>(m.opaque[0]) + at[0] * 2 +
                                            at[1] * m.opaque[5] + at[2] * m.opaque[6] +
                                            at[3] * m.opaque[7], 2);
                        std::memcpy(shared_bytes + swizzle_128(base + 2 * element), &value, 2);
                    }
        emulator::MBarrier& b = emulator::mbarrier(barrier);
        b.bytes -= bytes;
        emulator::settle(b);
    };
    for (int rank = 0; rank < static_cast<int>(emulator::cluster.blocks.size()); ++rank) {
        if (!(mask >> rank & 1)) continue;
        const bool own = rank == emulator::cluster.rank;
        std::memset(own ? shared_bytes + base : emulator::cluster.memory[rank].data() + base, 0xff,
                    bytes);
        emulator::block_of(rank).late.push_back({3, copy});
    }
}

inline void tma_load_4d(void* smem, const TensorMap* map, u64* barrier, int x, int y, int z,
                        int w, Evict = Evict::kNormal) {
    tma_load_4d_multicast(smem, map, barrier, 1 << emulator::cluster.rank, x, y, z, w);
}

// Contiguous bytes, as late as a tile.
inline void bulk_load(void* smem, const void* global, u32 bytes, u64* barrier) {
    if (smem_address(smem) % 16 || reinterpret_cast<std::uintptr_t>(global) % 16 || bytes % 16)
        emulator::fail("a bulk copy is misaligned");
    std::memset(smem, 0xff, bytes);
    emulator::block.late.push_back({3, [=] {
        std::memcpy(smem, global, bytes);
        emulator::MBarrier& b = emulator::mbarrier(barrier);
        b.bytes -= bytes;
        emulator::settle(b);
    }});
}

// Read from the sender's memory as late as it arrives in the other block's.
inline void bulk_send(void* smem, u32 bytes, u64* barrier, u32 rank) {
    const int from = emulator::cluster.rank;
    const u32 at = smem_address(smem);
    std::memset(emulator::cluster.memory[rank].data() + at, 0xff, bytes);
    emulator::block_of(rank).late.push_back({3, [=] {
        std::memcpy(shared_bytes + at, emulator::cluster.memory[from].data() + at, bytes);
        emulator::MBarrier& b = emulator::mbarrier(barrier);
        b.bytes -= bytes;
        emulator::settle(b);
    }});
}

// A store reads shared memory when it is waited for; elements outside are left as they are.
inline void tma_store_4d(const TensorMap* map, const void* smem, int x, int y, int z, int w,
                         Evict = Evict::kNormal) {
    const TensorMap m = *map;
    const int box[4] = {(int)m.opaque[8], (int)m.opaque[9], (int)m.opaque[10], (int)m.opaque[11]};
    const s64 corner[4] = {x, y, z, w};
    const u32 base = smem_address(smem);
    if (base % 1024 || box[0] * 2 > 128) emulator::fail("a swizzled tile is misplaced");
    emulator::self().open_stores.push_back([=] {
        for (u32 element = 0; element < 1u * box[0] * box[1] * box[2] * box[3]; ++element) {
            const s64 at[4] = {corner[0] + element % box[0],
                               corner[1] + element / box[0] % box[1],
                               corner[2] + element / (box[0] * box[1]) % box[2],
                               corner[3] + element / (box[0] * box[1] * box[2])};
            bool inside = true;
            for (int i = 0; i < 4; ++i) inside &= at[i] >= 0 && at[i] < (s64)m.opaque[1 + i];
            if (inside)
                std::memcpy(reinterpret_cast<u8*>(m.opaque[0]) + at[0] * 2 + at[1] * m.opaque[5] +
                                at[2] * m.opaque[6] + at[3] * m.opaque[7],
                            shared_bytes + swizzle_128(base + 2 * element), 2);
        }
    });
}

inline void bulk_commit() {
    emulator::Thread& t = emulator::self();
    t.stores.push_back(std::move(t.open_stores));
    t.open_stores.clear();
}

template <int Pending>
void bulk_wait_read() {
    emulator::Thread& t = emulator::self();
    while (static_cast<int>(t.stores.size()) > Pending) {
        for (const auto& store : t.stores.front()) store();
        t.stores.pop_front();
    }
}

template <int Pending>
void bulk_wait() {
    bulk_wait_read<Pending>();
}

}  // namespace ptx
