"""State-space duality as its paper writes it, one token at a time, in float64.

Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), equations 1 and 16 with the discretisation
of its implementation: with ``dt = softplus(delta + bias)``, per head

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T,      y_t = h_t^T C_t + D x_t

Shapes: x, y [batch, length, heads, P]; delta [batch, length, heads]; A, D, bias [heads]; B, C
[batch, length, groups, N]; states [batch, heads, N, P]. Heads of a group are neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.errors import BadValue
from refkernels.gla import naive as linear


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Arrays of one SSD; ``None`` where a part is left out."""

    x: Any
    delta: Any
    a: Any
    b: Any
    c: Any
    skip: Any = None
    bias: Any = None
    softplus: bool = True


def ssd(
    s: Inputs,
    initial: Any = None,
    xp: ModuleType = np,
    recurrence: Callable[..., tuple[Any, Any]] = linear.gla,
) -> tuple[Any, Any]:
    """``(y, final state)`` in float64; ``initial`` defaults to zeros.

    The recurrence is linear attention's with q = C, k = dt B, v = x and the gate dt A.

    Raises:
        BadValue: shapes that do not belong together.
    """
    check_shapes(s)
    x, dt = xp.asarray(s.x, dtype=xp.float64), step_sizes(s, xp)
    b, c = (repeated(m, s.x.shape[2], xp) for m in (s.b, s.c))
    gate = dt * xp.asarray(s.a, dtype=xp.float64)
    y, state = recurrence(c, b * dt[..., None], x, gate, scale=1.0, initial=initial, xp=xp)
    if s.skip is not None:
        y = y + xp.asarray(s.skip, dtype=xp.float64)[:, None] * x
    return y, state


def step_sizes(s: Inputs, xp: ModuleType = np) -> Any:
    """dt [batch, length, heads]: ``delta + bias``, through softplus where asked."""
    delta = xp.asarray(s.delta, dtype=xp.float64)
    if s.bias is not None:
        delta = delta + xp.asarray(s.bias, dtype=xp.float64)
    return xp.logaddexp(0.0, delta) if s.softplus else delta


def repeated(m: Any, heads: int, xp: ModuleType = np) -> Any:
    """B or C with one copy per head."""
    return xp.repeat(xp.asarray(m, dtype=xp.float64), heads // m.shape[2], axis=2)


def check_shapes(s: Inputs) -> None:
    """Raises BadValue naming the first array whose shape does not fit ``x`` and ``b``."""
    batch, length, heads, _ = s.x.shape
    groups, states = s.b.shape[2:]
    wanted = {
        "delta": (s.delta, (batch, length, heads)),
        "a": (s.a, (heads,)),
        "b": (s.b, (batch, length, groups, states)),
        "c": (s.c, (batch, length, groups, states)),
        "skip": (s.skip, (heads,)),
        "bias": (s.bias, (heads,)),
    }
    for name, (array, shape) in wanted.items():
        if array is not None and tuple(array.shape) != shape:
            msg = f"must have shape {shape}, got {tuple(array.shape)}"
            raise BadValue(msg, field=name)
    if heads % groups:
        msg = f"{groups} groups do not divide {heads} heads"
        raise BadValue(msg, field="b")
