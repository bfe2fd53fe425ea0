"""Token mixers over context length: time, memory or cost, with the break-evens labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from perfmodel.measure import Measurement
from perfmodel.planning.crossover import BreakEven, Crossover, Curve
from perfmodel.report.figures.base import MEASURED, Picture, axis, colour, picture, symbol
from perfmodel.report.shown import seconds

What = Literal["time", "memory", "cost"]
CORNERS = ("top left", "bottom right", "top right", "bottom left")
AXES: Mapping[What, str] = {
    "time": "time of one layer (s)",
    "memory": "kept by one layer (B)",
    "cost": "$ per million runs",
}


def crossing(
    found: Crossover, what: What, measured: Mapping[str, Sequence[tuple[int, float]]] | None = None
) -> Picture:
    """Every mixer by context length; times carry their interval, break-evens and measured dots.

    ``measured``: by mixer, (context, seconds) of timed kernels of the same sizes.
    """
    traces: list[dict[str, Any]] = []
    for i, curve in enumerate(found.curves):
        values = _values(curve, what)
        if values is not None:
            traces += _band(found, curve, i) if what == "time" else []
            traces.append(_line(found, curve.mixer, values, i))
    if what == "time":
        traces += _dots(measured or {}) + _labels(found.break_evens)
    return picture(
        traces,
        _alt(found, what),
        x=axis("context (tokens)", log=True),
        y=axis(AXES[what], log=True),
        title={"text": f"{AXES[what]}: {found.mixing.phase} on {found.device}"},
    )


def _values(curve: Curve, what: What) -> Any:
    if what == "memory":
        return curve.memory_bytes
    if what == "cost":
        return curve.usd_per_million
    return None if curve.estimate is None else np.asarray(curve.estimate.time_s)


def _line(found: Crossover, name: str, values: Any, index: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "legendgroup": name,
        "x": found.contexts.tolist(),
        "y": np.broadcast_to(values, found.contexts.shape).tolist(),
        "line": {"color": colour(index)},
        "marker": {"symbol": symbol(index), "size": 6},
        "hovertemplate": "%{x:,.0f} tokens: %{y:.3s}<extra>%{fullData.name}</extra>",
    }


def _band(found: Crossover, curve: Curve, index: int) -> list[dict[str, Any]]:
    """The interval of an estimate as a shaded band."""
    e = curve.estimate
    assert e is not None
    x = found.contexts.tolist()
    low, high = (np.broadcast_to(v, found.contexts.shape).tolist() for v in (e.low_s, e.high_s))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [*x, *reversed(x)],
            "y": [*low, *reversed(high)],
            "fill": "toself",
            "fillcolor": colour(index),
            "opacity": 0.12,
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": curve.mixer,
        }
    ]


def _dots(measured: Mapping[str, Sequence[tuple[int, float]]]) -> list[dict[str, Any]]:
    points = [(name, c, t) for name, rows in measured.items() for c, t in rows]
    if not points:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "measured",
            "x": [c for _, c, _ in points],
            "y": [t for _, _, t in points],
            "text": [name for name, _, _ in points],
            "marker": {"color": MEASURED, "symbol": "star", "size": 11},
            "hovertemplate": "%{text}, measured: %{y:.3s}s<extra></extra>",
        }
    ]


def _labels(points: Sequence[BreakEven]) -> list[dict[str, Any]]:
    if not points:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "break-even",
            "x": [p.context for p in points],
            "y": [p.time_s for p in points],
            "text": [f"{p.then} from {p.context:,.0f}" for p in points],
            "textposition": [CORNERS[i % len(CORNERS)] for i in range(len(points))],
            "hovertext": [f"{p.then} overtakes {p.before}" for p in points],
            "marker": {"color": MEASURED, "symbol": "circle-open-dot", "size": 12},
            "hovertemplate": "%{hovertext} at %{x:,.0f} tokens<extra></extra>",
        }
    ]


def _alt(found: Crossover, what: What) -> str:
    names = ", ".join(c.mixer for c in found.curves if _values(c, what) is not None)
    told = "; ".join(
        f"{p.then} overtakes {p.before} at {p.context:,.0f} tokens, {seconds(p.time_s)}"
        for p in found.break_evens
    )
    turns = f" {told}." if what == "time" and told else ""
    return f"Line chart of {AXES[what]} by context for {names} on {found.device}.{turns}"


def measured_mixers(
    found: Crossover, measurements: Sequence[Measurement]
) -> dict[str, list[tuple[int, float]]]:
    """Timed kernels that ran what ``found`` asks, at any context: by mixer, (context, seconds)."""
    from perfmodel.planning.crossover import mixers

    dots: dict[str, list[tuple[int, float]]] = {}
    for m in measurements:
        if m.workload is None or m.device != found.device or m.refusal:
            continue
        context = getattr(m.workload, "kv_len", getattr(m.workload, "seq_len", None))
        if not isinstance(context, int):
            continue
        same = mixers(found.mixing, np.array(context))
        for name, asked in same.items():
            if asked.workload.key() == m.workload.key():
                dots.setdefault(name, []).append((context, m.value))
    return dots
