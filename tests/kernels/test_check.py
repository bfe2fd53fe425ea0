"""The gate fails what it must fail."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.errors import BadValue, UnknownName
from refkernels._check import (
    AWKWARD_SIZES,
    TOLERANCES,
    bound_ratio,
    generator,
    judge,
    largest_error,
    mismatches,
    narrow_bf16,
    poisoned,
    random_int8,
    random_normal,
    relative_rms,
    tolerance,
    widen,
)


def test_relative_rms_by_hand():
    """||(0, 1)|| / ||(3, 4)|| = 1 / 5."""
    assert relative_rms(np.array([3.0, 5.0]), np.array([3.0, 4.0])) == pytest.approx(0.2)


@pytest.mark.parametrize("metric", [relative_rms, largest_error])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_never_passes(metric, value):
    """NaN or infinity anywhere is an infinite error, whatever the rest."""
    assert metric(np.array([1.0, value]), np.array([1.0, 1.0])) == np.inf
    assert bound_ratio(np.array([1.0, value]), np.array([1.0, 1.0]), 1e9) == np.inf


def test_all_zero_expectation():
    """Nothing expected: only exact zeros pass."""
    assert relative_rms(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_rms(np.array([0.0, 1e-30, 0.0]), np.zeros(3)) == np.inf


def test_bound_ratio_by_hand():
    """Errors 1 and 1 over bounds 4 and 2: the worst is a half; over a zero bound it is infinite."""
    actual, expected = np.array([2.0, 3.0]), np.array([1.0, 4.0])

    assert bound_ratio(actual, expected, np.array([4.0, 2.0])) == 0.5
    assert bound_ratio(actual, expected, np.array([4.0, 0.0])) == np.inf
    assert bound_ratio(expected, expected, 0.0) == 0.0


def test_mismatches():
    """Counts differing elements; NaN differs from itself; another shape is no match at all."""
    assert mismatches(np.array([1.0, np.nan, 2.0]), np.array([1.0, np.nan, 3.0])) == 2
    assert mismatches(np.zeros(2), np.zeros(3)) == np.inf


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_poison_is_nan(dtype):
    """Float outputs start as NaN, so an unwritten element fails every metric."""
    assert np.isnan(poisoned((3, 5), dtype)).all()


def test_poison_of_bf16_bits_is_nan():
    """bf16 buffers are raw bits that widen to NaN."""
    assert np.isnan(widen(poisoned((4,), "uint16"), "bf16")).all()


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8", "uint16", "float32"])
def test_two_poisons_differ_everywhere(dtype):
    """Bits of the two patterns differ, so an unwritten integer shows between two runs."""
    one, two = (poisoned((7,), dtype, pattern=p) for p in (0, 1))

    assert (one.view(np.uint8) != two.view(np.uint8)).reshape(7, -1).any(axis=1).all()


def test_judge_uses_the_table():
    """The verdict carries the table's metric and limit."""
    gate = judge("int8_gemm", "int32", np.array([1, 2]), np.array([1, 3]))

    assert gate.to_dict() == {
        "passed": False,
        "error": 1.0,
        "tolerance": 0.0,
        "metric": "mismatches",
    }


def test_judge_refuses_what_it_cannot_judge():
    """No tolerance, or no bound where the metric needs one."""
    with pytest.raises(UnknownName):
        tolerance("unheard_of", "fp32")
    with pytest.raises(BadValue, match="bound"):
        judge("int8_gemm", "bf16", np.zeros(1), np.zeros(1))


def test_every_tolerance_has_a_reason():
    """A limit without its reason is not a tolerance."""
    assert all(t.reason and t.limit >= 0 for t in TOLERANCES.values())


def test_bf16_rounding_is_to_nearest_even():
    """1 + 2**-8 lies midway between 1 and 1 + 2**-7: even mantissa wins; above it, up."""
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)

    assert widen(narrow_bf16(values), "bf16").tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7]


def test_inputs_are_fresh_by_seed_and_cover_their_range():
    """The same seed draws the same inputs, another seed others; bytes span [-127, 127]."""
    drawn = random_int8(generator(1), (200, 200))

    assert (drawn == random_int8(generator(1), (200, 200))).all()
    assert (drawn != random_int8(generator(2), (200, 200))).any()
    assert (drawn.min(), drawn.max(), drawn.dtype) == (-127, 127, np.int8)
    assert random_normal(generator(1), (4,), scale=2.0).dtype == np.float32


def test_awkward_sizes_are_awkward():
    """They include one, and sizes on both sides of a warp, a tile and a byte count."""
    assert {1, 31, 33, 127, 129, 255, 257} <= set(AWKWARD_SIZES)
