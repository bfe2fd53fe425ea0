"""The (gated) delta rule as its papers write it, one token at a time, in float64.

Yang et al., "Gated Delta Networks" (arXiv 2412.06464), equation 10, with the gate as its logarithm
``g`` (None: DeltaNet, arXiv 2406.06484, equation 3) and the state transposed, as it is stored:

    S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,      o_t = scale S_t^T q_t

Shapes: q, k [batch, length, key_heads, dk]; v, o [batch, length, heads, dv]; g, beta
[batch, length, heads]; states [batch, heads, dk, dv]. ``heads`` is a multiple of ``key_heads``:
neighbouring heads share q and k. Keys have unit length and beta lies in (0, 1), or states may grow.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.errors import BadValue


def delta_rule(
    q: Any,
    k: Any,
    v: Any,
    beta: Any,
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
    check_shapes(q, k, v, beta, g)
    q, k, v, beta = (xp.asarray(x, dtype=xp.float64) for x in (q, k, v, beta))
    batch, length, heads, dv = v.shape
    dk = q.shape[-1]
    q, k = (xp.repeat(x, heads // q.shape[2], axis=2) for x in (q, k))
    factor = dk**-0.5 if scale is None else scale
    decay = xp.ones(beta.shape) if g is None else xp.exp(xp.asarray(g, dtype=xp.float64))
    state = xp.zeros((batch, heads, dk, dv))
    if initial is not None:
        state = xp.asarray(initial, dtype=xp.float64)
    out = xp.empty(v.shape)
    for t in range(length):
        state = decay[:, t, :, None, None] * state
        error = beta[:, t, :, None] * (v[:, t] - _read(state, k[:, t]))
        state = state + k[:, t, :, :, None] * error[:, :, None, :]
        out[:, t] = factor * _read(state, q[:, t])
    return out, state


def _read(state: Any, x: Any) -> Any:
    """``S^T x`` for every head."""
    return (x[:, :, None, :] @ state)[:, :, 0, :]


def check_shapes(q: Any, k: Any, v: Any, beta: Any, g: Any) -> None:
    """Raises BadValue naming the first array whose shape does not fit ``q`` and ``v``."""
    if v.ndim != 4 or q.ndim != 4 or v.shape[2] % q.shape[2]:
        msg = f"must be [batch, length, a multiple of {q.shape[2]} heads, dv], got {v.shape}"
        raise BadValue(msg, field="v")
    tokens = tuple(v.shape[:2])
    wanted = {
        "q": (q, (*tokens, *q.shape[2:])),
        "k": (k, q.shape),
        "beta": (beta, v.shape[:3]),
        "g": (g, v.shape[:3]),
    }
    for name, (array, shape) in wanted.items():
        if array is not None and tuple(array.shape) != tuple(shape):
            msg = f"must have shape {tuple(shape)}, got {tuple(array.shape)}"
            raise BadValue(msg, field=name)
