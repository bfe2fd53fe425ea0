"""The INT8 product: definition, host kernel and CUDA ladder."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.errors import BadValue, UnknownName
from refkernels._check import AWKWARD_SIZES, generator, judge, narrow_bf16, random_int8, widen
from refkernels.int8_gemm import naive

RUNGS = (
    "01_dp4a",
    "02_mma_sync",
    "03_wgmma_tma",
    "04_warp_specialised",
    "05_cluster_multicast",
    "06_skinny",
)
SHAPES = ((1, 1, 1), (3, 5, 7), (16, 64, 128), (33, 100, 1000), (65, 31, 4097))


def drawn(m, n, k, seed=0):
    rng = np.random.default_rng(seed)
    return random_int8(rng, (m, k)), random_int8(rng, (n, k)), rng


def defined(a, b):
    """The sum over k in 64-bit integers, one product at a time."""
    return np.einsum("ik,jk->ij", a.astype(np.int64), b.astype(np.int64))


# ---------------------------------------------------------------- the definition


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_oracle_is_the_exact_sum(m, n, k):
    """The float64 product equals the 64-bit integer sum."""
    a, b, _ = drawn(m, n, k)

    assert (naive.integer_product(a, b) == defined(a, b)).all()


def test_largest_k_just_fits_in_32_bits():
    """-128 * -128 at the largest k is the last sum that int32 holds; one more is refused."""
    a = np.full((1, naive.MAX_K), -128, np.int8)

    assert naive.integer_product(a, a)[0, 0] == naive.MAX_K * 2**14 <= 2**31 - 1
    assert (naive.MAX_K + 1) * 2**14 > 2**31 - 1
    longer = np.zeros((1, naive.MAX_K + 1), np.int8)
    with pytest.raises(BadValue, match="131071") as refused:
        naive.integer_product(longer, longer)
    assert refused.value.field == "k"


def test_differing_k_is_refused():
    """Operands that do not belong together are named."""
    with pytest.raises(BadValue, match="k = 3"):
        naive.integer_product(np.zeros((1, 3), np.int8), np.zeros((1, 4), np.int8))


def test_scaled_product_by_hand():
    """One row, one column: 2 * 3 + (-4) * 5 = -14; times 0.5 and 0.25, plus 1 is -0.75."""
    a, b = np.array([[2, -4]], np.int8), np.array([[3, 5]], np.int8)
    y, bound = naive.scaled_product(a, b, np.array([0.5]), np.array([0.25]), np.array([1.0]))

    assert y[0, 0] == -0.75
    # |y| / 256, and one fp32 unit of the terms (6 + 20) / 8 + 1 = 4.25
    assert bound[0, 0] == 0.75 / 256 + 4.25 * 2.0**-23


@pytest.mark.parametrize("threshold", [None, 2.0])
def test_quantised_rows_are_within_half_a_step(threshold):
    """Every ordinary value comes back within half a scale; the largest maps to 127."""
    x = np.random.default_rng(1).normal(size=(20, 333)).astype(np.float16)
    parts = naive.quantise_rows(x, threshold)
    ordinary = np.abs(x.astype(np.float64)) < (threshold or np.inf)
    kept = ordinary & ~np.isin(np.arange(333), parts.outliers)
    back = parts.scale[:, None].astype(np.float64) * parts.q

    assert np.abs(np.where(kept, back - x, 0)).max() <= parts.scale.max() * 0.5001
    if threshold is None:
        assert (np.abs(parts.q).max(axis=1) == 127).all()


def test_outlier_columns_are_cleared_and_listed():
    """A column with one large entry is listed and zero in every row; the scale ignores it."""
    x = np.full((3, 4), 0.5, np.float32)
    x[1, 2] = -8.0
    parts = naive.quantise_rows(x, 6.0)

    assert parts.outliers.tolist() == [2]
    assert (parts.q == [127, 127, 0, 127]).all()
    assert parts.scale == pytest.approx(0.5 / 127)


def test_rows_of_zeros_quantise_to_zero():
    """No division by the maximum of an empty row."""
    parts = naive.quantise_rows(np.zeros((2, 5), np.float32))

    assert (parts.q == 0).all()
    assert (parts.scale == 0).all()


def test_llm_int8_without_outliers_is_the_plain_product():
    """With an unreachable threshold both definitions agree to rounding of float64."""
    _, b, rng = drawn(5, 6, 40)
    x = rng.normal(size=(5, 40)).astype(np.float32)
    scale = rng.uniform(0.1, 1, 6).astype(np.float32)
    parts = naive.quantise_rows(x)
    y, _ = naive.llm_int8(x, b, scale, threshold=1e9)

    assert y == pytest.approx(
        naive.dequantise(naive.integer_product(parts.q, b), parts.scale, scale)
    )


def test_llm_int8_of_outliers_only_is_the_16_bit_product():
    """With every column an outlier nothing is quantised."""
    _, b, rng = drawn(5, 6, 40)
    x = rng.normal(size=(5, 40)).astype(np.float32)
    x[0] = 100.0
    scale = rng.uniform(0.1, 1, 6).astype(np.float32)
    y, _ = naive.llm_int8(x, b, scale)

    assert y == pytest.approx((x.astype(np.float64) @ b.T) * scale)


# ---------------------------------------------------------------- the host kernel


def dots():
    return pytest.importorskip("refkernels.int8_gemm._dot").available_dots()


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(("m", "n", "k"), [*SHAPES, (25, 70, 1025), (2, 3, naive.MAX_K)])
def test_host_product_is_exact(index, m, n, k):
    """Every kind of dot that this processor has gives the exact sums, with -128 present."""
    host = pytest.importorskip("refkernels.int8_gemm.host")
    if index >= len(dots()):
        pytest.skip("this processor has fewer kinds of dot")
    a, b, _ = drawn(m, n, k)
    a[0, :] = b[0, :] = -128

    assert (host.integer_product(a, b, dots()[index]) == defined(a, b)).all()


def test_host_scaled_product_is_within_its_bound():
    """fp32 results with scales and a bias hold the bound that bf16 shares."""
    host = pytest.importorskip("refkernels.int8_gemm.host")
    a, b, rng = drawn(30, 40, 500)
    scales = [rng.uniform(0.01, 0.1, size).astype(np.float32) for size in (30, 40, 40)]
    y, bound = naive.scaled_product(a, b, *scales)

    assert judge("int8_gemm", "fp32", host.scaled_product(a, b, *scales), y, bound=bound).passed


def test_host_product_refuses_other_types_and_sizes():
    """Floats, differing k and k beyond the limit end in a message that names the operand."""
    host = pytest.importorskip("refkernels.int8_gemm.host")
    good = np.zeros((2, 3), np.int8)

    with pytest.raises(BadValue, match="int8"):
        host.integer_product(good, good.astype(np.float32))
    with pytest.raises(BadValue, match="k = 3"):
        host.integer_product(good, np.zeros((2, 4), np.int8))
    with pytest.raises(BadValue, match="131071"):
        host.integer_product(*[np.zeros((1, naive.MAX_K + 1), np.int8)] * 2)


def test_packed_panels_hold_every_byte_once():
    """Panels keep all values, in words along k, with zeros where rows or values are missing."""
    host = pytest.importorskip("refkernels.int8_gemm.host")
    x = np.arange(1, 36, dtype=np.int8).reshape(5, 7)
    dot = dots()[-1]
    panels = host.pack(x, 4, dot, offset=False)

    assert panels.shape == (2, -(-7 // dot.bytes_per_word), 4)
    values = panels.view(np.int8 if dot.bytes_per_word == 4 else np.int16)
    assert sorted(values[values != 0].tolist()) == list(range(1, 36))


# ---------------------------------------------------------------- the CUDA ladder


@pytest.mark.gpu
@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(("kind", "count"), [("int32", 30), ("bf16", 8), ("fp16", 8), ("fp32", 8)])
def test_rung_is_exact_or_within_its_bound(rung, kind, count):
    """Random and awkward shapes, poisoned outputs: int32 exact, the rest within the bound."""
    from refkernels.int8_gemm.gates import sweep_products

    swept = sweep_products(rung, kind, count, seed=100)

    assert swept.passed, swept.failures


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_llm_int8_is_within_its_bound(dtype):
    """None to hundreds of outlier columns; the quantised bytes agree exactly."""
    from refkernels.int8_gemm.gates import sweep_llm_int8

    swept = sweep_llm_int8(dtype, 12, seed=7)

    assert swept.passed, swept.failures


@pytest.mark.gpu
def test_too_many_outliers_give_nan():
    """More outlier columns than there is room for must not look like a result."""
    import cupy

    from refkernels.int8_gemm.llm_int8 import prepare_llm_int8

    x = narrow_bf16(cupy.full((4, 300), 9.0, cupy.float32))
    b, scale = cupy.ones((5, 300), cupy.int8), cupy.ones(5, cupy.float32)
    bound = prepare_llm_int8(x, b, scale, max_outliers=64)
    bound()

    assert bool(cupy.isnan(widen(bound.out, "bf16")).all())


@pytest.mark.gpu
@pytest.mark.parametrize("k", [*AWKWARD_SIZES, 4096, 5000, 20000, 40000])
def test_quantised_bytes_equal_the_definition(k):
    """Row lengths below, at and above what a thread keeps in registers."""
    import cupy

    from refkernels.int8_gemm.llm_int8 import prepare_quantise

    x = generator(k, cupy).standard_normal((9, k), dtype=np.float32).astype(cupy.float16)
    x[3] = 0
    bound = prepare_quantise(x, dtype="fp16")
    bound()
    expected = naive.quantise_rows(x, None, cupy)

    assert bool((bound.q[:, :k] == expected.q).all())
    assert bool((bound.q[:, k:] == 0).all())
    assert bool((bound.scale == expected.scale).all())


@pytest.mark.gpu
def test_nan_in_a_row_reaches_its_results():
    """A NaN must not be quantised away."""
    import cupy

    from refkernels.int8_gemm.llm_int8 import prepare_quantise

    x = cupy.ones((2, 64), cupy.float16)
    x[1, 5] = cupy.nan
    bound = prepare_quantise(x, dtype="fp16")
    bound()

    assert bool(cupy.isfinite(bound.scale[0]))
    assert bool(cupy.isnan(bound.scale[1]))


@pytest.mark.gpu
def test_device_product_refuses_bad_operands():
    """Each bad operand ends in one message that names it, before any launch."""
    import cupy

    from refkernels.int8_gemm.device import int8_gemm

    a, long = cupy.zeros((2, 16), cupy.int8), cupy.zeros((1, naive.MAX_K + 1), cupy.int8)
    with pytest.raises(BadValue, match="131071"):
        int8_gemm(long, long, out_dtype="int32")
    with pytest.raises(BadValue, match="row_scale"):
        int8_gemm(a, a)
    with pytest.raises(BadValue, match="takes no scales"):
        int8_gemm(a, a, row_scale=cupy.ones(2, cupy.float32), out_dtype="int32")
    with pytest.raises(BadValue, match="b"):
        int8_gemm(a, cupy.zeros((2, 32), cupy.int8), out_dtype="int32")
    with pytest.raises(UnknownName, match="fp8"):
        int8_gemm(a, a, out_dtype="fp8")
    with pytest.raises(UnknownName, match="rung"):
        int8_gemm(a, a, out_dtype="int32", kernel="07")
