// Matrix instructions of warps and warpgroups: see block.hpp.
#include "late.hpp"

#include <cmath>
#include <map>

namespace emulator {
namespace {

// A warp's part of a product in flight.
struct Issued {
    Product product;
    int row;  // of the warpgroup's 64
    bool first;  // nothing before it is in flight on these accumulators
    float* d[32];
    float a[16][16];
    std::vector<float> saved;  // what the accumulators held, [lane][count]
};

struct Warp {
    Groups<Issued> products;
    std::map<const float*, int> in_flight;  // by lane 0's accumulators
};

std::vector<Warp> warps;

}  // namespace

void forget_products(int threads) { warps.assign(threads / 32, {}); }

void no_products_left() {
    for (const Warp& one : warps)
        if (!one.products.empty()) fail("a product that nobody waited for");
}

// ---------------------------------------------------------------- matrices of a warp
// Layouts as the PTX ISA draws them (9.7.14); g = lane / 4, t = lane % 4.

namespace {

float widen(Format format, u32 bits) {
    return format == Format::kF16 ? from_f16(static_cast<u16>(bits))
                                  : from_bf16(static_cast<u16>(bits));
}

// a: (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8), pairs along k.
void unpack_a(Format format, int lane, const u32* a, float (&out)[16][16]) {
    for (int i = 0; i < 4; ++i)
        for (int half = 0; half < 2; ++half)
            out[lane / 4 + 8 * (i % 2)][lane % 4 * 2 + 8 * (i / 2) + half] =
                widen(format, a[i] >> 16 * half);
}

struct Rows {
    u32* r;
    u8* row;
    int count;
    bool transposed, stores;
};

// Matrix m's row i is at lane 8 m + i's address; lane holds (lane / 4, 2 (lane % 4) + 0, 1).
void move_matrices(void** lanes) {
    const Rows& all = *static_cast<Rows*>(lanes[0]);
    for (int m = 0; m < all.count; ++m)
        for (int lane = 0; lane < 32; ++lane) {
            u32& word = static_cast<Rows*>(lanes[lane])->r[m];
            u16 pair[2] = {static_cast<u16>(word), static_cast<u16>(word >> 16)};
            for (int i = 0; i < 2; ++i) {
                const int across = lane % 4 * 2 + i;
                const int row = all.transposed ? across : lane / 4;
                const int column = all.transposed ? lane / 4 : across;
                u8* at = static_cast<Rows*>(lanes[8 * m + row])->row + 2 * column;
                if (all.stores) std::memcpy(at, &pair[i], 2);
                else std::memcpy(&pair[i], at, 2);
            }
            if (!all.stores) word = pair[0] | static_cast<u32>(pair[1]) << 16;
        }
}

void check_row(const void* row) {
    if (smem_address(row) % 16 || smem_address(row) >= kSharedBytes)
        fail("a matrix row is misaligned or outside shared memory");
}

}  // namespace

void load_matrices(u32* r, const void* row, int count, bool transposed, Site site) {
    Rows mine{r, static_cast<u8*>(const_cast<void*>(row)), count, transposed, false};
    if (lane() < 8 * count) check_row(row);
    meet("ldmatrix", kAll, site, &mine, move_matrices);
}

void store_matrices(void* row, const u32* r, int count, bool transposed, Site site) {
    Rows mine{const_cast<u32*>(r), static_cast<u8*>(row), count, transposed, true};
    if (lane() < 8 * count) check_row(row);
    meet("stmatrix", kAll, site, &mine, move_matrices);
}

void mma_16x8x16(Format format, float* d, const u32* a, const u32* b, Site site) {
    struct Operands {
        Format format;
        float* d;
        const u32 *a, *b;
    } mine{format, d, a, b};
    meet("mma.m16n8k16", kAll, site, &mine, [](void** lanes) {
        float A[16][16], B[8][16];
        for (int lane = 0; lane < 32; ++lane) {
            const Operands& x = *static_cast<Operands*>(lanes[lane]);
            unpack_a(x.format, lane, x.a, A);
            for (int i = 0; i < 4; ++i)  // b: (2t, g) (2t+8, g)
                B[lane / 4][lane % 4 * 2 + 8 * (i / 2) + i % 2] =
                    widen(x.format, x.b[i / 2] >> 16 * (i % 2));
        }
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i) {
                float sum = 0.f;
                for (int k = 0; k < 16; ++k)
                    sum += A[lane / 4 + 8 * (i / 2)][k] * B[lane % 4 * 2 + i % 2][k];
                static_cast<Operands*>(lanes[lane])->d[i] += sum;
            }
    });
}

// a[i] holds row g + 8 (i % 2) of column t + 4 (i / 2), b[i] row t + 4 i of column g; of each value
// the upper 19 bits count.
void mma_tf32(int depth, float* d, const float* a, const float* b, Site site) {
    struct Operands {
        int depth;
        float* d;
        const float *a, *b;
    } mine{depth, d, a, b};
    meet("mma.tf32", kAll, site, &mine, [](void** lanes) {
        const auto at = [&](int lane) -> Operands& { return *static_cast<Operands*>(lanes[lane]); };
        const auto tf32 = [](float x) {
            return __uint_as_float(__float_as_uint(x) & 0xffffe000u);
        };
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i) {
                const int row = lane / 4 * 4, column = (lane % 4 * 2 + i % 2) * 4;
                for (int k = 0; k < at(0).depth; ++k)
                    at(lane).d[i] += tf32(at(row + k % 4).a[k / 4 * 2 + i / 2]) *
                                     tf32(at(column + k % 4).b[k / 4]);
            }
    });
}

// ---------------------------------------------------------------- products of a warpgroup

namespace {

// PTX ISA 9.7.15.5.1: 8 rows of 128 bytes are a swizzle atom.
struct Descriptor {
    u32 start, leading, stride;

    explicit Descriptor(u64 bits)
        : start((bits & 0x3fff) << 4), leading((bits >> 16 & 0x3fff) << 4),
          stride((bits >> 32 & 0x3fff) << 4) {
        if (bits >> 62 != 1) fail("only the 128-byte swizzle is emulated");
    }
    u16 at(int mn, int k, bool transposed) const {
        const u32 offset = transposed
                               ? mn / 64 * leading + k / 8 * stride + k % 8 * 128 + mn % 64 * 2
                               : mn / 8 * stride + mn % 8 * 128 + k * 2;
        u16 value;
        std::memcpy(&value, shared_bytes + swizzled(start + offset, 3), 2);
        return value;
    }
};

struct Issue {
    float* d;
    const Product* product;
};

void issue(void** lanes) {
    Issue* all[32];
    for (int i = 0; i < 32; ++i) all[i] = static_cast<Issue*>(lanes[i]);
    Warp& w = warps[thread() / 32];
    Issued it{*all[0]->product, thread_in_block() / 32 % 4 * 16, w.in_flight[all[0]->d]++ == 0, {}, {}, {}};
    const int count = it.product.count;
    it.saved.resize(32 * count);
    for (int lane = 0; lane < 32; ++lane) {
        it.d[lane] = all[lane]->d;
        std::memcpy(&it.saved[lane * count], it.d[lane], count * sizeof(float));
        std::fill_n(it.d[lane], count, NAN);
        if (it.product.a_registers)
            unpack_a(it.product.format, lane, all[lane]->product->a_registers, it.a);
    }
    w.products.open.push_back(std::move(it));
}

void finish(Issued& it) {
    const Product& p = it.product;
    static float B[256][16];
    const Descriptor db(p.b);
    for (int n = 0; n < 2 * p.count; ++n)
        for (int k = 0; k < 16; ++k) B[n][k] = widen(p.format, db.at(n, k, p.transposed_b));
    for (int r = 0; r < 16 && !p.a_registers; ++r)
        for (int k = 0; k < 16; ++k)
            it.a[r][k] = widen(p.format, Descriptor(p.a).at(it.row + r, k, p.transposed_a));
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < p.count; ++i) {
            const float* a = it.a[lane / 4 + 8 * (i % 4 / 2)];
            const float* b = B[i / 4 * 8 + lane % 4 * 2 + i % 2];
            float* out = &it.d[lane][i];
            float sum = 0.f;
            for (int k = 0; k < 16; ++k) sum += a[k] * b[k];
            const float before = it.first ? it.saved[lane * p.count + i] : *out;
            *out = p.accumulate ? before + sum : sum;
        }
    --warps[thread() / 32].in_flight[it.d[0]];
}

}  // namespace

void wgmma(float* d, const Product& product, Site site) {
    Issue mine{d, &product};
    meet("wgmma", kAll, site, &mine, issue);
}

void wgmma_commit(Site site) {
    meet("wgmma.commit_group", kAll, site, nullptr,
         [](void**) { warps[thread() / 32].products.commit(); });
}

void wgmma_wait(int pending, Site site) {
    meet("wgmma.wait_group", kAll, site, &pending, [](void** lanes) {
        warps[thread() / 32].products.wait(*static_cast<int*>(lanes[0]), finish);
    });
}

}  // namespace emulator
