"""Token mixers for people: who overtakes whom at which context, and every point."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.planning.crossover import REFERENCE, Crossover, Curve
from perfmodel.report.shown import Shown, assumed, dollars, seconds
from perfmodel.report.tables import Column, Table
from perfmodel.units import format_binary

POINTS = (
    Column(key="mixer", title="mixer", right=False),
    Column(key="context", title="context"),
    Column(key="time_s", title="time", unit="s"),
    Column(key="low_s", title="low", unit="s"),
    Column(key="high_s", title="high", unit="s"),
    Column(key="lower_bound_s", title="lower bound", unit="s"),
    Column(key="bound", title="bound", right=False),
    Column(key="memory_bytes", title="kept", text=format_binary),
    Column(key="usd_per_million", title="$/M runs", text=dollars),
    Column(key="source", title="source", right=False),
    Column(key="refused", title="no answer because", right=False),
)
TURNS = (
    Column(key="then", title="mixer", right=False),
    Column(key="before", title="overtakes", right=False),
    Column(key="context", title="from tokens", text="{:,.0f}".format),
    Column(key="time_s", title="at", unit="s"),
)


def crossover_shown(found: Crossover) -> Shown:
    """The break-evens as the verdict, then every mixer at every context."""
    turns = tuple(_turn(p) for p in found.break_evens)
    tables = [Table(title="break-evens with softmax", columns=TURNS, rows=turns)] if turns else []
    points = Table(title="every point", columns=POINTS, rows=tuple(_points(found)))
    notes = (n for c in found.curves if c.estimate is not None for n in c.estimate.assumptions)
    return Shown(
        lead=(crossover_verdict(found),),
        tables=(*tables, points),
        notes=assumed(tuple(dict.fromkeys(notes))),
        rows=points,
    )


def crossover_verdict(found: Crossover) -> str:
    """One line: what overtakes softmax attention, and from where."""
    m = found.mixing
    ask = f"{m.phase} on {found.device}, {m.heads} heads of {m.head_dim}, batch {m.batch}"
    told = ", ".join(
        f"{p.then} overtakes {p.before} from {p.context:,.0f} tokens ({seconds(p.time_s)})"
        for p in found.break_evens
    )
    none = "no mixer changes places with softmax in this range"
    if any(c.mixer == REFERENCE and c.estimate is None for c in found.curves):
        none = f"nothing to compare with: {REFERENCE} has no answer here"
    return f"{ask}: {told or none}"


def _turn(point: Any) -> dict[str, Any]:
    return {c.key: getattr(point, c.key) for c in TURNS}


def _points(found: Crossover) -> list[dict[str, Any]]:
    return [row for curve in found.curves for row in _rows(found, curve)]


def _rows(found: Crossover, curve: Curve) -> list[dict[str, Any]]:
    e = curve.estimate
    if e is None:
        return [{"mixer": curve.mixer, "refused": curve.refused}]
    shape = found.contexts.shape
    keys = ("time_s", "low_s", "high_s", "lower_bound_s", "bound")
    spread = {k: np.broadcast_to(getattr(e, k), shape).tolist() for k in keys}
    usd = curve.usd_per_million
    return [
        {
            "mixer": curve.mixer,
            "context": int(found.contexts[i]),
            **{k: v[i] for k, v in spread.items()},
            "memory_bytes": float(curve.memory_bytes[i]),
            "usd_per_million": None if usd is None else float(usd[i]),
            "source": e.source,
        }
        for i in range(len(found.contexts))
    ]
