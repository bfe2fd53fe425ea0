"""Timed kernels of token mixers as questions of the crossover: which sizes have measured dots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel.errors import PerfModelError
from perfmodel.planning.crossover import Mixing, mixers
from perfmodel.report.tables import Column, Table
from perfmodel.validation import Scored
from perfmodel.workload import (
    Attention,
    DeltaRule,
    LinearAttention,
    SelectiveScan,
    Ssd,
    Workload,
)

SCAN_HEAD = 128
"""Head dimension by which the channels of a scan are told as heads."""
FREE: dict[str, tuple[str, ...]] = {
    "gated linear": ("kv_heads",),
    "delta rule": ("kv_heads",),
    "SSD": ("kv_heads",),
    "selective scan": ("kv_heads", "heads", "head_dim"),
}
"""What of a question does not concern a mixer; the scan knows the width alone."""

TIMED = (
    Column(key="mixer", title="mixer", right=False),
    Column(key="kernel", title="kernel", right=False),
    Column(key="phase", title="tokens", right=False),
    Column(key="batch", title="batch"),
    Column(key="heads", title="heads"),
    Column(key="kv_heads", title="KV heads"),
    Column(key="head_dim", title="head dim"),
    Column(key="context", title="context", text="{:,}".format),
    Column(key="measured_s", title="measured", unit="s"),
    Column(key="predicted_s", title="predicted", unit="s"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedMixer:
    """A measured time of one mixer: the question that it answers, at one context."""

    mixer: str
    mixing: Mixing
    context: int
    device: str
    kernel: str
    measured_s: float
    predicted_s: float | None

    @property
    def any_context(self) -> bool:
        """Whether the time holds at every context: one more token of a state of fixed size."""
        return self.mixing.phase == "decode" and self.mixer in FREE

    def answers(self, asked: Mixing, device: str) -> bool:
        """Whether it was measured at what ``asked`` asks of its mixer."""
        if self.device != device:
            return False
        free = {name: getattr(asked, name) for name in FREE.get(self.mixer, ())}
        width = self.mixing.heads * self.mixing.head_dim == asked.heads * asked.head_dim
        return width and replace(self.mixing, **free) == asked


def timed_mixers(rows: Iterable[Scored]) -> tuple[TimedMixer, ...]:
    """Every timed kernel that ran a mixer as the crossover asks for it."""
    found = (_timed(row) for row in rows if row.measurement.quantity == "latency")
    return tuple(t for t in found if t is not None)


def _timed(row: Scored) -> TimedMixer | None:
    m = row.measurement
    if m.workload is None or m.workload.shape or m.refusal:
        return None
    try:
        asked = _asked(m.workload)
    except (PerfModelError, TypeError):
        return None
    if asked is None:
        return None
    name, mixing, context = asked
    return TimedMixer(
        mixer=name, mixing=mixing, context=context, device=m.device,
        kernel=m.implementation, measured_s=m.value, predicted_s=row.predicted,
    )  # fmt: skip


def _asked(work: Workload) -> tuple[str, Mixing, int] | None:
    """The mixer, the question and the context that ``work`` answers; None if it is no such."""
    sized = _sizes(work)
    if sized is None:
        return None
    name, tokens, context, heads, head_dim, kv_heads = sized
    known: Any = work
    mixing = Mixing(
        phase="decode" if tokens == 1 else "prefill", batch=known.batch, heads=heads,
        head_dim=head_dim, kv_heads=kv_heads, dtype=known.dtype,
    )  # fmt: skip
    same = mixers(mixing, np.array(context))[name].workload
    return (name, mixing, context) if _counts(same) == _counts(work) else None


def _sizes(work: Workload) -> tuple[str, int, int, int, int, int] | None:
    """Mixer, new tokens, context, heads, head dimension, KV heads."""
    w: Any = work
    if isinstance(work, Attention):
        name = "softmax" if w.score == "softmax" else "sigmoid"
        return name, w.q_len, w.kv_len, w.heads, w.head_dim, w.kv_heads or w.heads
    if isinstance(work, LinearAttention):
        return "gated linear", w.seq_len, w.seq_len, w.heads, w.key_dim, w.heads
    if isinstance(work, DeltaRule):
        return "delta rule", w.seq_len, w.seq_len, w.key_heads, w.key_dim, w.key_heads
    if isinstance(work, Ssd):
        return "SSD", w.seq_len, w.seq_len, w.heads, w.head_dim, w.heads
    if isinstance(work, SelectiveScan):
        heads = w.channels // SCAN_HEAD
        return "selective scan", w.seq_len, w.seq_len, heads, SCAN_HEAD, heads
    return None


def _counts(work: Workload) -> dict[str, object]:
    """The fields that decide its FLOPs and bytes: pages and the chunk of an algorithm do not, nor
    does a mask over one query.
    """
    kept = {k: v for k, v in work.to_dict().items() if k not in ("page_size", "chunk")}
    if kept.get("q_len") == 1:
        del kept["causal"]
    return kept


def timed_table(rows: Sequence[TimedMixer]) -> Table:
    """Where mixers were timed."""
    shown = tuple(
        {c.key: getattr(r, c.key, None) for c in TIMED}
        | {n: getattr(r.mixing, n) for n in ("phase", "batch", "heads", "kv_heads", "head_dim")}
        for r in rows
    )
    return Table(title="sizes at which mixers were timed", columns=TIMED, rows=shown)
