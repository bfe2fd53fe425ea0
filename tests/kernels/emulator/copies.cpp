// cp.async and the copies of TMA: see block.hpp.
#include "late.hpp"

namespace emulator {
namespace {

struct Copy {
    void* to;
    const void* from;
    int bytes, size;
};

// A tile through a map, or (`global`) contiguous bytes.
struct Tile {
    TensorMap map;
    u8* smem;
    int corner[4];
    u8* global;
    u32 bytes;
    u64* word;
};

std::vector<Groups<Copy>> copies;  // by thread
std::vector<Groups<Tile>> stores;
std::deque<Tile> on_their_way;

// The fields of a map as emulator/__init__.py encodes it, innermost axis first.
struct Layout {
    u8* base;
    int rank, element;
    u64 swizzle, size[4], stride[4], box[4];

    explicit Layout(const TensorMap& map)
        : base(reinterpret_cast<u8*>(map.opaque[0])), rank(map.opaque[1] & 0xff),
          element(map.opaque[1] >> 8 & 0xff), swizzle(map.opaque[1] >> 16) {
        for (int i = 0; i < 4; ++i) {
            size[i] = map.opaque[2 + i];
            stride[i] = i ? map.opaque[5 + i] : element;
            box[i] = map.opaque[9 + i];
        }
    }
    u32 bytes() const { return element * box[0] * box[1] * box[2] * box[3]; }
    // Calls visit(shared memory, device memory or null where outside) for every element.
    template <typename Visit>
    void each(const u8* smem, const int* corner, Visit visit) const {
        u32 address = smem_address(smem);
        for (u64 d = 0; d < box[3]; ++d)
            for (u64 c = 0; c < box[2]; ++c)
                for (u64 b = 0; b < box[1]; ++b)
                    for (u64 a = 0; a < box[0]; ++a, address += element) {
                        const u64 at[4] = {corner[0] + a, corner[1] + b, corner[2] + c,
                                           corner[3] + d};  // a negative one is a large one
                        u8* global = base;
                        for (int i = 0; i < 4; ++i)
                            global = global && at[i] < size[i] ? global + at[i] * stride[i]
                                                               : nullptr;
                        visit(shared_bytes + swizzled(address, swizzle), global);
                    }
    }
};

Tile tile_of(void* smem, const TensorMap* map, int rank, const int* corner, u64* word) {
    const Layout layout(*map);
    if (layout.rank != rank) fail("a map of %d axes, a copy of %d", layout.rank, rank);
    if (smem_address(smem) % (layout.swizzle ? 1024 : 128)) fail("a tile is misplaced");
    Tile tile{*map, static_cast<u8*>(smem), {}, nullptr, layout.bytes(), word};
    for (int i = 0; i < rank; ++i) tile.corner[i] = corner[i];
    return tile;
}

Tile bytes_of(void* smem, const void* global, u32 bytes, u64* word) {
    if (smem_address(smem) % 16 || reinterpret_cast<std::uintptr_t>(global) % 16 || bytes % 16)
        fail("a bulk copy of %u bytes is misaligned", bytes);
    u8* there = static_cast<u8*>(const_cast<void*>(global));
    return {{}, static_cast<u8*>(smem), {}, there, bytes, word};
}

void arrive(const Tile& t) {
    if (t.global) std::memcpy(t.smem, t.global, t.bytes);
    const Layout layout(t.map);
    if (!t.global)
        layout.each(t.smem, t.corner, [&](u8* here, const u8* there) {
            if (there) std::memcpy(here, there, layout.element);
            else std::memset(here, 0, layout.element);
        });
    mbarrier_complete(t.word, t.bytes);
}

void leave(const Tile& t) {
    if (t.global) std::memcpy(t.global, t.smem, t.bytes);
    const Layout layout(t.map);
    if (!t.global)
        layout.each(t.smem, t.corner, [&](const u8* here, u8* there) {
            if (there) std::memcpy(there, here, layout.element);
        });
}

void send(const Tile& t) {
    std::memset(t.smem, 0xff, t.bytes);
    on_their_way.push_back(t);
}

}  // namespace

void forget_copies(int threads) {
    copies.assign(threads, {});
    stores.assign(threads, {});
    on_their_way.clear();
}

bool deliver_one(bool newest) {
    if (on_their_way.empty()) return false;
    const Tile tile = newest ? on_their_way.back() : on_their_way.front();
    if (newest) on_their_way.pop_back();
    else on_their_way.pop_front();
    arrive(tile);
    return true;
}

void no_copies_left() {
    if (!on_their_way.empty()) fail("the block ended before its copies arrived");
    for (const auto& one : stores)
        if (!one.empty()) fail("a store that nobody waited for");
}

void copy_async(void* smem, const void* global, int bytes, int size) {
    const auto misaligned = [size](const void* p) {
        return reinterpret_cast<std::uintptr_t>(p) % size != 0;
    };
    if (misaligned(smem) || (bytes > 0 && misaligned(global)))
        fail("a cp.async of %d bytes is misaligned", size);
    std::memset(smem, 0xff, size);
    copies[thread()].open.push_back({smem, global, bytes, size});
}

void copy_commit() { copies[thread()].commit(); }

void copy_wait(int pending) {
    copies[thread()].wait(pending, [](const Copy& c) {
        std::memset(c.to, 0, c.size);
        if (c.bytes) std::memcpy(c.to, c.from, c.bytes);
    });
}

void load_tile(void* smem, const TensorMap* map, u64* word, int rank, const int* corner) {
    send(tile_of(smem, map, rank, corner, word));
}

void load_bytes(void* smem, const void* global, unsigned bytes, u64* word) {
    send(bytes_of(smem, global, bytes, word));
}

// A store reads shared memory when it is waited for; elements outside are left as they are.
void store_tile(const TensorMap* map, const void* smem, int rank, const int* corner) {
    stores[thread()].open.push_back(
        tile_of(const_cast<void*>(smem), map, rank, corner, nullptr));
}

void store_bytes(void* global, const void* smem, unsigned bytes) {
    stores[thread()].open.push_back(bytes_of(const_cast<void*>(smem), global, bytes, nullptr));
}

void store_commit() { stores[thread()].commit(); }

void store_wait(int pending) { stores[thread()].wait(pending, leave); }

}  // namespace emulator
