"""An arena as a picture: every buffer over its steps (across) at its address (up)."""

from __future__ import annotations

from perfmodel.mcu.arena import ArenaPlan
from perfmodel.report.figures.base import BUDGET, COLOURS, Picture, axis, picture
from perfmodel.units import format_binary

KIB = 1024.0


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
        "text": [
            f"{', '.join(p.tensors)}<br>{format_binary(p.bytes)} at {p.offset:,} in steps "
            f"{p.first}..{p.last}"
            for p in inside
        ],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }
    use = plan.memory("sram")
    budget = None if use is None or use.budget_bytes is None else use.budget_bytes / KIB
    room = "" if budget is None else f"; the board leaves {format_binary(budget * KIB)}"
    line = {"color": BUDGET, "width": 3, "dash": "dash"}
    rule = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": budget, "y1": budget}
    return picture(
        [boxes],
        f"Arena of {plan.network.name} on {plan.device}: {len(inside)} buffers over "
        f"{len(plan.steps)} steps, {format_binary(plan.peak_bytes)} at the peak{room}.",
        x=axis("step of the schedule"),
        y=axis("address (KiB)", rangemode="tozero"),
        height=480,
        title={"text": f"arena: {format_binary(plan.peak_bytes)} at the peak"},
        barmode="overlay",
        showlegend=False,
        shapes=[] if budget is None else [{**rule, "line": line}],
    )
