"""Gated linear attention on the CPU: numba, heads over the cores, the recurrence as written.

5 FLOP per state element and token on vectors of the value dimension; the state of a head
(64 KiB at 128 x 128) stays in L2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from refkernels.gla.naive import check_shapes


def gla(
    q: Any, k: Any, v: Any, g: Any = None, *, scale: float | None = None, initial: Any = None
) -> tuple[Any, Any]:
    """``(o, final state)`` in fp32; see ``naive``."""
    check_shapes(q, k, v, g)
    batch, length, heads, dk = q.shape
    gates = np.zeros((batch, length, heads, 1), np.float32) if g is None else g
    gates = gates[..., None] if gates.ndim == 3 else gates
    state = np.zeros((batch, heads, dk, v.shape[-1]), np.float32)
    if initial is not None:
        state[...] = initial
    out = np.empty(v.shape, np.float32)
    _recur(q, k, v, gates, np.float32(dk**-0.5 if scale is None else scale), state, out)
    return out, state


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc"})
def _recur(q: Any, k: Any, v: Any, g: Any, scale: Any, state: Any, out: Any) -> None:
    batch, length, heads, dk = q.shape
    dv = v.shape[3]
    for row in prange(batch * heads):
        i, h = row // heads, row % heads
        for t in range(length):
            for col in range(dv):
                out[i, t, h, col] = 0
            for d in range(dk):
                w = np.exp(g[i, t, h, d if g.shape[3] > 1 else 0])
                key, query = k[i, t, h, d], q[i, t, h, d] * scale
                for col in range(dv):
                    s = w * state[i, h, d, col] + key * v[i, t, h, col]
                    state[i, h, d, col] = s
                    out[i, t, h, col] += query * s
