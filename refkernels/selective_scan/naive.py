"""The selective scan as its paper writes it, one token at a time, in float64.

Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv 2312.00752),
equations 2a, 2b with the discretisation of section 3.2 as the reference implementation has it: the
exponential for A, the product ``dt B`` for B. With ``dt = softplus(delta + bias)``,

    h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t,    y_t = C_t h_t + D u_t,    out_t = y_t silu(z_t)

Shapes: u, delta, z, out [batch, channels, length]; A [channels, N]; B, C
[batch, groups, N, length]; D, bias [channels]; states [batch, channels, N]. Channels of a group
are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.errors import BadValue


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Arrays of one scan; ``None`` where a part is left out."""

    u: Any
    delta: Any
    a: Any
    b: Any
    c: Any
    skip: Any = None
    z: Any = None
    bias: Any = None
    softplus: bool = True


def selective_scan(x: Inputs, initial: Any = None, xp: ModuleType = np) -> tuple[Any, Any]:
    """``(out, final state)`` in float64; ``initial`` defaults to zeros.

    Raises:
        BadValue: shapes that do not belong together.
    """
    check_shapes(x)
    u, dt, a = f64(x.u, xp), step_sizes(x, xp), f64(x.a, xp)
    batch, channels, length = u.shape
    repeats = channels // x.b.shape[1]
    b, c = (xp.repeat(f64(m, xp), repeats, axis=1) for m in (x.b, x.c))
    h = xp.zeros((batch, channels, a.shape[1])) if initial is None else f64(initial, xp)
    y = xp.empty_like(u)
    for t in range(length):
        h = xp.exp(dt[..., t, None] * a) * h + (dt * u)[..., t, None] * b[..., t]
        y[..., t] = (c[..., t] * h).sum(axis=-1)
    if x.skip is not None:
        y = y + f64(x.skip, xp)[:, None] * u
    if x.z is not None:
        y = y * silu(f64(x.z, xp), xp)
    return y, h


def step_sizes(x: Inputs, xp: ModuleType = np) -> Any:
    """dt [batch, channels, length]: ``delta + bias``, through softplus where asked."""
    delta = f64(x.delta, xp)
    if x.bias is not None:
        delta = delta + f64(x.bias, xp)[:, None]
    return xp.logaddexp(0.0, delta) if x.softplus else delta


def silu(z: Any, xp: ModuleType = np) -> Any:
    """``z / (1 + exp(-z))`` without overflow."""
    e = xp.exp(-xp.abs(z))
    return z * xp.where(z >= 0, 1.0, e) / (1.0 + e)


def f64(x: Any, xp: ModuleType = np) -> Any:
    """``x`` as a float64 array of ``xp``."""
    return xp.asarray(x, dtype=xp.float64)


def check_shapes(x: Inputs) -> None:
    """Raises BadValue naming the first array whose shape does not fit ``u`` and ``a``."""
    batch, channels, length = x.u.shape
    groups, states = x.b.shape[1], x.a.shape[-1]
    wanted = {
        "delta": (x.delta, (batch, channels, length)),
        "a": (x.a, (channels, states)),
        "b": (x.b, (batch, groups, states, length)),
        "c": (x.c, (batch, groups, states, length)),
        "skip": (x.skip, (channels,)),
        "z": (x.z, (batch, channels, length)),
        "bias": (x.bias, (channels,)),
    }
    for name, (array, shape) in wanted.items():
        if array is not None and tuple(array.shape) != shape:
            msg = f"must have shape {shape}, got {tuple(array.shape)}"
            raise BadValue(msg, field=name)
    if channels % groups:
        msg = f"{groups} groups do not divide {channels} channels"
        raise BadValue(msg, field="b")
