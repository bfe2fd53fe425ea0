"""Token mixers over context length: time, memory or cost, with the break-evens labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from perfmodel.planning.crossover import BreakEven, Crossover, Curve
from perfmodel.report.figures.base import MEASURED, Picture, axis, colour, picture, symbol
from perfmodel.report.kernels import OURS
from perfmodel.report.shown import seconds
from perfmodel.report.timed_mixers import TimedMixer

What = Literal["time", "memory", "cost"]
LEFTMOST = 0.2
"""Share of the picture's width in which a label has room on its right alone."""
DASHES = ("solid", "dash", "solid", "dash", "dot", "solid")
"""Lines that often lie upon each other show through (softmax, sigmoid; linear, delta, SSD)."""
NEAR = 1.25
"""Break-evens within this factor of each other share a label."""
AXES: Mapping[What, str] = {
    "time": "time of one layer (s)",
    "memory": "kept by one layer (B)",
    "cost": "$ per million runs",
}


def crossing(found: Crossover, what: What, measured: Sequence[TimedMixer] = ()) -> Picture:
    """Every mixer by context length; times carry their interval, break-evens and measured dots.

    ``measured``: timed kernels, of which those that ran what is asked are shown.
    """
    dots = [m for m in measured if m.answers(found.mixing, found.device)]
    traces: list[dict[str, Any]] = []
    for i, curve in enumerate(found.curves):
        values = _values(curve, what)
        if values is not None:
            traces += _band(found, curve, i) if what == "time" else []
            traces.append(_line(found, curve.mixer, values, i))
    if what == "time":
        traces += _dots(found, dots) + _labels(found)
    return picture(
        traces,
        _alt(found, what, dots),
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
        "line": {"color": colour(index), "dash": DASHES[index % len(DASHES)], "width": 2.5},
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


def _dots(found: Crossover, dots: Sequence[TimedMixer]) -> list[dict[str, Any]]:
    """Measured times; that of a state of fixed size holds at any context and is put amid them."""
    order = [c.mixer for c in found.curves]
    amid = float(found.contexts[len(found.contexts) // 2])
    points = [(m, amid if m.any_context else m.context) for m in dots]
    if not points:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "measured (ours filled)",
            "x": [c for _, c in points],
            "y": [m.measured_s for m, _ in points],
            "text": [f"{m.mixer}: {m.kernel}" for m, _ in points],
            "marker": {
                "color": [colour(order.index(m.mixer)) for m, _ in points],
                "symbol": ["star" if m.kernel.startswith(OURS) else "star-open" for m, _ in points],
                "size": 12,
                "line": {"width": 1, "color": MEASURED},
            },
            "hovertemplate": "%{text}, measured: %{y:.3s}s<extra></extra>",
        }
    ]


def _labels(found: Crossover) -> list[dict[str, Any]]:
    points = found.break_evens
    if not points:
        return []
    groups = _near(points)
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "cliponaxis": False,
            "name": "break-even",
            "x": [p.context for p in points],
            "y": [p.time_s for p in points],
            "text": [groups.get(i, "") for i in range(len(points))],
            "textposition": [_corner(p, found.contexts, i) for i, p in enumerate(points)],
            "hovertext": [f"{p.then} overtakes {p.before}" for p in points],
            "marker": {"color": MEASURED, "symbol": "circle-open-dot", "size": 12},
            "hovertemplate": "%{hovertext} at %{x:,.0f} tokens<extra></extra>",
        }
    ]


def _corner(point: BreakEven, contexts: NDArray[np.float64], turn: int) -> str:
    """Where a label stands: above and below by turns, beside the lines that rise from its point."""
    first, last = float(contexts[0]), float(contexts[-1])
    across = np.log(point.context / first) / np.log(last / first) if last > first else 0.0
    return f"{('top', 'bottom')[turn % 2]} {'right' if across < LEFTMOST else 'left'}"


def _near(points: Sequence[BreakEven]) -> dict[int, str]:
    """One label for all break-evens that lie close together, at the first of them."""
    labels: dict[int, str] = {}
    groups: list[list[int]] = []
    for i, p in enumerate(points):
        near = (g for g in groups if 1 / NEAR < points[g[0]].context / p.context < NEAR)
        group = next(near, None)
        if group is None:
            groups.append([i])
        else:
            group.append(i)
    for group in groups:
        first = min(points[i].context for i in group)
        names = "<br>".join(dict.fromkeys(points[i].then for i in group))
        labels[group[0]] = f"{names}<br>from {first:,.0f}"
    return labels


def _alt(found: Crossover, what: What, dots: Sequence[TimedMixer]) -> str:
    names = ", ".join(c.mixer for c in found.curves if _values(c, what) is not None)
    told = "; ".join(
        f"{p.then} overtakes {p.before} at {p.context:,.0f} tokens, {seconds(p.time_s)}"
        for p in found.break_evens
    )
    turns = f" {told}." if what == "time" and told else ""
    taken = f" {len(dots)} measured times are marked." if what == "time" and dots else ""
    return f"Line chart of {AXES[what]} by context for {names} on {found.device}.{turns}{taken}"
