"""The gate before the clock: a kernel's result against the float64 oracle.

Outputs start as NaN (or, for integers, as two different patterns in two runs), inputs are drawn
anew from a seed, and every tolerance with its reason stands in :data:`TOLERANCES`. Functions take
NumPy or CuPy arrays, so that large shapes are checked where they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.errors import BadValue, UnknownName

AWKWARD_SIZES: tuple[int, ...] = (1, 2, 3, 7, 16, 17, 31, 33, 63, 65, 100, 127, 129, 255, 257, 1000)
"""Sizes that break kernels: one, primes, and a step beside each tile edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How an error is measured, how large it may be, and why that much."""

    metric: str
    limit: float
    reason: str


_SIXTEEN_BITS = Tolerance(
    metric="relative_rms",
    limit=5e-3,
    reason="operands and output in 16 bits: 2**-9 relative each at most, half a dozen of them in a "
    "row, and independent",
)

TOLERANCES: dict[tuple[str, str], Tolerance] = {
    ("copy", "any"): Tolerance(metric="mismatches", limit=0.0, reason="a copy is exact"),
    ("library", "int32"): Tolerance(
        metric="mismatches", limit=0.0, reason="integer sums are exact below 2**31"
    ),
    ("library", "bf16"): Tolerance(
        metric="relative_rms",
        limit=1e-2,
        reason="one rounding to bf16 (2**-9) of results whose parts were rounded to bf16 or summed "
        "on 14 bits by fp8 units",
    ),
    ("library", "fp16"): Tolerance(
        metric="relative_rms", limit=2e-3, reason="roundings to fp16 (2**-11) of parts and result"
    ),
    ("library", "fp32"): Tolerance(
        metric="relative_rms",
        limit=2e-5,
        reason="fp32 sums of thousands of terms; tf32 would show as 3e-4",
    ),
    ("library_mixer", "bf16"): Tolerance(
        metric="relative_rms",
        limit=3e-2,
        reason="chunked recurrences round the state and the products of a chunk to bf16, and the "
        "errors add up along the sequence",
    ),
    ("int8_gemm", "int32"): Tolerance(
        metric="mismatches", limit=0.0, reason="integer sums are exact below 2**31"
    ),
    ("int8_gemm", "fp32"): Tolerance(
        metric="bound_ratio",
        limit=1.0,
        reason="exact int32 sum, then a conversion and two or three fp32 roundings: under the "
        "bound 2**-8 |y| by far, which bf16 outputs share",
    ),
    ("int8_gemm", "fp16"): Tolerance(
        metric="bound_ratio",
        limit=1.0,
        reason="one rounding to fp16 (2**-11 relative, 2**-25 absolute below its normal range) "
        "inside the bound 2**-8 |y| + 2**-25",
    ),
    ("int8_gemm", "bf16"): Tolerance(
        metric="bound_ratio",
        limit=1.0,
        reason="one rounding to bf16 (8 significant bits) takes up to 2**-8 |y| of the bound "
        "2**-8 |y| + eps sum|terms|",
    ),
    ("attention", "bf16"): Tolerance(
        metric="bound_ratio",
        limit=1.0,
        reason="the largest error is at most twice that of the plain 16-bit implementation on the "
        "same inputs (FlashAttention's rule), plus half a unit of the largest output",
    ),
    ("attention", "fp16"): Tolerance(
        metric="bound_ratio", limit=1.0, reason="as bf16, with fp16's unit"
    ),
    ("attention", "fp32"): Tolerance(
        metric="relative_rms",
        limit=1e-5,
        reason="fp32 sums of at most 64 Ki terms in blocks, powers of two to 5e-9",
    ),
    ("attention", "lse"): Tolerance(
        metric="largest_error",
        limit=1e-3,
        reason="tensor cores add fp32 with a unit of 2**-22 of the largest term; scores reach 80 "
        "and more, so a score may be off by a few 1e-4",
    ),
    ("attention", "rms"): Tolerance(
        metric="ratio",
        limit=1.05,
        reason="over many shapes the relative RMS error stays within 5 % of the plain 16-bit "
        "implementation's, which rounds more often",
    ),
    ("attention", "repeat"): Tolerance(
        metric="mismatches", limit=0.0, reason="sums are added in one order whatever runs first"
    ),
    ("selective_scan", "fp32"): Tolerance(
        metric="relative_rms",
        limit=1e-5,
        reason="fp32 recurrence: 2**-22 per exponential, compounded over as many steps as a decay "
        "is close to 1",
    ),
    ("selective_scan", "fp16"): _SIXTEEN_BITS,
    ("selective_scan", "bf16"): _SIXTEEN_BITS,
    ("selective_scan", "repeat"): Tolerance(
        metric="mismatches",
        limit=0.0,
        reason="states are handed over in fp32, and tokens are taken one after another",
    ),
    ("selective_scan", "state"): Tolerance(
        metric="relative_rms",
        limit=2e-5,
        reason="states never leave fp32; softplus for 16-bit data errs by 1.0e-5 at most",
    ),
    ("delta_rule", "repeat"): Tolerance(
        metric="mismatches",
        limit=0.0,
        reason="states are handed over in fp32 and chunks begin where they began",
    ),
    **{
        (operator, kind): rule
        for operator in ("delta_rule", "gla", "ssd")
        for kind, rule in {
            "fp32": Tolerance(
                metric="relative_rms", limit=1e-5, reason="fp32 recurrence, 2**-24 per step"
            ),
            "bf16": _SIXTEEN_BITS,
            "state": Tolerance(
                metric="relative_rms",
                limit=5e-3,
                reason="fp32 sums of products whose operands are rounded to bf16, once or twice",
            ),
            "repeat": Tolerance(
                metric="mismatches", limit=0.0, reason="a state handed on between chunks is exact"
            ),
        }.items()
    },
}
"""(operator, output type) -> tolerance: the only place where a tolerance is written."""


def tolerance(operator: str, dtype: str) -> Tolerance:
    """The tolerance of an operator's output type; raises UnknownName."""
    found = TOLERANCES.get((operator, dtype)) or TOLERANCES.get((operator, "any"))
    if found is None:
        known = [f"{op}/{kind}" for op, kind in TOLERANCES]
        raise UnknownName("tolerance", f"{operator}/{dtype}", known)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The verdict on one result; a time is reported only behind a passed gate."""

    passed: bool
    error: float
    tolerance: float
    metric: str

    def to_dict(self) -> dict[str, object]:
        """As measurement files store it."""
        return {
            "passed": self.passed,
            "error": self.error,
            "tolerance": self.tolerance,
            "metric": self.metric,
        }


def array_module(*arrays: Any) -> ModuleType:
    """CuPy if any of ``arrays`` is a CuPy array, else NumPy."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(a, cupy.ndarray) for a in arrays):
        return cupy
    return np


def relative_rms(actual: Any, expected: Any) -> float:
    """``||actual - expected|| / ||expected||`` in float64; infinite if anything is not finite."""
    xp = array_module(actual, expected)
    difference = actual.astype(xp.float64) - expected
    if not bool(xp.isfinite(difference).all()):
        return float("inf")
    scale = float(xp.linalg.norm(expected.ravel().astype(xp.float64)))
    error = float(xp.linalg.norm(difference.ravel()))
    return error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))


def largest_error(actual: Any, expected: Any) -> float:
    """The largest absolute difference; infinite if anything is not finite."""
    xp = array_module(actual, expected)
    difference = xp.abs(actual.astype(xp.float64) - expected)
    return float(difference.max()) if bool(xp.isfinite(difference).all()) else float("inf")


def bound_ratio(actual: Any, expected: Any, bound: Any) -> float:
    """The largest ``|actual - expected| / bound``, element by element; at most 1 passes.

    ``bound`` is positive where the result may differ at all; a difference over a zero bound, or
    anything not finite, is infinite.
    """
    xp = array_module(actual, expected)
    difference = xp.abs(actual.astype(xp.float64) - expected)
    if not bool(xp.isfinite(difference).all()):
        return float("inf")
    limit = xp.broadcast_to(xp.asarray(bound, dtype=xp.float64), difference.shape)
    if bool((difference[limit == 0] > 0).any()):
        return float("inf")
    return float((difference / xp.where(limit == 0, 1.0, limit)).max())


def mismatches(actual: Any, expected: Any) -> float:
    """How many elements differ (NaN differs from everything)."""
    xp = array_module(actual, expected)
    return float((actual != expected).sum()) if actual.shape == expected.shape else float(xp.inf)


def judge(
    operator: str, dtype: str, actual: Any, expected: Any, *, bound: Any | None = None
) -> Gate:
    """Hold a result to its tolerance.

    Args:
        operator: a name in :data:`TOLERANCES`, with ``dtype`` the output type.
        actual: the kernel's output, widened to a NumPy number type (bf16 by :func:`widen`).
        expected: the float64 oracle's output.
        bound: per-element error bound, for the metric ``bound_ratio``.

    Raises:
        UnknownName: no tolerance for this operator and type.
        BadValue: the metric needs a bound and none was given.
    """
    rule = tolerance(operator, dtype)
    if rule.metric == "bound_ratio" and bound is None:
        msg = f"the metric of {operator}/{dtype} needs the error bound of each element"
        raise BadValue(msg, field="bound")
    measured = {
        "relative_rms": lambda: relative_rms(actual, expected),
        "largest_error": lambda: largest_error(actual, expected),
        "bound_ratio": lambda: bound_ratio(actual, expected, bound),
        "mismatches": lambda: mismatches(actual, expected),
    }[rule.metric]()
    return Gate(
        passed=measured <= rule.limit, error=measured, tolerance=rule.limit, metric=rule.metric
    )


def widen(bits: Any, dtype: str) -> Any:
    """Raw bf16 bits (uint16) as float32 values; other types as they are."""
    if dtype != "bf16" or bits.dtype.name != "uint16":
        return bits
    xp = array_module(bits)
    return (bits.astype(xp.uint32) << 16).view(xp.float32)


def narrow_bf16(values: Any) -> Any:
    """float32 values as raw bf16 bits (uint16), rounded to nearest even."""
    xp = array_module(values)
    bits = values.astype(xp.float32).view(xp.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(xp.uint16)


_POISON: dict[str, tuple[int, int]] = {
    "float64": (0x7FF8_0000_0000_0001, 0x7FF8_0000_0000_0002),
    "float32": (0x7FC0_0001, 0x7FC0_0002),
    "float16": (0x7E01, 0x7E02),
    "uint16": (0x7FC1, 0x7FC2),
    "int32": (0x5A5A_5A5A, 0x2525_2525),
    "int8": (0x5A, 0x25),
    "uint8": (0x7F, 0xFF),
}


def poisoned(shape: Sequence[int], dtype: str, xp: ModuleType = np, pattern: int = 0) -> Any:
    """An output buffer of NaN (``dtype`` is a storage type; uint16 holds bf16, uint8 fp8).

    Integers have no NaN: run twice, with ``pattern`` 0 and 1, and compare the outputs: an element
    that nobody wrote differs.
    """
    itemsize = np.dtype(dtype).itemsize
    raw = xp.full(tuple(shape), _POISON[dtype][pattern], dtype=f"uint{8 * itemsize}")
    return raw.view(dtype)


def generator(seed: int, xp: ModuleType = np) -> Any:
    """A random generator of the array module; every check draws fresh inputs from its seed."""
    return xp.random.default_rng(seed)


def random_int8(rng: Any, shape: Sequence[int]) -> Any:
    """Uniform bytes over [-127, 127], the symmetric range of quantised values."""
    return rng.integers(-127, 128, size=tuple(shape)).astype(np.int8)


def random_normal(rng: Any, shape: Sequence[int], *, scale: float = 1.0) -> Any:
    """Normal float32 values with standard deviation ``scale``."""
    drawn = rng.standard_normal(tuple(shape), dtype=np.float32)
    return drawn * np.float32(scale)
