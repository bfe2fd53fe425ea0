// cp.async and the copies of TMA: see block.hpp.
#include "late.hpp"

namespace emulator {
namespace {

struct Copy {
    void* to;
    const void* from;
    int bytes, size;
};

// A tile through a map or (`global`) contiguous bytes.
struct Tile {
    TensorMap map;
    u8* smem;
    int corner[5];
    u8* global;
    u32 bytes;
    u64* word;
};

std::vector<Groups<Copy>> copies;  // by thread
std::vector<Groups<Tile>> stores;
std::vector<std::deque<Tile>> on_their_way;  // by block

// The fields of a map as emulator/__init__.py encodes it, innermost axis first.
struct Layout {
    u8* base;
    int axes, element;
    u64 swizzle, size[5], stride[5], box[5];

    explicit Layout(const TensorMap& map)
        : base(reinterpret_cast<u8*>(map.opaque[0])), axes(map.opaque[1] & 0xff),
          element(map.opaque[1] >> 8 & 0xff), swizzle(map.opaque[1] >> 16) {
        for (int i = 0; i < 5; ++i) {
            size[i] = map.opaque[2 + i];
            stride[i] = i ? map.opaque[6 + i] : element;
            box[i] = map.opaque[11 + i];
        }
    }
    u32 elements() const { return box[0] * box[1] * box[2] * box[3] * box[4]; }
    // Calls visit(shared memory, device memory or null where outside) for every element.
    template <typename Visit>
    void each(const u8* smem, const int* corner, Visit visit) const {
        const u32 start = smem_address(smem);
        for (u32 n = 0; n < elements(); ++n) {
            u8* global = base;
            u64 rest = n;
            for (int i = 0; i < 5; rest /= box[i++]) {
                const u64 at = corner[i] + rest % box[i];  // a negative one is a large one
                global = global && at < size[i] ? global + at * stride[i] : nullptr;
            }
            visit(shared_bytes + swizzled(start + n * element, swizzle), global);
        }
    }
};

Tile tile_of(void* smem, const TensorMap* map, int axes, const int* corner, u64* word) {
    const Layout layout(*map);
    if (layout.axes != axes) fail("a map of %d axes, a copy of %d", layout.axes, axes);
    if (smem_address(smem) % (layout.swizzle ? 1024 : 128)) fail("a tile is misplaced");
    const u32 bytes = layout.elements() * layout.element;
    Tile tile{*map, static_cast<u8*>(smem), {}, nullptr, bytes, word};
    for (int i = 0; i < axes; ++i) tile.corner[i] = corner[i];
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

void send(int to, const Tile& t) {
    if (to >= static_cast<int>(on_their_way.size())) fail("the cluster has no block %d", to);
    std::memset(memory_in(to, t.smem), 0xff, t.bytes);
    on_their_way[to].push_back(t);
}

}  // namespace

void forget_copies(int blocks, int threads) {
    copies.assign(threads, {});
    stores.assign(threads, {});
    on_their_way.assign(blocks, {});
}

bool deliver_one(bool newest) {
    auto& queue = on_their_way[rank()];
    if (queue.empty()) return false;
    const Tile tile = newest ? queue.back() : queue.front();
    if (newest) queue.pop_back();
    else queue.pop_front();
    arrive(tile);
    return true;
}

void no_copies_left() {
    for (const auto& queue : on_their_way)
        if (!queue.empty()) fail("the block ended before its copies arrived");
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

void load_tile(void* smem, const TensorMap* map, u64* word, int axes, const int* corner) {
    send(rank(), tile_of(smem, map, axes, corner, word));
}

void load_tile_in(unsigned ranks, void* smem, const TensorMap* map, u64* word, int axes,
                  const int* corner) {
    for (int i = 0; ranks >> i; ++i)
        if (ranks >> i & 1) send(i, tile_of(smem, map, axes, corner, word));
}

void load_bytes(void* smem, const void* global, unsigned bytes, u64* word) {
    send(rank(), bytes_of(smem, global, bytes, word));
}

// A store reads shared memory when it is waited for; elements outside are left as they are.
void store_tile(const TensorMap* map, const void* smem, int axes, const int* corner) {
    stores[thread()].open.push_back(
        tile_of(const_cast<void*>(smem), map, axes, corner, nullptr));
}

void store_bytes(void* global, const void* smem, unsigned bytes) {
    stores[thread()].open.push_back(bytes_of(const_cast<void*>(smem), global, bytes, nullptr));
}

void store_commit() { stores[thread()].commit(); }

void store_wait(int pending) { stores[thread()].wait(pending, leave); }

}  // namespace emulator
