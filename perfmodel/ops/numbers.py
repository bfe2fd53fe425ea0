"""Arithmetic that counting shares: exact float64 integers, rounding up, capped series."""

from __future__ import annotations

import numpy as np

from perfmodel.workload import Array, Real, Size, dtype_bytes, is_integer_dtype


def f64(value: Size | Real | Array) -> Array:
    """``value`` as float64, widened before anything is multiplied."""
    widened: Array = np.asarray(value, dtype=np.float64)[()]
    return widened


def ceil_div(whole: Size | Array, part: Size | Array) -> Array:
    """How many pieces of ``part`` cover ``whole``: ceil(whole / part)."""
    pieces: Array = np.ceil(f64(whole) / f64(part))
    return pieces


def capped_series(first: Size | Array, terms: Size | Array, cap: Size | Array) -> Array:
    """``sum over i = 0 .. terms-1 of min(first + i, cap)``, in closed form.

    The first ``r = clip(cap - first, 0, terms)`` terms rise as first, first + 1, ...; the others
    equal ``cap``. Exact while the result is below 2**53. With ``first = kv - q + 1``, ``terms = q``
    and ``cap = window`` it counts the (query, key) pairs of windowed causal attention.
    """
    start, count, top = f64(first), f64(terms), f64(cap)
    rising = np.clip(top - start, 0.0, count)
    pairs: Array = rising * start + rising * (rising - 1.0) / 2.0 + (count - rising) * top
    return pairs


def accumulator(dtype: str) -> str:
    """The type in which products of ``dtype`` are summed when nothing else is said."""
    if dtype == "fp64":
        return "fp64"
    return "int32" if is_integer_dtype(dtype) else "fp32"


def stored(dtype: str) -> np.float64:
    """Bytes of one element as float64."""
    return np.float64(dtype_bytes(dtype))
