"""Rooflines (Williams et al., 2009): roofs of a device, operators predicted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import cycle
from typing import Any, TypeAlias

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.report.figures.base import (
    MEASURED,
    ROOF,
    Picture,
    axis,
    colour,
    heaps,
    picture,
)
from perfmodel.report.roofs import Ceiling, Spot
from perfmodel.report.shown import seconds
from perfmodel.units import format_si
from perfmodel.validation import Scored


def roofline(
    device: Device,
    points: Sequence[Spot],
    *,
    roofs: Sequence[Ceiling],
    measured: Sequence[Scored] = (),
) -> Picture:
    """Operators under the roofs; predicted and measured kernels joined by their error."""
    pairs = [p for p in map(_pair, measured) if p is not None]
    span = _span([p.intensity for p in points] + [x for x, *_ in pairs], roofs)
    top = max((r.rate for r in roofs if not r.diagonal), default=np.inf)
    floor = min([p.rate for p in points] + [y for _, *ys, _ in pairs for y in ys], default=1e9)
    traces = [_ceiling(r, i, span, top) for i, r in enumerate(roofs)]
    traces += [_measured_note(roofs), _ridges(device, roofs), *_pairs(pairs)]
    traces += [*_special(points, top), _points(points)]
    high = top if np.isfinite(top) else max([p.rate for p in points], default=1e12)
    return picture(
        [t for t in traces if t],
        _alt(device, points, pairs),
        x=axis("FLOP per byte of main memory", log=True),
        y=axis(
            "FLOP/s", log=True, exponentformat="power",
            range=[float(np.log10(floor / 3.0)), float(np.log10(high * 3.0))],
        ),
        height=560,
        title={"text": f"{device.name}: {len(points)} operators"},
        hovermode="closest",
    )  # fmt: skip


def _span(xs: Sequence[float], roofs: Sequence[Ceiling]) -> tuple[float, float]:
    slopes = [r.rate for r in roofs if r.diagonal]
    flats = [r.rate for r in roofs if not r.diagonal]
    ridge = max(flats) / min(slopes) if slopes and flats else 1.0
    return min([*xs, 0.1]) / 2.0, max([*xs, ridge]) * 4.0


def _ceiling(roof: Ceiling, index: int, span: tuple[float, float], top: float) -> dict[str, Any]:
    """A line with points to click on; a diagonal ends at the highest peak. Measured roofs are
    dotted and share one entry of the legend.
    """
    first, last = span
    end = min(last, top / roof.rate) if roof.diagonal else last
    xs = np.geomspace(first, max(end, 2.0 * first), num=13).tolist()
    grey = roof.measured or roof.diagonal
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": roof.name,
        "x": xs,
        "y": [roof.at(x) for x in xs],
        "line": {
            "color": ROOF if grey else colour(index),
            "dash": "dot" if roof.measured else "solid",
            "width": 1.5,
        },
        "marker": {"size": 5, "opacity": 0.35},
        "customdata": [f"roof: {roof.name}"] * len(xs),
        "hovertemplate": f"{roof.name}<extra></extra>",
        "showlegend": not roof.measured,
        "legendgroup": "roofs measured" if roof.measured else roof.name,
    }


def _measured_note(roofs: Sequence[Ceiling]) -> dict[str, Any]:
    """The legend's entry of all measured roofs; a click on it hides them."""
    if not any(r.measured for r in roofs):
        return {}
    return {
        "type": "scatter", "mode": "lines", "name": "roofs, measured", "x": [None], "y": [None],
        "line": {"color": ROOF, "dash": "dot"}, "legendgroup": "roofs measured",
    }  # fmt: skip


def _ridges(device: Device, roofs: Sequence[Ceiling]) -> dict[str, Any]:
    """Where main memory stops and each peak starts to bind."""
    main = next((r for r in roofs if r.diagonal and r.name == device.memory.main.name), None)
    peaks = [r for r in roofs if not r.diagonal and not r.measured]
    if main is None or not peaks:
        return {}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"ridge of {main.name}",
        "x": [p.rate / main.rate for p in peaks],
        "y": [p.rate for p in peaks],
        "marker": {"symbol": "diamond-open", "size": 9, "color": ROOF},
        "text": [p.name for p in peaks],
        "customdata": [f"roof: {p.name}" for p in peaks],
        "hovertemplate": f"{main.name} meets %{{text}} at %{{x:.3g}} FLOP/B<extra></extra>",
    }


NAMED = 0.15
"""Operators with this share of the time carry their name."""


def _points(points: Sequence[Spot]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "operators (area: share of time)",
        "x": [p.intensity for p in points],
        "y": [p.rate for p in points],
        "marker": {
            "size": [8.0 + 34.0 * float(np.sqrt(p.share)) for p in points],
            "color": [colour(i) for i in range(len(points))],
            "line": {"width": 1, "color": "#ffffff"},
            "opacity": 0.85,
        },
        "customdata": [f"operator: {p.name}" for p in points],
        "text": [p.name.rpartition(": ")[2] if p.share >= NAMED else "" for p in points],
        "textposition": _corners(points),
        "hovertext": [
            f"{p.name}<br>{p.share:.1%} of the time, {seconds(float(p.estimate.time_s))} each"
            f"<br>{float(p.estimate.lower_bound_s / p.estimate.time_s):.0%} of its roof"
            f" ({p.estimate.bound})"
            for p in points
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _corners(points: Sequence[Spot]) -> list[str]:
    """Where names stand: by turns, as operators of one kind lie close together."""
    turns = cycle(("bottom right", "top left"))
    return [next(turns) if p.share >= NAMED else "top left" for p in points]


def _special(points: Sequence[Spot], top: float) -> list[dict[str, Any]]:
    """A tick above every operator where its special functions alone would hold it, if that is
    below the highest peak.
    """
    held = [(p, p.special_rate) for p in points if p.special_rate and p.special_rate < top]
    if not held:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "special-function roof of an operator",
            "x": [p.intensity for p, _ in held],
            "y": [rate for _, rate in held],
            "marker": {"symbol": "line-ew-open", "size": 14, "color": ROOF, "line": {"width": 2}},
            "customdata": [f"operator: {p.name}" for p, _ in held],
            "hovertemplate": "special functions of %{customdata}: %{y:.3s}FLOP/s<extra></extra>",
        }
    ]


LARGEST = 11.0
"""The diameter of a dot of many timings: operators are larger."""
Pair: TypeAlias = tuple[float, float, float, str]
"""Intensity, predicted and measured FLOP/s, and name of a timed kernel."""


@lru_cache(maxsize=8192)
def _pair(row: Scored) -> Pair | None:
    """What a row shows; None where it lacks a prediction, FLOPs or bytes."""
    work = row.measurement.workload
    if work is None or row.predicted is None or work.shape:
        return None
    cost = count(work)
    flops, traffic = float(cost.flops_total), float(cost.bytes_total)
    if flops <= 0.0 or traffic <= 0.0:
        return None
    name = f"{row.measurement.implementation} {work.op}"
    return flops / traffic, flops / row.predicted, flops / row.measurement.value, name


def _pairs(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Predictions and measurements, joined; pairs that lie upon each other are one."""
    if not pairs:
        return []
    piles = heaps([p[:3] for p in pairs])
    xs, predicted, taken = zip(*(h.place for h in piles), strict=True)
    segments = [v for x in xs for v in (x, x, None)]
    ends = [v for p, m in zip(predicted, taken, strict=True) for v in (p, m, None)]
    common = {
        "type": "scatter",
        "x": list(xs),
        "text": [_called([pairs[i][3] for i in h.members]) for h in piles],
        "legendgroup": "measured",
    }
    size = [min(h.size + 1.0, LARGEST) for h in piles]
    return [
        {
            "type": "scatter", "mode": "lines", "x": segments, "y": ends, "hoverinfo": "skip",
            "line": {"color": MEASURED, "width": 1}, "showlegend": False,
            "legendgroup": "measured",
        },
        common | {
            "mode": "markers", "name": "kernel, predicted", "y": list(predicted),
            "marker": {"symbol": "circle-open", "size": size, "color": MEASURED},
            "hovertemplate": "%{text}, predicted: %{y:.3s}FLOP/s<extra></extra>",
        },
        common | {
            "mode": "markers", "name": "kernel, measured", "y": list(taken),
            "marker": {"symbol": "circle", "size": size, "color": MEASURED},
            "hovertemplate": "%{text}, measured: %{y:.3s}FLOP/s<extra></extra>",
        },
    ]  # fmt: skip


def _called(names: Sequence[str]) -> str:
    """The kernel of a dot, or how many lie there and one of them."""
    return names[0] if len(names) == 1 else f"{len(names)} timings of {names[0]} and others"


def _alt(device: Device, points: Sequence[Spot], pairs: Sequence[Pair]) -> str:
    longest = sorted(points, key=lambda p: -p.share)[:3]
    told = "; ".join(
        f"{p.name} takes {p.share:.0%} of the time at {format_si(p.rate, 'FLOP/s')}, "
        f"{float(p.estimate.lower_bound_s / p.estimate.time_s):.0%} of its roof"
        for p in longest
    )
    dots = f" {len(pairs)} timed kernels are joined to their predictions." if pairs else ""
    return f"Roofline of {device.name}, both axes logarithmic. {told}.{dots}"
