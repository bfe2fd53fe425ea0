"""Networks on microcontrollers as pictures: buffers over steps and addresses, time by operator."""

from __future__ import annotations

from typing import Any

from perfmodel.answer import Estimate
from perfmodel.mcu.arena import ArenaPlan
from perfmodel.report.figures.base import BUDGET, COLOURS, Picture, axis, colour, picture
from perfmodel.report.shown import seconds
from perfmodel.units import format_binary

KIB = 1024.0
FAR = 3.0
"""A budget this many times the arena is told in words, so that the arena can be seen."""


def arena_chart(plan: ArenaPlan) -> Picture:
    """Buffers in SRAM as boxes, step by address, below the line of what the board leaves them."""
    inside = [p for p in plan.placements if p.memory == "sram"]
    boxes = {
        "type": "bar",
        "name": "buffers",
        "x": [(p.first + p.last) / 2.0 for p in inside],
        "width": [p.last - p.first + 1 for p in inside],
        "base": [p.offset / KIB for p in inside],
        "y": [p.bytes / KIB for p in inside],
        "marker": {
            "color": [COLOURS[i % len(COLOURS)] for i in range(len(inside))],
            "line": {"width": 1, "color": "#ffffff"},
        },
        "text": [p.tensors[0] if p.tensors else "scratch" for p in inside],
        "hovertext": [
            f"{', '.join(p.tensors)}<br>{format_binary(p.bytes)} at {p.offset:,} in steps "
            f"{p.first}..{p.last}"
            for p in inside
        ],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    use = plan.memory("sram")
    budget = None if use is None or use.budget_bytes is None else use.budget_bytes / KIB
    room = "" if budget is None else f"; the board leaves {format_binary(budget * KIB)}"
    of = "" if budget is None else f" of {format_binary(budget * KIB)}"
    near = budget is not None and budget * KIB < FAR * plan.peak_bytes
    line = {"color": BUDGET, "width": 3, "dash": "dash"}
    rule = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": budget, "y1": budget}
    top = 1.08 * max(plan.peak_bytes / KIB, budget if near and budget is not None else 0.0)
    return picture(
        [boxes],
        f"Arena of {plan.network.name} on {plan.device}: {len(inside)} buffers over "
        f"{len(plan.steps)} steps, {format_binary(plan.peak_bytes)} at the peak{room}.",
        x=axis("step of the schedule"),
        y=axis("address (KiB)", range=[0, top]),
        height=480,
        title={"text": f"arena: {format_binary(plan.peak_bytes)}{of}"},
        barmode="overlay",
        showlegend=False,
        uniformtext={"mode": "hide", "minsize": 9},
        shapes=[{**rule, "line": line}] if near else [],
    )


def latency_chart(found: Estimate) -> Picture:
    """Time of every operator of a network in its order, with its interval, told apart by class."""
    parts = list(enumerate(found.parts))
    classes = list(dict.fromkeys(p.group for _, p in parts))
    longest = sorted(found.parts, key=lambda p: -float(p.estimate.time_s))[:3]
    told = ", ".join(
        f"{p.estimate.name} {seconds(float(p.estimate.time_s))}"
        f" ({float(p.estimate.time_s / found.time_s):.0%})"
        for p in longest
    )
    return picture(
        [_class_bars(name, i, [q for q in parts if q[1].group == name])
         for i, name in enumerate(classes)],
        f"Bar chart of {len(parts)} operators of {found.name}, {seconds(float(found.time_s))} in "
        f"all; the longest are {told}.",
        x=axis("operator, in order"),
        y=axis("time (s)", rangemode="tozero", exponentformat="SI"),
        height=380,
        title={"text": f"latency by operator: {seconds(float(found.time_s))} in all"},
    )  # fmt: skip


def _class_bars(name: str, index: int, parts: list[tuple[int, Any]]) -> dict[str, Any]:
    times = [float(p.estimate.time_s) for _, p in parts]
    return {
        "type": "bar",
        "name": name,
        "x": [i for i, _ in parts],
        "y": times,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [float(p.estimate.high_s - p.estimate.time_s) for _, p in parts],
            "arrayminus": [float(p.estimate.time_s - p.estimate.low_s) for _, p in parts],
            "thickness": 1,
            "width": 2,
        },
        "marker": {"color": colour(index)},
        "text": [p.estimate.name for _, p in parts],
        "textposition": "none",
        "hovertemplate": "%{x}: %{text}, %{y:.3s}s<extra>%{fullData.name}</extra>",
    }
