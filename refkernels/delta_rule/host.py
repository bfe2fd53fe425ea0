"""The delta rule on the CPU: numba, heads over the cores, the recurrence as written.

7 FLOP per state element and token: decay, read-out by k, update, read-out by q, in two walks over a
state that stays in L2 (64 KiB at 128 x 128). In fp64 it is ``naive``, compiled: what gates compare
long sequences with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from refkernels.delta_rule.naive import check_shapes


def delta_rule(
    q: Any,
    k: Any,
    v: Any,
    beta: Any,
    g: Any = None,
    *,
    scale: float | None = None,
    initial: Any = None,
) -> tuple[Any, Any]:
    """``(o, final state)`` in the type of ``v``, fp32 or fp64; see ``naive``."""
    check_shapes(q, k, v, beta, g)
    batch, _, heads, dv = v.shape
    dk = q.shape[-1]
    decay = np.ones(beta.shape, v.dtype) if g is None else np.exp(g)
    state = np.zeros((batch, heads, dk, dv), v.dtype)
    if initial is not None:
        state[...] = initial
    out = np.empty(v.shape, v.dtype)
    factor = v.dtype.type(dk**-0.5 if scale is None else scale)
    _recur(q, k, v, beta, decay, factor, state, out)
    return out, state


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc"})
def _recur(q: Any, k: Any, v: Any, beta: Any, decay: Any, scale: Any, state: Any, out: Any) -> None:
    batch, length, heads, dv = v.shape
    key_heads, dk = q.shape[2:]
    for row in prange(batch * heads):
        i, h = row // heads, row % heads
        shared = h // (heads // key_heads)
        error = np.empty(dv, v.dtype)
        for t in range(length):
            error[:] = v[i, t, h]
            for d in range(dk):
                key = k[i, t, shared, d]
                for col in range(dv):
                    s = decay[i, t, h] * state[i, h, d, col]
                    state[i, h, d, col] = s
                    error[col] -= key * s
            for col in range(dv):
                error[col] *= beta[i, t, h]
                out[i, t, h, col] = 0
            for d in range(dk):
                key, query = k[i, t, shared, d], q[i, t, shared, d] * scale
                for col in range(dv):
                    s = state[i, h, d, col] + key * error[col]
                    state[i, h, d, col] = s
                    out[i, t, h, col] += query * s
