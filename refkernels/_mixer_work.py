"""Operations and compulsory bytes of the mixers, for rates in reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import UnknownName
from perfmodel.workload import DeltaRule, LinearAttention, SelectiveScan, Ssd, Workload

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one call does at least: every input read once, every output written once."""

    flops: float
    moved_bytes: float


def work(w: Workload) -> Work:
    """The work of a mixer; raises UnknownName for other workloads."""
    if isinstance(w, SelectiveScan):
        return _scan(w)
    if isinstance(w, LinearAttention):
        return _linear(w)
    if isinstance(w, DeltaRule):
        return _delta(w)
    if isinstance(w, Ssd):
        return _ssd(w)
    raise UnknownName("mixer", w.op, ("delta_rule", "selective_scan", "linear_attention", "ssd"))


def _numbers(*values: Any) -> list[float]:
    return [float(np.asarray(v)) for v in values]


def _scan(w: SelectiveScan) -> Work:
    """4 multiply-adds per state and token, 7 or 11 more per token."""
    b, t, d, n, g = _numbers(w.batch, w.seq_len, w.channels, w.state, w.groups)
    size, streams = _BYTES[w.dtype], 4 if w.gated else 3
    states = b * d * n * 4 * (2 if t == 1 else 1)
    moved = b * t * (d * streams + 2 * g * n) * size + d * (n + 1) * 4 + states
    return Work(flops=2 * b * t * d * (4 * n + 7 + (4 if w.gated else 0)), moved_bytes=moved)


def _linear(w: LinearAttention) -> Work:
    """Chunked: ``2 C (dk + dv) + 4 dk dv`` per token and head; a step: 5 per state element."""
    b, t, h, dk, dv = _numbers(w.batch, w.seq_len, w.heads, w.key_dim, w.value_dim)
    gates = {"vector": dk, "scalar": 1.0, "none": 0.0}[w.gate]
    chunk = min(float(np.asarray(w.chunk)), t)
    each = 5 * dk * dv if t == 1 else 2 * chunk * (dk + dv) + 4 * dk * dv
    states = b * h * dk * dv * 4 * (2 if t == 1 else 1)
    moved = b * t * h * (2 * dk + 2 * dv + gates) * _BYTES[w.dtype] + states
    return Work(flops=b * t * h * each, moved_bytes=moved)


def _delta(w: DeltaRule) -> Work:
    """Chunked, in WY form: ``4 C dk`` per key head, ``2 C (dk + dv) + C^2 / 3 + 2 C dv + 6 dk dv``
    per value head; a step: 7 (without a gate 6) per state element."""
    b, t, kh, h = _numbers(w.batch, w.seq_len, w.key_heads, w.value_heads)
    dk, dv, chunk = _numbers(w.key_dim, w.value_dim, w.chunk)
    c = min(chunk, t)
    own = 2 * c * (dk + dv) + c * c / 3 + 2 * c * dv + 6 * dk * dv
    each = h * (7 if w.gated else 6) * dk * dv if t == 1 else kh * 4 * c * dk + h * own
    states = b * h * dk * dv * 4 * (2 if t == 1 else 1)
    scalars = 2 if w.gated else 1
    moved = b * t * (2 * kh * dk + h * (2 * dv + scalars)) * _BYTES[w.dtype] + states
    return Work(flops=b * t * each, moved_bytes=moved)


def _ssd(w: Ssd) -> Work:
    """Chunked: ``2 C N`` per group, ``2 C P + 4 N P`` per head; a step: 5 per state element."""
    b, t, h, p, n, g = _numbers(w.batch, w.seq_len, w.heads, w.head_dim, w.state, w.groups)
    chunk = min(64.0, t)
    each = h * 5 * n * p if t == 1 else g * 2 * chunk * n + h * (2 * chunk * p + 4 * n * p)
    states = b * h * n * p * 4 * (2 if t == 1 else 1)
    moved = b * t * (h * (2 * p + 1) + 2 * g * n) * _BYTES[w.dtype] + states
    return Work(flops=b * t * each, moved_bytes=moved)
