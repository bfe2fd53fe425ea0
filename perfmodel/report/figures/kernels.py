"""Timed kernels as pictures: a ladder, residuals, predicted against measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.report.figures.base import (
    COLOURS,
    MEASURED,
    PREDICTED,
    ROOF,
    Picture,
    axis,
    colour,
    heaps,
    picture,
    symbol,
)
from perfmodel.report.kernels import Timed
from perfmodel.report.shown import seconds
from perfmodel.validation import Scored

NARROW = 46
"""Characters of a title's line that a narrow screen holds."""


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
        title={"text": "<br>".join(wrap(rows[0].sizes, NARROW)), "font": {"size": 13}},
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


BINS = 80
"""Bars of a histogram of residuals."""


def residuals(rows: Sequence[Scored]) -> Picture:
    """Histogram of predicted over measured, by whether the interval holds; 1 is exact."""
    known = [r for r in rows if r.predicted is not None]
    ratios = np.array([float(r.predicted or np.nan) / r.measurement.value for r in known])
    held = np.array([r.inside for r in known], dtype=np.bool_)
    logs = np.log2(ratios) if len(ratios) else ratios
    reach = max(1.0, float(np.ceil(np.abs(logs).max()))) if len(ratios) else 1.0
    edges = np.linspace(-reach, reach, BINS + 1)
    ticks = [t for t in TICKS if abs(np.log2(t)) <= reach]
    share = f"{held.mean():.0%}" if len(held) else "none"
    median = float(np.median(ratios)) if len(ratios) else float("nan")
    line = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
    return picture(
        [
            _histogram(name, np.histogram(logs[which], edges)[0], edges, shade)
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
        bargap=0,
        shapes=[{**line, "line": {"color": ROOF, "dash": "dash"}}],
        title={"text": f"residuals: {share} inside the interval"},
    )  # fmt: skip


def _histogram(
    name: str, counts: NDArray[np.intp], edges: NDArray[np.float64], shade: str
) -> dict[str, Any]:
    """Bars of equal bins of log2(predicted / measured) that hold any row."""
    ends = [f"{2.0**e:.3g}" for e in edges]
    bars = [(i, n) for i, n in enumerate(counts.tolist()) if n]
    middles = (edges[:-1] + edges[1:]) / 2.0
    return {
        "type": "bar",
        "name": name,
        "x": [float(middles[i]) for i, _ in bars],
        "y": [n for _, n in bars],
        "width": float(edges[1] - edges[0]),
        "customdata": [f"{ends[i]} .. {ends[i + 1]}" for i, _ in bars],
        "marker": {"color": shade},
        "hovertemplate": "%{y} rows at %{customdata}<extra></extra>",
    }


MOST_BARS = 300
"""Rows up to which each is drawn, with its interval."""
OTHERS = "others"


def predicted_measured(rows: Sequence[Scored], *, by: str = "scenario") -> Picture:
    """Every scored latency: measured across, predicted up; the diagonal is exact. Filled marks lie
    in their interval. Where rows are few it is drawn; where they are many, those that lie upon each
    other and in their intervals are one mark, larger for more.

    ``by``: ``scenario``, ``device`` or ``implementation`` tells colours apart.
    """
    timed = [r for r in rows if r.measurement.quantity == "latency" and r.predicted is not None]
    groups = _told_apart(timed, by)
    traces = [
        _cloud(group, name, i, many=len(timed) > MOST_BARS)
        for i, (name, group) in enumerate(groups.items())
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


def _told_apart(rows: Sequence[Scored], by: str) -> dict[str, list[Scored]]:
    """Rows by name, the most frequent first; names beyond the colours are one."""
    counts = Counter(str(getattr(r.measurement, by)) for r in rows)
    kept = [name for name, _ in counts.most_common()]
    if len(kept) > len(COLOURS):
        kept = [*kept[: len(COLOURS) - 1], OTHERS]
    groups: dict[str, list[Scored]] = {name: [] for name in kept}
    for row in rows:
        groups.get(str(getattr(row.measurement, by)), groups[kept[-1]]).append(row)
    return groups


def _cloud(rows: Sequence[Scored], name: str, index: int, *, many: bool) -> dict[str, Any]:
    """Rows of one colour: each with its interval or, of many, those inside theirs in heaps."""
    alone = [r for r in rows if not (many and r.inside)]
    merged = [r for r in rows if many and r.inside]
    piles = heaps([_place(r) for r in merged])
    places = [*(h.place for h in piles), *map(_place, alone)]
    shape = symbol(index)
    alike = [shape if r.inside else f"{shape}-open" for r in alone]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        **({} if many else {"error_y": _intervals(alone)}),
        "marker": {
            "color": colour(index),
            "symbol": [shape] * len(piles) + alike,
            "size": [h.size for h in piles] + [6.0 if many else 8.0] * len(alone),
        },
        "text": [_called([merged[i] for i in h.members]) for h in piles]
        + [_called([r]) for r in alone],
        "hovertemplate": "%{text}<br>measured %{x:.3s}s, predicted %{y:.3s}s<extra></extra>",
    }


def _place(row: Scored) -> tuple[float, float]:
    assert row.predicted is not None
    return row.measurement.value, float(row.predicted)


def _intervals(rows: Sequence[Scored]) -> dict[str, Any]:
    predicted = [_place(r)[1] for r in rows]
    return {
        "type": "data",
        "symmetric": False,
        "array": [(r.high or p) - p for r, p in zip(rows, predicted, strict=True)],
        "arrayminus": [p - (r.low or p) for r, p in zip(rows, predicted, strict=True)],
        "thickness": 1,
        "width": 2,
    }


def _called(rows: Sequence[Scored]) -> str:
    """The kernel and device of a row, or what a heap of rows holds."""
    first = rows[0].measurement
    name = f"{first.implementation}, {first.device}"
    if len(rows) == 1:
        return name
    ratios = [predicted / measured for measured, predicted in map(_place, rows)]
    spread = f"predicted / measured {min(ratios):.2f} .. {max(ratios):.2f}"
    return f"{len(rows)} rows: {name} and more<br>{spread}"
