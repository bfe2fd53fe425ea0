"""Checked arrays of gated linear attention and of SSD, and the struct that kernels get of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequence:
    """Checked device arrays in bf16 (as uint16 bits): q, k [batch, length, key_heads, dk], v
    [batch, length, heads, dv]; states fp32 [batch, heads, dk, dv]."""

    q: Any
    k: Any
    v: Any
    g: Any
    scale: float
    initial: Any = None
    a: Any = None
    """SSD: A per head; then ``g`` is delta."""
    bias: Any = None
    skip: Any = None
    softplus: bool = False

    @property
    def vector(self) -> bool:
        """Whether each key dimension has its own gate."""
        return self.g is not None and self.g.ndim == 4


def problem_fields(x: Sequence, out: Any, final: Any) -> dict[str, Any]:
    """``Problem`` of problem.cuh, with null for what a launch does not take."""
    batch, length, heads, dv = x.v.shape
    return {
        "q": x.q,
        "k": x.k,
        "v": x.v,
        "g": x.g,
        "a": x.a,
        "bias": x.bias,
        "skip": x.skip,
        "first": x.initial,
        "last": final,
        "local": None,
        "decay": None,
        "passed": None,
        "handed": None,
        "scores": None,
        "steps": None,
        "out": out,
        "scale": x.scale,
        "softplus": int(x.softplus),
        "batch": batch,
        "length": length,
        "heads": heads,
        "key_heads": x.q.shape[2],
        "dv": dv,
        "segments": 1,
        "segment_length": length,
        "period": 1,
    }
