"""Timed kernels as pictures: a ladder, residuals, predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.report.figures.base import (
    MEASURED,
    PREDICTED,
    ROOF,
    Picture,
    axis,
    colour,
    picture,
    symbol,
)
from perfmodel.report.kernels import OURS, Timed, sized
from perfmodel.report.shown import seconds
from perfmodel.validation import Scored


def ladder(rows: Sequence[Timed]) -> Picture:
    """Kernels of one workload: measured bars, predictions with intervals, the roof as a line."""
    names = [r.kernel.removeprefix(OURS) for r in rows]
    known = [(n, r) for n, r in zip(names, rows, strict=True) if r.predicted_s is not None]
    bars = {
        "type": "bar",
        "name": "measured",
        "x": names,
        "y": [r.measured_s for r in rows],
        "marker": {"color": [PREDICTED if r.ours else ROOF for r in rows]},
        "text": ["" if r.of_roof is None else f"{r.of_roof:.0%} of roof" for r in rows],
        "hovertemplate": "%{x}, measured: %{y:.3s}s<br>%{text}<extra></extra>",
    }
    predicted = {
        "type": "scatter",
        "mode": "markers",
        "name": "predicted, with its interval",
        "x": [n for n, _ in known],
        "y": [r.predicted_s for _, r in known],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [_above(r) for _, r in known],
            "arrayminus": [_below(r) for _, r in known],
        },
        "marker": {"color": MEASURED, "symbol": "diamond", "size": 9},
        "hovertemplate": "%{x}, predicted: %{y:.3s}s<extra></extra>",
    }
    bound = rows[0].lower_bound_s
    roof = {
        "type": "scatter",
        "mode": "lines",
        "name": "roof (lower bound)",
        "x": names,
        "y": [bound] * len(names),
        "line": {"color": ROOF, "dash": "dash"},
        "hovertemplate": "at least %{y:.3s}s<extra></extra>",
    }
    told = ", ".join(
        f"{n} {seconds(r.measured_s)}"
        + ("" if r.predicted_s is None else f" (predicted {seconds(r.predicted_s)})")
        for n, r in zip(names, rows, strict=True)
    )
    return picture(
        [bars, predicted, *([roof] if bound is not None else [])],
        f"Bar chart of {rows[0].workload.op} kernels on {rows[0].device}: {told}.",
        x=axis(""),
        y=axis("time (s)", rangemode="tozero", exponentformat="SI"),
        title={"text": f"{rows[0].workload.op} {sized(rows[0].workload)}", "font": {"size": 13}},
    )


def _above(r: Timed) -> float:
    assert r.predicted_s is not None
    return 0.0 if r.high_s is None else r.high_s - r.predicted_s


def _below(r: Timed) -> float:
    assert r.predicted_s is not None
    return 0.0 if r.low_s is None else r.predicted_s - r.low_s


def residuals(rows: Sequence[Scored]) -> Picture:
    """Histogram of predicted over measured; 1 is exact."""
    ratios = _ratios(rows)
    trace = {
        "type": "histogram",
        "x": np.log2(ratios).tolist(),
        "nbinsx": 41,
        "marker": {"color": PREDICTED},
        "hovertemplate": "%{y} rows<extra></extra>",
    }
    ticks = [0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0]
    median = float(np.median(ratios)) if len(ratios) else float("nan")
    return picture(
        [trace],
        f"Histogram of predicted over measured for {len(ratios)} rows; the median is {median:.2f}.",
        x=axis(
            "predicted / measured",
            tickvals=np.log2(ticks).tolist(),
            ticktext=[f"{t:g}" for t in ticks],
        ),
        y=axis("rows"),
        height=300,
        shapes=[
            {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1,
             "line": {"color": ROOF, "dash": "dash"}},
        ],
        title={"text": "residuals"},
    )  # fmt: skip


def _ratios(rows: Sequence[Scored]) -> Any:
    return np.array([(r.predicted or np.nan) / r.measurement.value for r in rows])


def predicted_measured(rows: Sequence[Scored], *, by: str = "scenario") -> Picture:
    """Every scored latency: measured across, predicted up, with intervals; the diagonal is exact.

    ``by``: ``scenario`` or ``device`` tells colours apart.
    """
    timed = [r for r in rows if r.measurement.quantity == "latency" and r.predicted is not None]
    names = list(dict.fromkeys(str(getattr(r.measurement, by)) for r in timed))
    traces = [
        _cloud([r for r in timed if str(getattr(r.measurement, by)) == name], name, i)
        for i, name in enumerate(names)
    ]
    values = [r.measurement.value for r in timed] or [1.0]
    ends = [min(values) / 2.0, max(values) * 2.0]
    diagonal = {
        "type": "scatter", "mode": "lines", "x": ends, "y": ends, "name": "exact",
        "line": {"color": ROOF, "dash": "dash"}, "hoverinfo": "skip",
    }  # fmt: skip
    inside = sum(bool(r.low and r.high and r.low <= r.measurement.value <= r.high) for r in timed)
    return picture(
        [diagonal, *traces],
        f"Scatter chart of {len(timed)} timed rows, measured against predicted on logarithmic "
        f"axes; {inside} measurements lie inside their predicted interval.",
        x=axis("measured (s)", log=True),
        y=axis("predicted (s)", log=True),
        height=480,
        title={"text": "predicted against measured"},
    )


def _cloud(rows: Sequence[Scored], name: str, index: int) -> dict[str, Any]:
    predicted = [float(r.predicted or 0.0) for r in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [r.measurement.value for r in rows],
        "y": predicted,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [(r.high or p) - p for r, p in zip(rows, predicted, strict=True)],
            "arrayminus": [p - (r.low or p) for r, p in zip(rows, predicted, strict=True)],
            "thickness": 1,
            "width": 2,
        },
        "marker": {"color": colour(index), "symbol": symbol(index), "size": 8},
        "text": [f"{r.measurement.implementation}, {r.measurement.device}" for r in rows],
        "hovertemplate": "%{text}<br>measured %{x:.3s}s, predicted %{y:.3s}s<extra></extra>",
    }
