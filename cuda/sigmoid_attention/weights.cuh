// Sigmoid weights from scores: w = 1 / (1 + 2^-y), y = scale log2(e) q . k + bias log2(e).
//
// With the usual bias of -log n a weight is about 1 / n, so it is the relative error of small
// weights that counts. tanh.approx has an absolute error of about 2^-11 near -1, which is larger
// than 1 / n from n = 4096 on: w = 0.5 + 0.5 tanh(x / 2) then has no correct digit. It is kept as
// FORM_TANH for short sequences and for comparison; its error is in README.md.
//
// FORM_ACCURATE, each branch taken by a whole warp for a whole block of its scores, e = 2^y:
//   all y < -6:   w = e / (1 + e) = e - e^2 + ...: cut after the second term, at most e^2 = 2^-12
//                 is lost relative to w; one special function and one product
//   all y < -4:   cut after the third term, e^3 = 2^-12; one special function, 3 products
//   otherwise:    half of the columns w = 1 / (1 + 2^-y): two special functions, one addition;
//                 the other half a = 2^-|y|, r = P(a) ~ 1 / (1 + a), w = y < 0 ? a r : r:
//                 one special function, 6 products. The special functions' unit (16 a clock) and
//                 the multipliers (128 a clock) then take about as long as each other.
// With normal scores and the bias -log n, the first branch is the rule from n = 8192 on and the
// second from n = 1024. The last is accurate to a few 2^-15. The cut is never larger than the
// rounding of the weights that follows (2^-9 in bf16, 2^-12 in fp16), and that only beside its
// threshold.
#pragma once
#include "attention/problem.cuh"
#include "attention/rows.cuh"

#define FORM_ACCURATE 0
#define FORM_TANH 1
#ifndef FORM
#define FORM FORM_ACCURATE
#endif

// fp16 loses digits below 2^-14, bf16 does not: there weights travel scaled up.
constexpr float kWeightScale = FP16 ? 32768.f : 1.f;
constexpr float kTwoTermsBelow = -6.f;
constexpr float kThreeTermsBelow = -4.f;

// P: the polynomial of degree 5 with the least relative error on [0, 1], 5.1e-5.
__device__ __forceinline__ float reciprocal_of_one_plus(float a) {
    float r = fmaf(a, -0.10447963f, 0.41792495f);
    r = fmaf(a, r, -0.77056071f);
    r = fmaf(a, r, 0.95341599f);
    r = fmaf(a, r, -0.99627510f);
    return fmaf(a, r, 0.99994899f);
}

__device__ __forceinline__ float sigmoid_by_two_terms(float y) {
    const float e = exp2_approx(y);
    return fmaf(-e, e, e);
}

__device__ __forceinline__ float sigmoid_by_three_terms(float y) {
    const float e = exp2_approx(y);
    const float square = e * e;
    return fmaf(square, e, e - square);
}

__device__ __forceinline__ float sigmoid_by_reciprocal(float y) {
    return reciprocal_approx(1.f + exp2_approx(-y));
}

__device__ __forceinline__ float sigmoid_by_polynomial(float y) {
    const float a = exp2_approx(-fabsf(y));
    const float r = reciprocal_of_one_plus(a);
    return y < 0.f ? a * r : r;
}

// The policy of the main loops (see attention/rows.cuh): nothing to rescale, nothing to sum.
struct SigmoidRows {
    float bias_log2;

    __device__ __forceinline__ SigmoidRows(const Problem& p, const Work& work)
        : bias_log2(p.bias_from_length ? -log2_approx(static_cast<float>(work.kv_len))
                                       : p.bias_log2) {}

    template <int Count>
    __device__ __forceinline__ void weigh(float (&s)[Count], const Problem& p) const {
        if constexpr (FORM == FORM_TANH) {
            const float scale = 0.5f * kLn2 * p.scale_log2, bias = 0.5f * kLn2 * bias_log2;
#pragma unroll
            for (int i = 0; i < Count; ++i)
                s[i] = fmaf(tanh_approx(fmaf(s[i], scale, bias)), 0.5f * kWeightScale,
                            0.5f * kWeightScale);
            return;
        }
        float top = minus_infinity();
#pragma unroll
        for (int i = 0; i < Count; ++i) {
            s[i] = fmaf(s[i], p.scale_log2, bias_log2);
            top = fmaxf(top, s[i]);
        }
        if (!__any_sync(kFullMask, top >= kTwoTermsBelow)) {
#pragma unroll
            for (int i = 0; i < Count; ++i) s[i] = sigmoid_by_two_terms(s[i]) * kWeightScale;
        } else if (!__any_sync(kFullMask, top >= kThreeTermsBelow)) {
#pragma unroll
            for (int i = 0; i < Count; ++i) s[i] = sigmoid_by_three_terms(s[i]) * kWeightScale;
        } else {
#pragma unroll
            for (int i = 0; i < Count; ++i)
                s[i] = (i % 2 ? sigmoid_by_polynomial(s[i]) : sigmoid_by_reciprocal(s[i])) *
                       kWeightScale;
        }
    }

    template <int Count>
    __device__ __forceinline__ void rescale_outputs(float (&)[Count]) const {}

    // The branches of weigh() already keep the weights where they are.
    __device__ __forceinline__ u32 zero_after_weights() const { return 0; }

    __device__ __forceinline__ void finish(const Problem&, const Work&, int) const {}

    template <int Count>
    __device__ __forceinline__ void normalise(float (&o)[Count]) const {
        if constexpr (kWeightScale != 1.f) {
            const float inverse[2] = {1.f / kWeightScale, 1.f / kWeightScale};
            scale_rows(o, inverse);
        }
    }
};
