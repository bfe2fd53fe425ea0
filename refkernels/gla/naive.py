"""Gated linear attention as its paper writes it, one token at a time, in float64.

Yang et al., "Gated Linear Attention Transformers with Hardware-Efficient Training"
(arXiv 2312.06635), equation 3, with the gate as its logarithm ``g``:

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T,      o_t = scale S_t^T q_t

Shapes: q, k [batch, length, heads, dk]; v, o [batch, length, heads, dv]; states
[batch, heads, dk, dv]. ``g`` is [batch, length, heads, dk] (vector gate), [batch, length, heads]
(scalar gate: retention, simple GLA) or None.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.errors import BadValue


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
    """``(o, final state)``; ``scale`` defaults to ``dk ** -0.5``, ``initial`` to zeros.

    Raises:
        BadValue: shapes that do not belong together.
    """
    check_shapes(q, k, v, g)
    q, k, v = (xp.asarray(x, dtype=xp.float64) for x in (q, k, v))
    batch, length, heads, dk = q.shape
    factor = dk**-0.5 if scale is None else scale
    decay = decays(g, (batch, length, heads, dk), xp)
    state = xp.zeros((batch, heads, dk, v.shape[-1]))
    if initial is not None:
        state = xp.asarray(initial, dtype=xp.float64)
    out = xp.empty(v.shape)
    for t in range(length):
        state = decay[:, t, :, :, None] * state + k[:, t, :, :, None] * v[:, t, :, None, :]
        out[:, t] = factor * (q[:, t, :, None, :] @ state)[..., 0, :]
    return out, state


def decays(g: Any, shape: tuple[int, ...], xp: ModuleType = np) -> Any:
    """``exp(g)`` for every key dimension, whatever the kind of gate."""
    if g is None:
        return xp.ones(shape)
    g = xp.asarray(g, dtype=xp.float64)
    return xp.broadcast_to(xp.exp(g if g.ndim == 4 else g[..., None]), shape)


def check_shapes(q: Any, k: Any, v: Any, g: Any) -> None:
    """Raises BadValue naming the first array whose shape does not fit ``q``."""
    wanted = {"k": (k, q.shape), "v": (v, (*q.shape[:3], v.shape[-1]))}
    for name, (array, shape) in wanted.items():
        if tuple(array.shape) != tuple(shape):
            msg = f"must have shape {tuple(shape)}, got {tuple(array.shape)}"
            raise BadValue(msg, field=name)
    if g is not None and tuple(g.shape) not in (tuple(q.shape), tuple(q.shape[:3])):
        msg = f"must have shape {tuple(q.shape)} or {tuple(q.shape[:3])}, got {tuple(g.shape)}"
        raise BadValue(msg, field="g")
