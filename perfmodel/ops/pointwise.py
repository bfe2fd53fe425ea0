"""Norms, softmax and element-wise operators."""

from __future__ import annotations

import numpy as np

from perfmodel.ops.cost import Cost
from perfmodel.ops.numbers import f64, stored
from perfmodel.workload import Elementwise, Norm, RateKey

VECTOR: RateKey = ("vector", "fp32", "fp32")
_FLOPS_PER_ELEMENT = {"rms": 4.0, "layer": 8.0, "softmax": 4.0}
_WEIGHTS_PER_COLUMN = {"rms": 1.0, "layer": 2.0, "softmax": 0.0}


def count_norm(w: Norm) -> Cost:
    """RMSNorm, LayerNorm or softmax over rows of ``cols``, arithmetic in fp32.

    FLOPs per element: RMS 4 (square and sum 2, scale and weight 2; Zhang and Sennrich,
    arXiv 1910.07467), layer 8 (mean 1, variance 3, normalise 2, affine 2; Ba et al.,
    arXiv 1607.06450), softmax 4 (max, subtract, sum, scale). Special: one rsqrt per row; softmax
    one exponential per element and one reciprocal per row. Bytes: input and output once, the
    weights once; ``residual`` reads a second input, adds it and writes the sum.
    """
    rows, cols = f64(w.rows), f64(w.cols)
    elements, size = rows * cols, stored(w.dtype)
    extra = 1.0 if w.residual else 0.0
    weights = _WEIGHTS_PER_COLUMN[w.kind] * cols * size
    return Cost(
        flops={VECTOR: elements * (_FLOPS_PER_ELEMENT[w.kind] + extra)},
        special=elements + rows if w.kind == "softmax" else rows + 0.0 * cols,
        read_bytes=elements * (1.0 + extra) * size + weights,
        write_bytes=elements * (1.0 + extra) * size,
        weight_bytes=weights,
        items=rows + 0.0 * cols,
    )


def count_elementwise(w: Elementwise) -> Cost:
    """``elements`` outputs: the descriptor's reads, writes, FLOPs and special functions of each."""
    elements, size = f64(w.elements), stored(w.dtype)
    return Cost(
        flops={VECTOR: elements * f64(w.flops)},
        special=elements * f64(w.special),
        read_bytes=elements * f64(w.reads) * size,
        write_bytes=elements * f64(w.writes) * size,
        items=elements * np.float64(1.0),
    )
