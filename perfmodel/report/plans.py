"""Plans for people: what to buy, what it gives, what it waits for, what would help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfmodel.planning.answers import Level, Plan, PlanAnswer
from perfmodel.report.shown import Shown, assumed, dollars, interval, seconds, stack_table
from perfmodel.report.tables import Column, Table, plain

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
    Column(key="chance", title="levels hold", text="{:.0%}".format),
    Column(key="tokens_per_s", title="tokens/s"),
    Column(key="usd_per_million_output_tokens", title="$/M out", text=dollars),
    Column(key="energy_j", title="energy/M out", unit="J"),
    Column(key="bound", title="waits for", right=False),
    Column(key="limit", title="limited by", right=False),
    Column(key="pareto", title="Pareto"),
    Column(key="source", title="source", right=False),
)

PEOPLE = (
    Column(key="device", title="device", right=False),
    Column(key="devices", title="devices"),
    Column(key="layout", title="layout", right=False),
    Column(key="batch", title="batch"),
    Column(key="ttft_s", title="TTFT", unit="s"),
    Column(key="tpot_s", title="TPOT", unit="s"),
    Column(key="chance", title="levels hold", text="{:.0%}".format),
    Column(key="tokens_per_s", title="tokens/s"),
    Column(key="usd_per_million_output_tokens", title="$/M out", text=dollars),
    Column(key="energy_j", title="J/M out", unit="J"),
    Column(key="bound", title="waits for", right=False),
    Column(key="limit", title="limited by", right=False),
    Column(key="pareto", title="Pareto"),
)
"""What of it people are shown."""

RELIEFS = (
    Column(key="change", title="what would relax it", right=False),
    Column(key="device", title="device", right=False),
    Column(key="devices", title="devices"),
    Column(key="usd_per_million_output_tokens", title="$/M out", text=dollars),
    Column(key="latency_s", title="whole request", unit="s"),
)

MOST_ROWS = 5
"""Plans and reasons that people are shown; machine output has all."""


def plan_shown(answer: PlanAnswer) -> Shown:
    """The best plan as a verdict, the plans, its memory, what would relax it, and why not."""
    rows = plan_rows(answer)
    whole = Table(title=f"plans, best by {answer.rank} first", columns=PLANS, rows=rows)
    tables = [Table(title=whole.title, columns=PEOPLE, rows=rows[:MOST_ROWS])] if rows else []
    if answer.best is not None:
        tables.append(stack_table(answer.best.stack, answer.best.budget_bytes))
    if answer.relax:
        reliefs = tuple(r.to_dict() for r in answer.relax)
        tables.append(Table(title="relaxations", columns=RELIEFS, rows=reliefs))
    return Shown(
        lead=plan_verdict(answer),
        tables=tuple(tables),
        notes=(*_notes(answer), *assumed(answer.assumptions)),
        rows=whole,
    )


def _notes(answer: PlanAnswer) -> Iterator[str]:
    if answer.found > MOST_ROWS:
        yield f"{answer.found - MOST_ROWS} more plans ({len(answer.plans)} of all in --json)"
    if answer.best is not None:
        yield from _level_notes(answer.best)
        yield f"what forbids fewer devices: {answer.best.limit}"
        yield f"price: {answer.best.price.origin}"
    for reason in answer.infeasible[:MOST_ROWS]:
        yield f"not possible: {reason}"
    if len(answer.infeasible) > MOST_ROWS:
        yield f"not possible: {len(answer.infeasible) - MOST_ROWS} more (all in --json)"


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
            "layout": layout(p),
            "bound": p.resource,
            "limit": p.limit,
        }
        for p in answer.plans
    )


def layout(plan: Plan) -> str:
    """Replicas, parallelism and, where they differ, data types: ``4 x tp 4, fp8 cache``."""
    pp = f" x pp {plan.split.pp}" if int(plan.split.pp) > 1 else ""
    ep = f", ep {plan.split.ep}" if int(plan.split.ep) > 1 else ""
    types = plan.dtypes
    weights = f", {types.weight} weights" if types.weight != types.act else ""
    cache = f", {types.kv} cache" if types.kv != types.act else ""
    return f"{plan.replicas} x tp {plan.split.tp}{pp}{ep}{weights}{cache}"


def plan_verdict(answer: PlanAnswer) -> tuple[str, ...]:
    """What to buy, and what it gives; or that nothing serves."""
    d, best = answer.demand, answer.best
    load = f"{d.users:,} users" if d.users is not None else f"{d.rate:g} requests/s"
    ask = f"{answer.model} for {load}, {d.prompt:,} tokens in, {d.output:,} out"
    if best is None:
        return (f"{ask}: NO PLAN meets it",)
    cost = best.usd_per_million_tokens
    priced = "cost unknown" if cost is None else f"{dollars(cost)} per million output tokens"
    times = f"TTFT {_level(best.ttft)}, TPOT {_level(best.tpot)}"
    return (
        f"{ask}: {best.devices} x {best.device} ({layout(best)}) [{best.source}]",
        f"{times}, {plain(best.tokens_per_s)} tokens/s, {priced}; waits for {best.resource}",
    )


def _level(level: Level) -> str:
    span = level.span
    return f"{seconds(float(span.value))} ({interval(float(span.low), float(span.high))})"


def likely(level: Level) -> str:
    """How probable it is that the level holds; beyond the interval's ends, at least or at most."""
    if level.asked_s is None:
        return "no level asked"
    within = f"within {seconds(level.asked_s)}"
    if level.chance is None:
        lies = f"the level lies {level.position:.0%} of the way up its interval"
        return f"{within}: chance unknown, its interval is assumed, not measured; {lies}"
    low, high = float(level.span.low), float(level.span.high)
    bound = "at least " if level.asked_s >= high else "at most " if level.asked_s <= low else ""
    return f"{bound}{level.chance:.0%} likely {within}"


def _level_notes(plan: Plan) -> Iterator[str]:
    asked = [(n, x) for n, x in (("TTFT", plan.ttft), ("TPOT", plan.tpot)) if x.asked_s is not None]
    yield from (f"{name} {likely(level)}" for name, level in asked)
    if plan.chance is not None and plan.coverage is not None:
        tail = (1.0 - plan.coverage) / 2.0
        both = "all levels hold" if len(asked) > 1 else "the level holds"
        yield (
            f"chance that {both}: {plan.chance:.0%} (the ends of an interval are its "
            f"{tail:.0%} and {1.0 - tail:.0%} quantiles, the estimate its median, log-linear "
            "between; times of one plan err together)"
        )
