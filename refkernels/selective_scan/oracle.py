"""The recurrence of ``naive`` compiled: float64, channel by channel, fast enough for timed shapes.

``naive`` takes a launch or a NumPy call for every token; 65,536 tokens of a few channels take this
walk a second. The two agree to rounding (a test holds them to it). Nothing is reordered: no fast
mathematics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from refkernels._check import widen
from refkernels.selective_scan.naive import Inputs, check_shapes


def selective_scan(
    x: Inputs, channels: Any = None, initial: Any = None, dtype: str = "fp32"
) -> tuple[Any, Any]:
    """``(out, final state)`` of some ``channels`` (indices; default all) in float64, in NumPy.

    ``x`` and ``initial`` hold all channels, in NumPy or CuPy; ``dtype`` is that of the streams
    (bf16 as raw bits). Raises as ``naive`` does.
    """

    def host(array: Any) -> Any:
        wide = widen(array, dtype)
        return np.ascontiguousarray(wide.get() if hasattr(wide, "get") else wide, np.float64)

    check_shapes(x)
    batch, count, length = x.u.shape
    some = np.arange(count) if channels is None else np.asarray(channels)
    states, group = x.a.shape[1], some // (count // x.b.shape[1])
    h = np.zeros((batch, some.size, states))
    if initial is not None:
        h[...] = host(initial[:, some])
    zeros, none = np.zeros(some.size), np.zeros((1, 1, 1))
    # B and C with the states innermost: one row per token.
    b, c = (np.ascontiguousarray(host(m).transpose(0, 1, 3, 2)) for m in (x.b, x.c))
    out = np.empty((batch, some.size, length))
    _walk(
        host(x.u[:, some]),
        host(x.delta[:, some]),
        host(x.a[some]),
        b,
        c,
        group,
        zeros if x.skip is None else host(x.skip[some]),
        none if x.z is None else host(x.z[:, some]),
        zeros if x.bias is None else host(x.bias[some]),
        x.z is not None,
        x.softplus,
        h,
        out,
    )
    return out, h


@njit(parallel=True, cache=True)
def _walk(
    u: Any,
    delta: Any,
    a: Any,
    b: Any,
    c: Any,
    group: Any,
    skip: Any,
    z: Any,
    bias: Any,
    gated: bool,
    soft: bool,
    h: Any,
    out: Any,
) -> None:
    batch, channels, length = u.shape
    states = a.shape[1]
    for row in prange(batch * channels):
        i, d = row // channels, row % channels
        for t in range(length):
            dt = delta[i, d, t] + bias[d]
            if soft:
                dt = max(dt, 0.0) + np.log1p(np.exp(-abs(dt)))
            x = u[i, d, t]
            y = skip[d] * x
            for n in range(states):
                h[i, d, n] = np.exp(dt * a[d, n]) * h[i, d, n] + dt * x * b[i, group[d], t, n]
                y += c[i, group[d], t, n] * h[i, d, n]
            if gated:
                y *= z[i, d, t] / (1.0 + np.exp(-z[i, d, t]))
            out[i, d, t] = y
