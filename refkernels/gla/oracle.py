"""``naive.gla`` in float64, chunk by chunk: the same sums in another order, for long sequences.

Within a chunk every pair of tokens gets its own decay, from the difference of the gates' sums, so
that no factor exceeds 1 whatever the gates (all gates are at most 0).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from refkernels.gla.naive import check_shapes

CHUNK = 32
"""Tokens whose pairs are formed at once."""


def gla(
    q: Any,
    k: Any,
    v: Any,
    g: Any = None,
    *,
    scale: float | None = None,
    initial: Any = None,
    xp: ModuleType = np,
) -> tuple[Any, Any]:
    """``(o, final state)``, arguments as ``naive.gla``.

    Raises:
        BadValue: shapes that do not belong together.
    """
    check_shapes(q, k, v, g)
    q, k, v = (_by_head(x, xp) for x in (q, k, v))
    batch, heads, length, dk = q.shape
    gates = xp.zeros((batch, heads, length, 1)) if g is None else _gates(g, xp)
    state = xp.zeros((batch, heads, dk, v.shape[-1]))
    if initial is not None:
        state = xp.asarray(initial, dtype=xp.float64)
    out = xp.empty(v.shape)
    for start in range(0, length, CHUNK):
        cut = np.s_[:, :, start : start + CHUNK]
        out[cut], state = _chunk(q[cut], k[cut], v[cut], gates[cut], state, xp)
    factor = dk**-0.5 if scale is None else scale
    return factor * xp.moveaxis(out, 1, 2), state


def _by_head(x: Any, xp: ModuleType) -> Any:
    return xp.moveaxis(xp.asarray(x, dtype=xp.float64), 2, 1)


def _gates(g: Any, xp: ModuleType) -> Any:
    return _by_head(g if g.ndim == 4 else g[..., None], xp)


def _chunk(q: Any, k: Any, v: Any, g: Any, state: Any, xp: ModuleType) -> tuple[Any, Any]:
    total = xp.cumsum(g, axis=2)
    seen = xp.tril(xp.ones((q.shape[2], q.shape[2]), dtype=bool))[:, :, None]
    between = xp.where(seen, total[:, :, :, None] - total[:, :, None], -xp.inf)
    decay = xp.exp(between)
    if g.shape[-1] == 1:
        scores = decay[..., 0] * (q @ xp.swapaxes(k, 2, 3))
    else:
        scores = (q[:, :, :, None] * k[:, :, None] * decay).sum(axis=-1)
    out = (q * xp.exp(total)) @ state + scores @ v
    pushed = k * xp.exp(total[:, :, -1:] - total)
    whole = xp.exp(total[:, :, -1])[..., None]
    return out, whole * state + xp.swapaxes(pushed, 2, 3) @ v
