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
from perfmodel.report.kernels import Timed
from perfmodel.report.shown import seconds
from perfmodel.validation import Scored


def ladder(rows: Sequence[Timed]) -> Picture:
    """Kernels of one size: measured dots, predictions with their intervals, the roof as a line.

    Names stand over their rows, inside the picture: a narrow screen has no room beside it.
    """
    names = _names(rows)
    known = [(n, r) for n, r in zip(names, rows, strict=True) if r.predicted_s is not None]
    told = ", ".join(
        f"{n} {seconds(r.measured_s)}"
        + ("" if r.predicted_s is None else f" (predicted {seconds(r.predicted_s)})")
        for n, r in zip(names, rows, strict=True)
    )
    bound = next((r.lower_bound_s for r in rows if r.ours), rows[0].lower_bound_s)
    roof = {"type": "line", "x0": bound, "x1": bound, "yref": "paper", "y0": 0, "y1": 1}
    floor = f" The roof is {seconds(bound)}." if bound else ""
    ends = [v for r in rows for v in (r.measured_s, r.predicted_s, r.low_s, r.high_s, bound) if v]
    return picture(
        [_taken(names, rows), *([_foretold(known)] if known else [])],
        f"Dot chart of {rows[0].workload.op} kernels on {rows[0].device}: {told}.{floor}",
        x=axis(
            "time (s), logarithmic", log=True,
            range=[float(np.log10(min(ends) / 1.15)), float(np.log10(max(ends) * 1.15))],
        ),
        y=axis("", autorange="reversed", showticklabels=False),
        height=190 + 38 * len(names),
        title={"text": rows[0].sizes, "font": {"size": 13}},
        shapes=[{**roof, "layer": "below", "line": {"color": ROOF, "dash": "dash"}}]
        if bound
        else [],
        annotations=[_label(n, r) for n, r in zip(names, rows, strict=True)],
    )  # fmt: skip


def _label(name: str, row: Timed) -> dict[str, Any]:
    reached = "" if row.of_roof is None else f", {row.of_roof:.0%} of roof"
    return {
        "text": f"{name}: {seconds(row.measured_s)}{reached}",
        "xref": "paper", "x": 0, "xanchor": "left", "y": name, "yshift": 14,
        "showarrow": False, "font": {"size": 11},
    }  # fmt: skip


def _names(rows: Sequence[Timed]) -> list[str]:
    """What to call each row: with its types where its kernel occurs with others, numbered where
    even that is not enough.
    """
    plain = [r.name.rpartition("/")[2] if r.ours else r.name for r in rows]
    types: dict[str, set[str]] = {}
    for name, row in zip(plain, rows, strict=True):
        types.setdefault(name, set()).add(row.types)
    full = [
        f"{name} {r.types}" if len(types[name]) > 1 else name
        for name, r in zip(plain, rows, strict=True)
    ]
    seen: dict[str, int] = {}
    for i, name in enumerate(full):
        seen[name] = seen.get(name, 0) + 1
        full[i] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return full


def _taken(names: Sequence[str], rows: Sequence[Timed]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "measured (ours filled)",
        "x": [r.measured_s for r in rows],
        "y": list(names),
        "marker": {
            "color": MEASURED,
            "size": 11,
            "symbol": ["circle" if r.ours else "circle-open" for r in rows],
        },
        "hovertemplate": "%{y}, measured: %{x:.3s}s<extra></extra>",
    }


def _foretold(known: Sequence[tuple[str, Timed]]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "predicted, with its interval",
        "x": [r.predicted_s for _, r in known],
        "y": [n for n, _ in known],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_above(r) for _, r in known],
            "arrayminus": [_below(r) for _, r in known],
        },
        "marker": {"color": PREDICTED, "symbol": "diamond", "size": 9},
        "hovertemplate": "%{y}, predicted: %{x:.3s}s<extra></extra>",
    }


def _above(r: Timed) -> float:
    assert r.predicted_s is not None
    return 0.0 if r.high_s is None else r.high_s - r.predicted_s


def _below(r: Timed) -> float:
    assert r.predicted_s is not None
    return 0.0 if r.low_s is None else r.predicted_s - r.low_s


TICKS = (0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0)
"""Ratios that a histogram of residuals names."""


def residuals(rows: Sequence[Scored]) -> Picture:
    """Histogram of predicted over measured, by whether the interval holds; 1 is exact."""
    known = [r for r in rows if r.predicted is not None]
    ratios = np.array([float(r.predicted or np.nan) / r.measurement.value for r in known])
    held = np.array([r.inside for r in known], dtype=np.bool_)
    logs = np.log2(ratios) if len(ratios) else ratios
    reach = max(1.0, float(np.ceil(np.abs(logs).max()))) if len(ratios) else 1.0
    bins = {"start": -reach, "end": reach, "size": reach / 20.0}
    ticks = [t for t in TICKS if abs(np.log2(t)) <= reach]
    share = f"{held.mean():.0%}" if len(held) else "none"
    median = float(np.median(ratios)) if len(ratios) else float("nan")
    line = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
    return picture(
        [
            {
                "type": "histogram", "name": name, "x": logs[which].tolist(), "xbins": bins,
                "marker": {"color": shade}, "hovertemplate": "%{y} rows<extra></extra>",
            }
            for name, which, shade in (
                ("inside the interval", held, PREDICTED), ("outside", ~held, MEASURED),
            )
        ],
        f"Histogram of predicted over measured for {len(ratios)} rows; the median is {median:.2f}, "
        f"and {share} of the measurements lie inside their predicted interval.",
        x=axis(
            "predicted / measured",
            tickvals=np.log2(ticks).tolist(),
            ticktext=[f"{t:g}" for t in ticks],
            range=[-reach, reach],
            tickangle=0,
        ),
        y=axis("rows"),
        height=320,
        barmode="stack",
        shapes=[{**line, "line": {"color": ROOF, "dash": "dash"}}],
        title={"text": f"residuals: {share} inside the interval"},
    )  # fmt: skip


MOST_BARS = 300
"""Rows up to which every interval is drawn."""


def predicted_measured(rows: Sequence[Scored], *, by: str = "scenario") -> Picture:
    """Every scored latency: measured across, predicted up; the diagonal is exact. Filled marks lie
    in their interval, which is drawn where rows are few.

    ``by``: ``scenario``, ``device`` or ``implementation`` tells colours apart.
    """
    timed = [r for r in rows if r.measurement.quantity == "latency" and r.predicted is not None]
    names = list(dict.fromkeys(str(getattr(r.measurement, by)) for r in timed))
    bars = len(timed) <= MOST_BARS
    traces = [
        _cloud([r for r in timed if str(getattr(r.measurement, by)) == name], name, i, bars=bars)
        for i, name in enumerate(names)
    ]
    values = [r.measurement.value for r in timed] or [1.0]
    ends = [min(values) / 2.0, max(values) * 2.0]
    diagonal = {
        "type": "scatter", "mode": "lines", "x": ends, "y": ends, "name": "exact",
        "line": {"color": ROOF, "dash": "dash"}, "hoverinfo": "skip",
    }  # fmt: skip
    inside = sum(r.inside for r in timed)
    return picture(
        [diagonal, *traces],
        f"Scatter chart of {len(timed)} timed rows, measured against predicted on logarithmic "
        f"axes; {inside} measurements lie inside their predicted interval.",
        x=axis("measured (s)", log=True),
        y=axis("predicted (s)", log=True),
        height=480,
        title={"text": "predicted against measured"},
    )


def _cloud(rows: Sequence[Scored], name: str, index: int, *, bars: bool) -> dict[str, Any]:
    predicted = [float(r.predicted or 0.0) for r in rows]
    interval = {
        "type": "data",
        "symmetric": False,
        "array": [(r.high or p) - p for r, p in zip(rows, predicted, strict=True)],
        "arrayminus": [p - (r.low or p) for r, p in zip(rows, predicted, strict=True)],
        "thickness": 1,
        "width": 2,
    }
    plain = symbol(index)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [r.measurement.value for r in rows],
        "y": predicted,
        **({"error_y": interval} if bars else {}),
        "marker": {
            "color": colour(index),
            "symbol": [plain if r.inside else f"{plain}-open" for r in rows],
            "size": 8 if bars else 6,
        },
        "text": [f"{r.measurement.implementation}, {r.measurement.device}" for r in rows],
        "hovertemplate": "%{text}<br>measured %{x:.3s}s, predicted %{y:.3s}s<extra></extra>",
    }
