// Sigmoid weights from scores: w = 1 / (1 + 2^-y), y = scale log2(e) q . k + bias log2(e).
//
// With the usual bias of -log n a weight is about 1 / n, so it is the relative error of small
// weights that counts. tanh.approx has an absolute error of about 2^-11 near -1, which is larger
// than 1 / n from n = 4096 on: w = 0.5 + 0.5 tanh(x / 2) then has no correct digit. It is kept as
// FORM_TANH for short sequences and for comparison; its error is in README.md.
//
// FORM_ACCURATE, each branch taken by a whole warp for a whole block of its scores, e = 2^y:
//   all e < 2^-6: w = e / (1 + e) = e - e^2 + ...: cut after the second term, at most e^2 = 2^-12
//                 is lost relative to w. Pairs are packed to 16 bits first: then the bound is
//                 tested for four, and e - e^2 computed for two, by one instruction.
//   otherwise:    the even columns w = 1 / (1 + 2^-y): two special functions, one addition;
//                 the odd ones a = 2^-|y|, r = P(a) ~ 1 / (1 + a), w = y < 0 ? a r : r: one special
//                 function, 5 products and a test. All by the first takes more of the special
//                 functions' unit (16 a clock) than there is, all by the second more instructions.
// The first is tried where the bias leaves room for scores of some deviations above the mean, from
// n = 2897 on with the usual one; where it fails, w = e / (1 + e) from what has been computed.
// P is off by about a tenth of the rounding to 16 bits that follows (2^-8 in bf16, 2^-11 in fp16);
// where e - e^2 differs from e at all, in 16 bits, there are two roundings.
#pragma once
#include "attention/problem.cuh"
#include "attention/rows.cuh"
#include "common/barrier.cuh"

#define FORM_ACCURATE 0
#define FORM_TANH 1
#ifndef FORM
#define FORM FORM_ACCURATE
#endif

#ifndef SKIP_SQUARE
#define SKIP_SQUARE 1
#endif
#ifndef PRESCALE
#define PRESCALE 0
#endif
#ifndef SUMS
#define SUMS 0
#endif
#ifndef PAIRS
#define PAIRS 0
#endif
// fp16 loses digits below 2^-14, bf16 does not: there weights travel scaled up.
constexpr float kWeightScale = FP16 ? 32768.f : 1.f;
constexpr float kScaleLog2 = FP16 ? 15.f : 0.f;
constexpr u32 kSmall = FP16 ? 0x6000 : 0x3c80;  // 2^-6, scaled, in 16 bits
constexpr float kExpectSmallBelow = -11.5f;     // the bias, in units of log2
constexpr float kExpectBalancedAbove = -1.5f;

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

__device__ __forceinline__ float sigmoid_by_reciprocal(float y) {
    return reciprocal_approx(1.f + exp2_approx(-y));
}

__device__ __forceinline__ float sigmoid_by_polynomial(float y) {
    const float a = exp2_approx(-fabsf(y));
    return times_if_negative(reciprocal_of_one_plus(a), a, y);
}

// The policy of the main loops (see attention/rows.cuh): nothing to rescale, nothing to sum.
struct SigmoidRows {
    float scale_log2, bias_log2;
    bool expect_small;
    bool balanced;
    float seen[2] = {0.f, 0.f};
    mutable u32 failed = 0;

    #ifdef NO_BALANCED
    static constexpr bool kMayFail = false;
#else
    static constexpr bool kMayFail = FORM == FORM_ACCURATE && !FP16;
#endif

    __device__ __forceinline__ SigmoidRows(const Problem& p, const Work& work)
        : scale_log2(p.scale_log2),
          bias_log2(p.bias_from_length ? -log2_approx(static_cast<float>(work.kv_len))
                                       : p.bias_log2),
          expect_small(uniform(bias_log2 < kExpectSmallBelow)),
          balanced(uniform(kMayFail && !work.careful && bias_log2 > kExpectBalancedAbove)) {
        if (FORM == FORM_TANH) {
            scale_log2 *= 0.5f * kLn2;
            bias_log2 *= 0.5f * kLn2;
        }
    }

    __device__ __forceinline__ float weight(float s, int i) const {
        if (FORM == FORM_TANH && PRESCALE)
            return fmaf(tanh_approx(s), 0.5f * kWeightScale, 0.5f * kWeightScale);
        const float y = fmaf(s, scale_log2, bias_log2);
        if (FORM == FORM_TANH)
            return fmaf(tanh_approx(y), 0.5f * kWeightScale, 0.5f * kWeightScale);
        return (i % 2 ? sigmoid_by_polynomial(y) : sigmoid_by_reciprocal(y)) * kWeightScale;
    }

    __device__ __forceinline__ float exponential(float s) const {
        if (PRESCALE) return exp2_approx(s);
        return exp2_approx(fmaf(s, scale_log2, bias_log2 + kScaleLog2));
    }

    // From e, scaled; not to be inf in the product.
    __device__ __forceinline__ float weight_of(float e) const {
        const float finite = fminf(e, 0x1p80f);
        return finite * reciprocal_approx(fmaf(finite, 1.f / kWeightScale, 1.f));
    }

    // Whether all packed e are small; if so they become e - e^2.
    template <int Steps>
    __device__ __forceinline__ bool two_terms(u32 (&w)[Steps][4]) const {
        u32 top = 0;
#pragma unroll
        for (int i = 0; i < Steps; ++i)
#pragma unroll
            for (int j = 0; j < 4; j += 2) top = max_of_three_pairs(top, w[i][j], w[i][j + 1]);
        if (PRESCALE) {
            const u32 tiny = pack_bf16(exp2_approx(-8.f - bias_log2), 0.f) & 0xffff;
            return !__any_sync(kFullMask, (top & 0xffff) >= tiny || top >> 16 >= tiny) || true;
        }
        if (SKIP_SQUARE) {
            const u32 tiny = FP16 ? 0x4c00 : 0x3b80;
            if (!__any_sync(kFullMask, (top & 0xffff) >= tiny || top >> 16 >= tiny)) return true;
        }
        const bool large = (top & 0xffff) >= kSmall || top >> 16 >= kSmall;
        if (__any_sync(kFullMask, large)) return false;
#pragma unroll
        for (int i = 0; i < Steps; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) w[i][j] = less_square(w[i][j]);
        return true;
    }

    template <int Count>
    __device__ __forceinline__ void weigh(float (&s)[Count], const Problem&) {
        if (FORM == 5) {  // next to nothing: what the rest costs
#pragma unroll
            for (int i = 0; i < Count; ++i) s[i] = fmaf(s[i], scale_log2, bias_log2);
            return;
        }
        if (FORM == FORM_ACCURATE && expect_small) {
#pragma unroll
            for (int i = 0; i < Count; ++i) s[i] = exponential(s[i]);
        } else if (kMayFail && balanced) {
            const float scale = scale_log2 * (0.5f * kLn2), bias = bias_log2 * (0.5f * kLn2);
#pragma unroll
            for (int i = 0; i < Count; ++i) {
                s[i] = fmaf(tanh_approx(fmaf(s[i], scale, bias)), 0.5f, 0.5f);
                if (i % 16 < 4) seen[i % 4 / 2] += s[i];
            }
        } else if (PAIRS && FORM == FORM_ACCURATE) {
#pragma unroll
            for (int i = 0; i < Count; i += 2) {
                const float a = 1.f + exp2_approx(-fmaxf(fmaf(s[i], scale_log2, bias_log2), -62.f));
                const float b = 1.f + exp2_approx(-fmaxf(fmaf(s[i + 1], scale_log2, bias_log2), -62.f));
                const float r = reciprocal_approx(a * b) * kWeightScale;
                s[i] = b * r;
                s[i + 1] = a * r;
            }
        } else {
#pragma unroll
            for (int i = 0; i < Count; ++i) s[i] = weight(s[i], i);
        }
    }

    // Masked blocks hold the few keys of rows that see few: all of their weights are counted.
    template <int Count>
    __device__ __forceinline__ void count_rest(const float (&s)[Count]) {
        if (!kMayFail || !balanced) return;
#pragma unroll
        for (int i = 0; i < Count; ++i)
            if (i % 16 >= 4) seen[i % 4 / 2] += s[i];
    }

    template <int Count>
    __device__ __forceinline__ void pack(u32 (&w)[Count / 8][4], float (&s)[Count]) const {
        pack_rows(w, s);
        if (SUMS) {
            u32 sum[2] = {0, 0};
#pragma unroll
            for (int i = 0; i < Count / 8; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j)
                    asm("add.bf16x2 %0, %0, %1;" : "+r"(sum[j % 2]) : "r"(w[i][j]));
            u32 low = 0;
            asm("min.bf16x2 %0, %1, %2;" : "=r"(low) : "r"(sum[0]), "r"(sum[1]));
            const u32 bad = (low & 0xffff) < 0x4000u || low >> 16 < 0x4000u;
            failed |= bad;
        }
        if (FORM == FORM_TANH || FORM == 5 || !expect_small || two_terms(w)) return;
#pragma unroll
        for (int i = 0; i < Count; ++i) s[i] = weight_of(s[i]);
        pack_rows(w, s);
    }

    template <int Count>
    __device__ __forceinline__ u32 zero_after(const float (&w)[Count]) const {
        u32 bits = 0;
#pragma unroll
        for (int i = 1; i < Count; i += 8) bits |= __float_as_uint(w[i]);
        return bits >> 31;
    }

    template <int Count>
    __device__ __forceinline__ void rescale_outputs(float (&)[Count]) const {}

    // Whether the weights of every row of this warp add up to a sixteenth of its keys.
    __device__ __forceinline__ bool finish(const Problem& p, const Work& work, int first_row) {
        if (SUMS && failed && p.lse) p.lse[0] = 1.f;
        if (!kMayFail || !balanced) return true;
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

    __device__ __forceinline__ void prepare(u16* q, int count, int group) const {
        if (!PRESCALE) return;
        const float factor = scale_log2;
        uint4* words = reinterpret_cast<uint4*>(q);
        for (int i = threadIdx.x % kWarpgroup; i < count / 8; i += kWarpgroup) {
            uint4 x = words[i];
            u32* part = reinterpret_cast<u32*>(&x);
#pragma unroll
            for (int j = 0; j < 4; ++j)
                part[j] = pack_bf16(bf16_low(part[j]) * factor, bf16_high(part[j]) * factor);
            words[i] = x;
        }
        ptx::fence_async_shared();
        ptx::named_barrier_sync(8 + group, kWarpgroup);
    }

    template <int Count>
    __device__ __forceinline__ void normalise(float (&o)[Count]) const {
        if (PRESCALE && FORM == FORM_ACCURATE) {
            const float f = exp2_approx(bias_log2);
            const float inverse[2] = {f, f};
            scale_rows(o, inverse);
        }
        if constexpr (kWeightScale != 1.f) {
            const float inverse[2] = {1.f / kWeightScale, 1.f / kWeightScale};
            scale_rows(o, inverse);
        }
    }
};
