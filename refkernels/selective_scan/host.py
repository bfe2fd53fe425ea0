"""The selective scan on the CPU: numba, channels over the cores, states in the vector lanes.

The roof is the exponential: N per (token, channel), which LLVM vectorises only with a vector
library; the rest is four multiply-adds per state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from refkernels.selective_scan.naive import Inputs, check_shapes


def selective_scan(x: Inputs, initial: Any = None) -> tuple[Any, Any]:
    """``(out, final state)`` in fp32, as the arrays of ``x``; raises as ``naive`` does."""
    check_shapes(x)
    batch, channels, length = x.u.shape
    zeros = np.zeros(channels, np.float32)
    h = np.zeros((batch, channels, x.a.shape[1]), np.float32)
    if initial is not None:
        h[...] = initial
    # B and C with the states innermost: one row per token.
    b, c = (np.ascontiguousarray(m.transpose(0, 1, 3, 2)) for m in (x.b, x.c))
    out = np.empty((batch, channels, length), np.float32)
    _scan(
        x.u,
        x.delta,
        x.a,
        b,
        c,
        zeros if x.skip is None else x.skip,
        x.u if x.z is None else x.z,
        zeros if x.bias is None else x.bias,
        x.z is not None,
        x.softplus,
        h,
        out,
    )
    return out, h


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc"})
def _scan(
    u: Any,
    delta: Any,
    a: Any,
    b: Any,
    c: Any,
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
    per_group = channels // b.shape[1]
    one = np.float32(1.0)
    for row in prange(batch * channels):
        i, d = row // channels, row % channels
        state = h[i, d]
        for t in range(length):
            dt = delta[i, d, t] + bias[d]
            if soft and dt < np.float32(20.0):
                dt = np.log1p(np.exp(dt))
            x = u[i, d, t]
            y = skip[d] * x
            for n in range(states):
                w = np.exp(dt * a[d, n])
                state[n] = w * state[n] + dt * x * b[i, d // per_group, t, n]
                y += c[i, d // per_group, t, n] * state[n]
            if gated:
                y = y * z[i, d, t] / (one + np.exp(-z[i, d, t]))
            out[i, d, t] = y
