"""Devices side by side on one logarithmic axis, and what a little more of a resource would buy."""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel.planning.compare import Comparison
from perfmodel.planning.sensitivity import Gain
from perfmodel.report.figures.base import PREDICTED, ROOF, Picture, axis, picture
from perfmodel.report.shown import seconds


def side_by_side(found: Comparison) -> Picture:
    """Each device's estimate with its interval, and its lower bound."""
    answered = [(r.device, r.estimate) for r in found.rows if r.estimate is not None]
    names = [name for name, _ in answered]
    times = [float(e.time_s) for _, e in answered]
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": "estimate with its interval",
            "x": times, "y": names,
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [float(e.high_s - e.time_s) for _, e in answered],
                "arrayminus": [float(e.time_s - e.low_s) for _, e in answered],
            },
            "marker": {"size": 12, "color": PREDICTED},
            "hovertemplate": "%{y}: %{x:.3s}s<extra></extra>",
        },
        {
            "type": "scatter", "mode": "markers", "name": "lower bound (physics)",
            "x": [float(e.lower_bound_s) for _, e in answered], "y": names,
            "marker": {"size": 13, "symbol": "line-ns-open", "color": ROOF, "line": {"width": 3}},
            "hovertemplate": "%{y}: at least %{x:.3s}s<extra></extra>",
        },
    ]  # fmt: skip
    told = ", ".join(f"{n} {seconds(t)}" for n, t in zip(names, times, strict=True))
    return picture(
        traces,
        f"Times of {found.question} on a logarithmic axis, fastest first: {told}.",
        x=axis("time (s)", log=True),
        y=axis("", autorange="reversed"),
        height=170 + 45 * len(names),
        title={"text": found.question},
    )


def tornado(device: str, gains: Sequence[Gain]) -> Picture:
    """Share of the time that a raised resource saves, most first."""
    factor = gains[0].factor if gains else 1.0
    more = f"+{factor - 1.0:.0%}"
    told = ", ".join(f"{g.resource} {g.saved:.1%}" for g in gains)
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [100.0 * g.saved for g in gains],
        "y": [g.resource for g in gains],
        "marker": {"color": PREDICTED},
        "text": [f"{g.saved:.1%}" for g in gains],
        "textposition": "auto",
        "hovertemplate": f"{more} %{{y}}: %{{x:.2f}} % less time<extra></extra>",
    }
    return picture(
        [trace],
        f"Bar chart: time saved on {device} by {more} of each resource: {told}.",
        x=axis("time saved (%)", rangemode="tozero"),
        y=axis("", autorange="reversed"),
        height=150 + 32 * len(gains),
        title={"text": f"what {more} would buy on {device}"},
        showlegend=False,
    )
