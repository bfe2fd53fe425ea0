"""Plans as pictures: cost against latency, and what fills a device's memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.planning.answers import Plan, PlanAnswer
from perfmodel.report.figures.base import BUDGET, Picture, axis, colour, picture, symbol
from perfmodel.report.shown import dollars, seconds
from perfmodel.units import format_binary


def pareto(answer: PlanAnswer) -> Picture:
    """Plans by whole-request latency and cost (devices where no price is known), by device.

    Large markers are the Pareto set: nothing else is better in cost, devices, latency and energy.
    """
    priced = all(p.usd_per_million_tokens is not None for p in answer.plans)
    names = list(dict.fromkeys(p.device for p in answer.plans))
    traces = [_plans_of(answer, name, i, priced=priced) for i, name in enumerate(names)]
    cost = "$ per million output tokens" if priced else "devices (no price is known)"
    return picture(
        traces,
        _pareto_alt(answer, cost),
        x=axis("mean time of a whole request (s)"),
        y=axis(cost, rangemode="tozero"),
        title={"text": "cost against latency"},
    )


def _plans_of(answer: PlanAnswer, device: str, index: int, *, priced: bool) -> dict[str, Any]:
    plans = [p for p in answer.plans if p.device == device]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": device,
        "x": [float(p.latency_s.value) for p in plans],
        "y": [p.usd_per_million_tokens if priced else p.devices for p in plans],
        "marker": {
            "color": colour(index),
            "symbol": symbol(index),
            "size": [14 if p.pareto else 7 for p in plans],
            "opacity": [1.0 if p.pareto else 0.5 for p in plans],
        },
        "text": [_layout(p) for p in plans],
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }


def _layout(p: Plan) -> str:
    shape = f"{p.devices} devices: {p.replicas} x tp {int(p.split.tp)} x pp {int(p.split.pp)}"
    times = f"TTFT {seconds(float(p.ttft.span.value))}, TPOT {seconds(float(p.tpot.span.value))}"
    return f"{shape}<br>{times}<br>{dollars(p.usd_per_million_tokens)} per million output tokens"


def _pareto_alt(answer: PlanAnswer, cost: str) -> str:
    best = answer.best
    if best is None:
        return "Scatter chart without points: no plan serves the load."
    front = sum(p.pareto for p in answer.plans)
    return (
        f"Scatter chart of {len(answer.plans)} plans, whole-request time against {cost}; {front} "
        f"are in the Pareto set. The best by {answer.rank} is {best.devices} x {best.device} at "
        f"{seconds(float(best.latency_s.value))} and {dollars(best.usd_per_million_tokens)}."
    )


def memory_stack(stack: Mapping[str, float], budget_bytes: float) -> Picture:
    """What one device holds, stacked, against its budget."""
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "y": ["per device"],
            "x": [size / 2**30],
            "marker": {"color": colour(i)},
            "hovertemplate": f"{part}: {format_binary(size)}<extra></extra>",
        }
        for i, (part, size) in enumerate(stack.items())
    ]
    budget = budget_bytes / 2**30
    parts = ", ".join(f"{part} {format_binary(size)}" for part, size in stack.items())
    return picture(
        traces,
        f"Stacked bar of a device's memory: {parts}; the budget is {format_binary(budget_bytes)}.",
        x=axis("GiB", range=[0, 1.06 * max(budget, sum(stack.values()) / 2**30)]),
        y=axis("", showticklabels=False),
        height=230,
        barmode="stack",
        title={"text": f"memory per device, budget {format_binary(budget_bytes)}"},
        shapes=[_rule(budget)],
    )


def _rule(x: float) -> dict[str, Any]:
    line = {"color": BUDGET, "width": 3, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}
