// Sigmoid weights from scores: w = 1 / (1 + 2^-y), y = scale log2(e) q . k + bias log2(e).
//
// With the usual bias of -log n a weight is about 1 / n, so it is the relative error of small
// weights that counts. tanh.approx has an absolute error of about 2^-11 near -1, which is larger
// than 1 / n from n = 4096 on: w = 0.5 + 0.5 tanh(x / 2) then has no correct digit. So the launcher
// chooses by the bias, e = 2^y; each form computes any weight right, but not as fast:
//
//   FORM_SMALL     a bias far below 0, the usual one from n = 2981 on. Per warp and block of its
//                  scores: all e < 2^-6: w = e / (1 + e) = e - e^2 + ..., cut after the second term
//                  (at most e^2 = 2^-12 is lost relative to w), and where all e < 2^-8 (fp16: 2^-11)
//                  after the first (e). Pairs are packed to 16 bits first: then the bounds are
//                  tested for four, and e - e^2 computed for two, by one instruction. Where a score
//                  is too large, w from the e that are there: e S(e) if all e < 2^-2 (fp16: 2^-3),
//                  else e / (1 + e).
//   FORM_MODEST    a bias below 0 where e is seldom that small: w = e S(e) at once, and e / (1 + e)
//                  where some e is above S's bound.
//   FORM_BALANCED  bf16 and a bias near 0 or above: weights are large as a rule, and an absolute
//                  error is as good as a relative one. w = 0.5 + 0.5 tanh(x / 2), off by 2^-12 at
//                  most, if the weights of a row add up to a sixteenth of its keys or more: then
//                  all errors of the row together are at most 2^-8 of its weights, as large as one
//                  rounding to bf16. The sum over 8 of every 32 columns bounds theirs from below.
//                  Where it is too small in any row, the scheduler hands the tile out again
//                  (Work::careful), for the general form.
//   FORM_HALVED    balanced, where the bias is 0 and the scale a power of two, as it is for 64 and 256
//                  columns: the queries are multiplied by half the scale beforehand, which is exact,
//                  and the products are tanh's arguments as they come.
//   FORM_GENERAL   the even columns w = 1 / (1 + 2^-y): two special functions, one addition; the
//                  odd ones a = 2^-|y|, r = P(a) ~ 1 / (1 + a), w = y < 0 ? a r : r: one special
//                  function, 5 products and a test. All by the first takes more of the special
//                  functions' unit (16 a clock) than there is, all by the second more instructions.
//   FORM_TANH      tanh whatever comes, for comparison.
//
// P and S are off by about a tenth of the rounding to 16 bits that follows (2^-8 in bf16, 2^-11 in fp16);
// where e - e^2 differs from e at all, in 16 bits, there are two roundings.
//
// A special function takes a warp 8 clocks to issue, and everything that can be done in between is
// free. Hence no weight waits for another: the first ones (none at 64 columns, where other
// warpgroups keep the unit busy) are computed while the values of the block before are multiplied,
// the rest each next to its packing, which has to wait for that product.
#pragma once
#include "attention/problem.cuh"
#include "attention/rows.cuh"

#define FORM_GENERAL 0
#define FORM_SMALL 1
#define FORM_BALANCED 2
#define FORM_TANH 3
#define FORM_HALVED 4
#define FORM_MODEST 5
#ifndef FORM
#define FORM FORM_GENERAL
#endif
constexpr bool kSmallWeights = FORM == FORM_SMALL || FORM == FORM_MODEST;
constexpr bool kBalanced = FORM == FORM_BALANCED || FORM == FORM_HALVED;
static_assert(!(FP16 && kBalanced), "tanh is not good enough for fp16");
#ifndef FIRST  // eighths of a block that are computed before the product is awaited
#define FIRST (HEAD_DIM == 64 ? 0 : 2)
#endif

// fp16 loses digits below 2^-14, bf16 does not: there weights travel scaled up.
constexpr float kWeightScale = FP16 ? 32768.f : 1.f;
constexpr float kScaleLog2 = FP16 ? 15.f : 0.f;
constexpr u32 kSmall = FP16 ? 0x6000 : 0x3c80;  // 2^-6, scaled, in 16 bits
constexpr u32 kTiny = FP16 ? 0x4c00 : 0x3b80;   // 2^-11 and 2^-8
constexpr u32 kModest = FP16 ? 0x6c00 : 0x3e80; // 2^-3 and 2^-2
constexpr u32 kModestWeight = FP16 ? 0x6b1b : 0x3e4c;  // of such an e, just below

// P: the polynomial with the least relative error on [0, 1]; of degree 4, 3.0e-4, before a rounding
// to bf16, of degree 5, 5.1e-5, before one to fp16.
__device__ __forceinline__ float reciprocal_of_one_plus(float a) {
    if (FP16) {
        float r = fmaf(a, -0.10447963f, 0.41792495f);
        r = fmaf(a, r, -0.77056071f);
        r = fmaf(a, r, 0.95341599f);
        r = fmaf(a, r, -0.99627510f);
        return fmaf(a, r, 0.99994899f);
    }
    float r = fmaf(a, 0.15212629f, -0.53254415f);
    r = fmaf(a, r, 0.86562578f);
    r = fmaf(a, r, -0.98475393f);
    return fmaf(a, r, 0.99969679f);
}

// S: the same for a from 0 to the bound of kModest, from a scaled; 3.5e-4 and, for fp16, 5.1e-5.
__device__ __forceinline__ float modest_reciprocal(float a) {
    if (FP16) {
        constexpr float unit = 1.f / kWeightScale;
        const float r = fmaf(a, 0.83587386f * unit * unit, -0.99260228f * unit);
        return fmaf(a, r, 0.99994899f);
    }
    const float r = fmaf(a, 0.70889579f, -0.97473173f);
    return fmaf(a, r, 0.99965386f);
}

__device__ __forceinline__ float sigmoid_by_reciprocal(float y) {
    return reciprocal_approx(1.f + exp2_approx(-y));
}

__device__ __forceinline__ float sigmoid_by_polynomial(float y) {
    const float a = exp2_approx(-fabsf(y));
    return times_if_negative(reciprocal_of_one_plus(a), a, y);
}

// The policy of the main loops (see attention/rows.cuh): nothing to rescale, nothing to sum. A
// weight depends on its own score only, so not all of them need to be computed before the products
// of the block before are awaited: weigh() computes some, pack() the rest, each next to its packing.
struct SigmoidRows {
    static constexpr bool kMayFail = kBalanced;
    static constexpr bool kScalesQueries = FORM == FORM_HALVED;

    float scale, bias;           // y = scale q . k + bias; half of it, in units of e, for tanh
    bool careful;                // balanced: the general form instead
    bool thorough = false;
    float seen[2] = {0.f, 0.f};  // balanced: a part of this thread's weights of each row

    __device__ __forceinline__ SigmoidRows(const Problem& p, const Work& work)
        : scale(p.scale_log2),
          bias(p.bias_from_length ? -log2_approx(static_cast<float>(work.kv_len)) : p.bias_log2),
          careful(uniform(work.careful)) {
        if (kSmallWeights) bias += kScaleLog2;
        if (FORM == FORM_HALVED) scale = 2.f * kLog2e;  // of what is left to do
        if (FORM == FORM_TANH || (FORM == FORM_BALANCED && !careful)) {
            scale *= 0.5f * kLn2;
            bias *= 0.5f * kLn2;
        }
    }

    // Column i's weight, or e where weights are small.
    template <int Form>
    __device__ __forceinline__ float weight(float s, int i) const {
        constexpr float half = 0.5f * kWeightScale;
        if (Form == FORM_HALVED) return fmaf(tanh_approx(s), half, half);
        const float y = fmaf(s, scale, bias);
        if (kSmallWeights) return exp2_approx(y);
        if (Form == FORM_GENERAL)
            return (i % 2 ? sigmoid_by_polynomial(y) : sigmoid_by_reciprocal(y)) * kWeightScale;
        return fmaf(tanh_approx(y), half, half);
    }

    // From e, scaled; not to be inf in the product.
    template <bool Modest>
    __device__ __forceinline__ static float divided(float e) {
        if (Modest) return e * modest_reciprocal(e);
        const float finite = fminf(e, 0x1p80f);
        return finite * reciprocal_approx(fmaf(finite, 1.f / kWeightScale, 1.f));
    }

    // Columns of which weigh() computes the weights: about as many as the products take time for.
    template <int Count>
    static constexpr int kFirst = FIRST >= 8 ? Count : (Count / 8 * FIRST + 7) / 8 * 8;

    // A tile of queries, by the warpgroup that will multiply it and nobody else.
    __device__ __forceinline__ static void scale_queries(const Problem& p, void* tile,
                                                         int bytes) {
        const float half = p.scale_log2 * (0.5f * kLn2);
        const u32 half_scale = pack_pair(half, half);  // rounds to the power of two that it is
        uint4* x = static_cast<uint4*>(tile);
        for (int i = threadIdx.x % kWarpgroup; i < bytes / 16; i += kWarpgroup)
            x[i] = make_uint4(multiply_bf16(x[i].x, half_scale), multiply_bf16(x[i].y, half_scale),
                              multiply_bf16(x[i].z, half_scale), multiply_bf16(x[i].w, half_scale));
    }

    template <int Count>
    __device__ __forceinline__ void weigh(float (&s)[Count], const Problem&, bool masked) {
        thorough = masked;
        if (kBalanced && careful) weigh_as<FORM_GENERAL>(s);
        else weigh_as<FORM>(s);
    }

    template <int Form, int Count>
    __device__ __forceinline__ void weigh_as(float (&s)[Count]) const {
#pragma unroll
        for (int i = 0; i < kFirst<Count>; ++i) s[i] = weight<Form>(s[i], i);
    }

    // 0, but the compiler cannot know it before weigh() is done: no weight is negative.
    template <int Count>
    __device__ __forceinline__ u32 zero_after(const float (&w)[Count]) const {
        constexpr int first = kFirst<Count>;
        if constexpr (first == 0) return 0;
        else return (__float_as_uint(w[first - 1]) | __float_as_uint(w[first - 2])) >> 31;
    }

    template <int Count>
    __device__ __forceinline__ void pack(u32 (&w)[Count / 8][4], float (&s)[Count]) {
        if (kBalanced && careful) pack_as<FORM_GENERAL>(w, s);
        else pack_as<FORM>(w, s);
    }

    template <int Form, int Count>
    __device__ __forceinline__ void pack_as(u32 (&w)[Count / 8][4], float (&s)[Count]) {
        u32 top[4] = {0, 0, 0, 0};
#pragma unroll
        for (int k = 0; k < Count / 8; ++k) {
#pragma unroll
            for (int i = 8 * k; i < 8 * k + 8; ++i)
                if (i >= kFirst<Count>) s[i] = weight<Form>(s[i], i);
#pragma unroll
            for (int i = 0; i < 4; ++i)
                w[k][i] = Form == FORM_MODEST
                              ? pack_pair(divided<true>(s[8 * k + 2 * i]),
                                          divided<true>(s[8 * k + 2 * i + 1]))
                              : pack_pair(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
            if (kSmallWeights)
#pragma unroll
                for (int i = 0; i < 4; i += 2)
                    top[k % 4] = max_of_three_pairs(top[k % 4], w[k][i], w[k][i + 1]);
            if (Form != FORM_GENERAL && kBalanced && k % 2 == 0)
#pragma unroll
                for (int i = 0; i < 4; ++i) seen[i / 2] += s[8 * k + i];
        }
        if (kSmallWeights) {
            const u32 largest =
                max_of_three_pairs(max_of_three_pairs(top[0], top[1], top[2]), top[3], 0);
            if (Form == FORM_MODEST) {
                if (any_reaches(largest, kModestWeight)) divide<false>(w, s);
                return;
            }
            if (!any_reaches(largest, kTiny)) return;
            if (!any_reaches(largest, kSmall)) subtract_squares(w);
            else if (!any_reaches(largest, kModest)) divide<true>(w, s);
            else divide<false>(w, s);
        }
        if (Form != FORM_GENERAL && kBalanced && thorough) count_rest(s);
    }

    __device__ __forceinline__ static bool any_reaches(u32 pair, u32 limit) {
        return __any_sync(kFullMask, (pair & 0xffff) >= limit || pair >> 16 >= limit);
    }

    template <int Steps>
    __device__ __forceinline__ static void subtract_squares(u32 (&w)[Steps][4]) {
#pragma unroll
        for (int k = 0; k < Steps; ++k)
#pragma unroll
            for (int i = 0; i < 4; ++i) w[k][i] = less_square(w[k][i]);
    }

    // Weights from e once more, where packing e was in vain.
    template <bool Modest, int Count>
    __device__ __forceinline__ static void divide(u32 (&w)[Count / 8][4],
                                                  const float (&e)[Count]) {
#pragma unroll
        for (int k = 0; k < Count / 8; ++k)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                w[k][i] = pack_pair(divided<Modest>(e[8 * k + 2 * i]),
                                    divided<Modest>(e[8 * k + 2 * i + 1]));
    }

    // Masked blocks hold the few keys of rows that see few: all of their weights are counted.
    template <int Count>
    __device__ __forceinline__ void count_rest(const float (&s)[Count]) {
#pragma unroll
        for (int i = 0; i < Count; ++i)
            if (i % 16 >= 4) seen[i % 4 / 2] += s[i];
    }

    template <int Count>
    __device__ __forceinline__ void rescale_outputs(float (&)[Count]) const {}

    // Whether the weights of every row of this warp add up to a sixteenth of its keys.
    __device__ __forceinline__ bool finish(const Problem& p, const Work& work, int first_row) {
        if (!kBalanced || careful) return true;
        bool holds = true;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first_row + 8 * half;
            const attention::Range keys =
                attention::visible_keys(row, work.q_len, work.kv_len, p.causal, p.window);
            const float sum = quad_sum(seen[half]);
            holds = holds && (row >= work.q_len || 16.f * sum >= keys.last - keys.first);
        }
        return __all_sync(kFullMask, holds);
    }

    __device__ __forceinline__ RowFactors output_factors() const {
        return {{1.f / kWeightScale, 1.f / kWeightScale}};
    }
};
