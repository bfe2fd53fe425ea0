"""Matrix products."""

from __future__ import annotations

import numpy as np

from perfmodel.ops.cost import ZERO, Cost
from perfmodel.ops.numbers import ceil_div, f64, stored
from perfmodel.workload import Array, Gemm, dtype_bytes
from perfmodel.workload.dtypes import WEIGHT_SCALES


def weight_bytes(w: Gemm) -> Array:
    """Bytes of one product's weight matrix ``[k, n]`` with its scales.

    ``k * n`` elements, and for weights narrower than the activations ``ceil(k / group_size) * n``
    scales (one for each output column without groups), as wide as the format's.
    """
    k, n = f64(w.k), f64(w.n)
    _, scale_bytes = WEIGHT_SCALES.get(_weight_dtype(w), (None, 2.0))
    return k * n * stored(_weight_dtype(w)) + scale_count(w) * np.float64(scale_bytes)


def scale_count(w: Gemm) -> Array:
    """Scales of one weight matrix: 0 where weights are as wide as the activations, or wider."""
    if not is_weight_only(w) and w.group_size is None:
        return ZERO
    groups = ceil_div(w.k, w.k if w.group_size is None else w.group_size)
    return groups * f64(w.n)


def is_weight_only(w: Gemm) -> bool:
    """Whether weights are stored narrower than the type in which the product runs."""
    return dtype_bytes(_weight_dtype(w)) < dtype_bytes(w.dtype)


def count_gemm(w: Gemm) -> Cost:
    """``out[m, n] = act[m, k] @ weight[k, n]``, ``batch`` times.

    FLOPs ``2 m n k`` (one FMA each), at the rate of the activation type: weight-only formats are
    widened on the way into the product. Bytes: activations, weights and output once each. Scales of
    an activation's rows (W8A8) are ``m`` numbers and are left out.
    """
    m, n, k, batch = f64(w.m), f64(w.n), f64(w.k), f64(w.batch)
    assert w.acc_dtype is not None
    assert w.out_dtype is not None
    weights = batch * weight_bytes(w)
    return Cost(
        flops={("tensor", w.dtype, w.acc_dtype): 2.0 * batch * m * n * k},
        read_bytes=batch * m * k * stored(w.dtype) + weights,
        write_bytes=batch * m * n * stored(w.out_dtype),
        weight_bytes=weights,
        items=batch * m * n,
    )


def _weight_dtype(w: Gemm) -> str:
    assert w.weight_dtype is not None
    return w.weight_dtype
