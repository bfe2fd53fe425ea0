"""Answers as people read them: a verdict line, tables, notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.planning.answers import Level, Plan, PlanAnswer
from perfmodel.planning.compare import Comparison
from perfmodel.planning.memory import CapacityAnswer
from perfmodel.report.tables import ABSENT, Column, Table, plain
from perfmodel.units import format_binary, format_si

BAR = 24
"""Characters of a full memory bar."""

Shown = tuple[list[Table], list[str]]
"""Tables, the verdict being the first one's title, and notes below them."""


def seconds(value: float) -> str:
    """Seconds with a prefix and three digits."""
    return format_si(float(value), "s")


def dollars(value: float | None) -> str:
    """US dollars with three digits."""
    return ABSENT if value is None else f"${value:.3g}"


def parameters(number: int) -> str:
    """A number of parameters as people say it: 70.6 B."""
    return format_si(float(number), "").replace("G", "B")


def interval(low: float, high: float) -> str:
    """Both ends of an interval of seconds."""
    return f"{seconds(low)} .. {seconds(high)}"


def estimate_shown(estimate: Estimate) -> Shown:
    """The time with its interval, then the parts that it is the sum of."""
    if estimate.shape:
        return [_grid_table(estimate)], assumed(estimate.assumptions)
    tables = [_time_table(estimate)]
    tables += [_parts_table(estimate)] if estimate.parts else [_terms_table(estimate)]
    return tables, [f"time = {estimate.formula}", *assumed(estimate.assumptions)]


TIMES = (
    Column(key="time_s", title="time", unit="s"),
    Column(key="low_s", title="low", unit="s"),
    Column(key="high_s", title="high", unit="s"),
    Column(key="lower_bound_s", title="lower bound", unit="s"),
    Column(key="bound", title="bound", right=False),
    Column(key="source", title="source", right=False),
)


def _time_table(estimate: Estimate) -> Table:
    row = {c.key: getattr(estimate, c.key) for c in TIMES} | {"bound": str(estimate.bound)}
    within = "" if estimate.coverage is None else f" ({estimate.coverage:.0%} interval)"
    verdict = (
        f"{estimate.name}: {seconds(float(estimate.time_s))}, "
        f"{interval(float(estimate.low_s), float(estimate.high_s))}{within}, "
        f"bound by {estimate.bound} [{estimate.source}]"
    )
    return Table(title=verdict, columns=TIMES, rows=(row,))


def _grid_table(estimate: Estimate) -> Table:
    """One row per point of a grid."""
    points = int(np.prod(estimate.shape))
    flat = {c.key: np.broadcast_to(getattr(estimate, c.key), estimate.shape).ravel() for c in TIMES}
    rows = tuple(
        {"point": i} | {key: values[i].item() for key, values in flat.items()}
        for i in range(points)
    )
    title = f"{estimate.name}: {points} points [{estimate.source}]"
    return Table(title=title, columns=(Column(key="point", title="#"), *TIMES), rows=rows)


def _terms_table(estimate: Estimate) -> Table:
    columns = (
        Column(key="term", title="term", right=False),
        Column(key="time_s", title="time", unit="s"),
    )
    rows = tuple({"term": k, "time_s": float(v)} for k, v in estimate.terms.items())
    return Table(title="terms", columns=columns, rows=rows)


def _parts_table(estimate: Estimate) -> Table:
    columns = (
        Column(key="group", title="group", right=False),
        Column(key="op", title="operator", right=False),
        Column(key="count", title="count"),
        Column(key="each_s", title="each", unit="s"),
        Column(key="total_s", title="total", unit="s"),
        Column(key="share", title="share", text="{:.1%}".format),
        Column(key="bound", title="bound", right=False),
        Column(key="source", title="source", right=False),
    )
    rows = [
        {
            "group": part.group,
            "op": part.estimate.name,
            "count": float(part.count),
            "each_s": float(part.estimate.time_s),
            "total_s": float(part.count * part.estimate.time_s),
            "share": float(part.count * part.estimate.time_s / estimate.time_s),
            "bound": str(part.estimate.bound),
            "source": part.estimate.source,
        }
        for part in estimate.parts
    ]
    rows.sort(key=lambda r: -r["total_s"])  # type: ignore[operator]
    return Table(title="operators, slowest first", columns=columns, rows=tuple(rows))


def capacity_shown(answer: CapacityAnswer) -> Shown:
    """The verdict, the memory stack with its budget line, and what would relax it."""
    tables = [_capacity_table(answer), stack_table(answer.stack, answer.per_device["memory_bytes"])]
    if answer.relax:
        tables.append(_relaxation_table(answer))
    swap = [] if answer.swap_s is None else [
        f"moving one user's cache over the host link takes {seconds(answer.swap_s)} [analytic]"
    ]  # fmt: skip
    return tables, [f"what binds: {answer.binds}", *swap, *assumed(answer.assumptions)]


CAPACITY = (
    Column(key="params", title="parameters", text=parameters),
    Column(key="weights_bytes", title="weights", text=format_binary),
    Column(key="kv_bytes_per_token", title="KV per token", text=format_binary),
    Column(key="kv_bytes_per_user", title="KV per user", text=format_binary),
    Column(key="state_bytes_per_user", title="state per user", text=format_binary),
    Column(key="budget_bytes", title="memory", text=format_binary),
    Column(key="max_users", title="max users"),
    Column(key="max_context", title="max context"),
    Column(key="fits", title="fits"),
)


def _capacity_table(answer: CapacityAnswer) -> Table:
    s = answer.setting
    asked = f"{s.users:,} user{'s' if s.users > 1 else ''} of {s.context:,} tokens"
    where = f"{answer.model} on {s.devices} x {answer.device}"
    does = "fits" if answer.fits else "DOES NOT FIT"
    verdict = f"{where}: {does} {asked}; room for {answer.max_users:,} [analytic]"
    return Table(title=verdict, columns=CAPACITY, rows=(answer.to_dict(),))


def stack_table(stack: Mapping[str, float], budget: float) -> Table:
    """What one device holds, largest part of the budget visible as a bar, budget line last."""
    columns = (
        Column(key="part", title="per device", right=False),
        Column(key="bytes", title="size", text=format_binary),
        Column(key="share", title="of memory", text="{:.1%}".format),
        Column(key="bar", title="", right=False),
    )
    total = sum(stack.values())
    sizes = {**stack, "total": total, "memory": budget}
    rows = tuple(
        {"part": part, "bytes": size, "share": size / budget, "bar": _bar(size / budget)}
        for part, size in sizes.items()
    )
    return Table(title="memory", columns=columns, rows=rows)


def _bar(share: float) -> str:
    full = "#" * min(BAR, round(share * BAR))
    return full + (">" if share > 1 else "")


def _relaxation_table(answer: CapacityAnswer) -> Table:
    columns = (
        Column(key="change", title="what would relax it", right=False),
        Column(key="max_users", title="max users"),
        Column(key="max_context", title="max context"),
    )
    return Table(
        title="relaxations", columns=columns, rows=tuple(r.to_dict() for r in answer.relax)
    )


PLANS = (
    Column(key="device", title="device", right=False),
    Column(key="devices", title="devices"),
    Column(key="tp", title="tp"),
    Column(key="pp", title="pp"),
    Column(key="replicas", title="replicas"),
    Column(key="batch", title="batch"),
    Column(key="weight_dtype", title="weights", right=False),
    Column(key="kv_dtype", title="KV", right=False),
    Column(key="ttft_s", title="TTFT", unit="s"),
    Column(key="tpot_s", title="TPOT", unit="s"),
    Column(key="tokens_per_s", title="tokens/s"),
    Column(key="usd_per_million_output_tokens", title="$/M out", text=dollars),
    Column(key="energy_j", title="energy/M out", unit="J"),
    Column(key="bound", title="waits for", right=False),
    Column(key="limit", title="limited by", right=False),
    Column(key="pareto", title="Pareto"),
    Column(key="source", title="source", right=False),
)

MOST_ROWS = 10
"""Plans and reasons that people are shown; machine output has all."""


def plan_shown(answer: PlanAnswer) -> Shown:
    """The best plan as a verdict, the plans, its memory, what would relax it, and why not."""
    best = answer.best
    tables = [_plans_table(answer)]
    notes: list[str] = []
    if best is not None:
        tables.append(stack_table(best.stack, best.budget_bytes))
        notes += [*_level_notes(best), f"cost: {best.price.origin}"]
    if answer.relax:
        tables.append(_relief_table(answer))
    hidden = len(answer.infeasible) - MOST_ROWS
    notes += [f"not possible: {r}" for r in answer.infeasible[:MOST_ROWS]]
    notes += [f"not possible: {hidden} more (--json lists all)"] if hidden > 0 else []
    return tables, [*notes, *assumed(answer.assumptions)]


def plan_rows(answer: PlanAnswer) -> tuple[dict[str, Any], ...]:
    """Every plan as flat columns."""
    return tuple(
        p.to_dict()
        | {
            "weight_dtype": p.dtypes.weight,
            "kv_dtype": p.dtypes.kv,
            "ttft_s": float(p.ttft.span.value),
            "tpot_s": float(p.tpot.span.value),
            "usd_per_million_output_tokens": p.usd_per_million_tokens,
            "energy_j": p.joules_per_million_tokens,
            "bound": p.resource,
            "limit": p.limit,
        }
        for p in answer.plans
    )


def _plans_table(answer: PlanAnswer) -> Table:
    rows = plan_rows(answer)
    return Table(title=plan_verdict(answer), columns=PLANS, rows=rows, caption=_more(answer))


def _more(answer: PlanAnswer) -> str | None:
    rest = answer.found - len(answer.plans)
    return f"{rest} more plans, none better on any count" if rest > 0 else None


def plan_verdict(answer: PlanAnswer) -> str:
    """One line: what to buy and what it gives, or that nothing serves."""
    d, best = answer.demand, answer.best
    load = f"{d.users:,} users" if d.users is not None else f"{d.rate:g} requests/s"
    ask = f"{answer.model}, {load}, {d.prompt:,} tokens in, {d.output:,} out"
    if best is None:
        return f"{ask}: NO PLAN meets it"
    shape = f"tp {best.split.tp}" + (f" x pp {best.split.pp}" if int(best.split.pp) > 1 else "")
    cost = "cost unknown" if best.usd_per_million_tokens is None else (
        f"{dollars(best.usd_per_million_tokens)} per million output tokens"
    )  # fmt: skip
    return (
        f"{ask}: {best.devices} x {best.device} ({best.replicas} x {shape}), "
        f"TTFT {_level(best.ttft)}, TPOT {_level(best.tpot)}, {plain(best.tokens_per_s)} tokens/s, "
        f"{cost}, waits for {best.resource} [{best.source}]"
    )


def _level(level: Level) -> str:
    span = level.span
    return f"{seconds(float(span.value))} ({interval(float(span.low), float(span.high))})"


def _level_notes(plan: Plan) -> Iterator[str]:
    for name, level in (("TTFT", plan.ttft), ("TPOT", plan.tpot)):
        if level.asked_s is not None and level.position is not None:
            sure = "with its whole interval" if level.position >= 1 else (
                f"at its estimate, not at the upper end: the level lies {level.position:.0%} "
                "of the way up the interval"
            )  # fmt: skip
            yield f"{name} meets {seconds(level.asked_s)} {sure}"


def _relief_table(answer: PlanAnswer) -> Table:
    columns = (
        Column(key="change", title="what would relax it", right=False),
        Column(key="device", title="device", right=False),
        Column(key="devices", title="devices"),
        Column(key="usd_per_million_output_tokens", title="$/M out", text=dollars),
        Column(key="latency_s", title="whole request", unit="s"),
    )
    rows = tuple(r.to_dict() for r in answer.relax)
    return Table(title="relaxations", columns=columns, rows=rows)


def comparison_shown(found: Comparison) -> Shown:
    """Devices side by side, fastest first."""
    columns = (
        Column(key="device", title="device", right=False),
        *TIMES[:5],
        Column(key="times_fastest", title="x fastest"),
        Column(key="max_users", title="max users"),
        Column(key="usd_per_million", title="$ per million", text=dollars),
        Column(key="source", title="source", right=False),
        Column(key="refused", title="no answer because", right=False),
    )
    rows = []
    for row in found.rows:
        times = {} if row.estimate is None else {
            c.key: getattr(row.estimate, c.key) for c in TIMES
        } | {"bound": str(row.estimate.bound)}  # fmt: skip
        rows.append(
            times
            | {
                "device": row.device,
                "times_fastest": found.ratio(row),
                "max_users": row.max_users,
                "usd_per_million": row.usd_per_million,
                "refused": row.refused,
            }
        )
    best = found.fastest
    lead = "" if best is None else f": {best.device} is fastest"
    table = Table(title=f"{found.question}{lead}", columns=columns, rows=tuple(rows))
    notes = [n for r in found.rows if r.estimate is not None for n in r.estimate.assumptions]
    return [table], assumed(tuple(dict.fromkeys(notes)))


def assumed(assumptions: Sequence[str]) -> list[str]:
    """Assumptions as notes below the tables."""
    return [f"assumed: {note}" for note in assumptions]
