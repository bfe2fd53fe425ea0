"""The definition: what every other implementation is held to. NumPy or CuPy, by an ``xp`` argument.

One sequence: ``q`` [q_len, heads, d], ``k`` and ``v`` [kv_len, kv_heads, d]; query head h uses KV
head ``h // (heads / kv_heads)``. Query i is the token at position ``kv_len - q_len + i``
(bottom-right alignment) and sees the keys j of ``[first, end)``::

    end   = max(0, i + 1 + kv_len - q_len) if causal else kv_len
    first = max(0, end - window)           (window None: 0)

    s[i, j] = scale * q[i] . k[j]
    softmax:  o[i] = sum_j exp(s[i, j] - lse[i]) v[j],   lse[i] = log sum_j exp(s[i, j])
    sigmoid:  o[i] = sum_j v[j] / (1 + exp(-(s[i, j] + bias)))

A query that sees no key has o = 0 and lse = -inf. Everything is computed in float64, whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.errors import BadValue
from refkernels._check import narrow_bf16, widen


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What kind of attention: the mask, the scale, how scores become weights."""

    causal: bool = False
    window: int | None = None
    scale: float | None = None
    """None: 1 / sqrt(d)."""
    score: str = "softmax"
    bias: float | None = None
    """Sigmoid only. None: -log(kv_len) of each sequence."""

    def scale_of(self, head_dim: int) -> float:
        """The scale of the scores."""
        return 1.0 / math.sqrt(head_dim) if self.scale is None else self.scale

    def bias_of(self, kv_len: int) -> float:
        """The sigmoid's bias."""
        return -math.log(max(kv_len, 1)) if self.bias is None else self.bias


def visible(q_len: int, kv_len: int, form: Form, xp: ModuleType = np) -> Any:
    """The mask [q_len, kv_len]: true where a query sees a key."""
    row = xp.arange(q_len)[:, None]
    key = xp.arange(kv_len)[None, :]
    end = xp.maximum(row + 1 + kv_len - q_len, 0) if form.causal else xp.full_like(row, kv_len)
    first = xp.zeros_like(end) if form.window is None else xp.maximum(end - form.window, 0)
    return (key >= first) & (key < end)


def attend(q: Any, k: Any, v: Any, form: Form, xp: ModuleType = np) -> tuple[Any, Any]:
    """``(o, lse)`` of one sequence: o [q_len, heads, d], lse [heads, q_len], float64."""
    return _attend(q, k, v, form, xp, _exact)


def rounded(q: Any, k: Any, v: Any, form: Form, dtype: str, xp: ModuleType = np) -> Any:
    """The plain 16-bit implementation: scores, weights and outputs are rounded to ``dtype``.

    Not an oracle but a yardstick: what a framework without a fused kernel gives on these inputs.
    """
    return _attend(q, k, v, form, xp, lambda x: rounded_to(x, dtype, xp))[0]


def rounded_to(x: Any, dtype: str, xp: ModuleType = np) -> Any:
    """Values rounded to bf16 or fp16, as float64."""
    if dtype == "bf16":
        return widen(narrow_bf16(x.astype(xp.float32)), "bf16").astype(xp.float64)
    return x.astype(xp.float16).astype(xp.float64)


def _exact(x: Any) -> Any:
    return x


def _attend(q: Any, k: Any, v: Any, form: Form, xp: ModuleType, rounding: Any) -> tuple[Any, Any]:
    check_shapes(q, k, v)
    q_len, heads, head_dim = q.shape
    kv_len, kv_heads = k.shape[:2]
    if kv_len == 0:
        return xp.zeros((q_len, heads, head_dim)), xp.full((heads, q_len), -xp.inf)
    owner = xp.arange(heads) * kv_heads // heads
    queries = q.astype(xp.float64).transpose(1, 0, 2)
    keys, values = (x.astype(xp.float64)[:, owner].transpose(1, 0, 2) for x in (k, v))
    products = rounding(queries @ keys.transpose(0, 2, 1))
    mask = visible(q_len, kv_len, form, xp)
    scores = xp.where(mask, products * form.scale_of(head_dim), -xp.inf)
    weights, lse = _weights(scores, form.bias_of(kv_len), form.score, xp)
    return rounding(rounding(weights) @ values).transpose(1, 0, 2), lse


def _weights(scores: Any, bias: float, score: str, xp: ModuleType) -> tuple[Any, Any]:
    if score == "sigmoid":
        return _logistic(scores + bias, xp), xp.full(scores.shape[:-1], -xp.inf)
    top = scores.max(axis=-1, keepdims=True)
    powers = xp.exp(scores - xp.where(xp.isfinite(top), top, 0.0))
    total = powers.sum(axis=-1, keepdims=True)
    seen = total > 0
    weights = powers / xp.where(seen, total, 1.0)
    lse = xp.where(seen, top + xp.log(xp.where(seen, total, 1.0)), -xp.inf)
    return weights, lse[..., 0]


def _logistic(x: Any, xp: ModuleType) -> Any:
    """1 / (1 + exp(-x)), without overflow at either end."""
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0, small) / (1.0 + small)


def attend_packed(
    q: Any,
    k: Any,
    v: Any,
    form: Form,
    q_starts: Any,
    kv_starts: Any,
    xp: ModuleType = np,
    dtype: str | None = None,
) -> tuple[Any, Any]:
    """As :func:`attend` for sequences one after another; ``starts`` are cumulative lengths.

    With ``dtype`` the rounded implementation instead of the exact one.
    """
    rounding = _exact if dtype is None else lambda x: rounded_to(x, dtype, xp)
    o = xp.zeros(q.shape)
    lse = xp.full((q.shape[1], q.shape[0]), -xp.inf)
    q_bounds, kv_bounds = ([int(x) for x in starts] for starts in (q_starts, kv_starts))
    for i in range(len(q_bounds) - 1):
        rows = slice(q_bounds[i], q_bounds[i + 1])
        keys = slice(kv_bounds[i], kv_bounds[i + 1])
        o[rows], lse[:, rows] = _attend(q[rows], k[keys], v[keys], form, xp, rounding)
    return o, lse


def gather_pages(pages: Any, table: Any, length: int) -> Any:
    """The first ``length`` tokens of a sequence whose pages are ``table``: [length, kv_heads, d].

    ``pages`` is [page, token in page, kv_heads, d].
    """
    count = -(-length // pages.shape[1])
    chosen = pages[table[:count]]
    return chosen.reshape(-1, *pages.shape[2:])[:length]


def check_shapes(q: Any, k: Any, v: Any) -> None:
    """Refuse operands that do not fit together.

    Raises:
        BadValue: ranks, head dimensions, lengths or head counts that do not match.
    """
    if k.shape != v.shape:
        msg = f"keys have shape {tuple(k.shape)}, values {tuple(v.shape)}"
        raise BadValue(msg, field="v")
    if q.ndim != 3 or k.ndim != 3 or q.shape[2] != k.shape[2]:
        msg = f"q is {tuple(q.shape)}, k is {tuple(k.shape)}"
        raise BadValue(msg, field="k", fix="q [q_len, heads, d] and k [kv_len, kv_heads, d]")
    if q.shape[1] % k.shape[1]:
        msg = f"{q.shape[1]} heads are no multiple of {k.shape[1]} KV heads"
        raise BadValue(msg, field="kv_heads")
