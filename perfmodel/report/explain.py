"""How an answer came about, told from the same terms that made it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue
from perfmodel.planning.answers import Plan, PlanAnswer
from perfmodel.planning.memory import CapacityAnswer
from perfmodel.report.verdicts import dollars, interval, plan_verdict, seconds
from perfmodel.units import format_binary, format_si


@singledispatch
def explain(answer: object) -> str:
    """The derivation of an Estimate, a CapacityAnswer or a PlanAnswer, as plain lines.

    Raises:
        BadValue: not an answer of this package, or an estimate over a grid.
    """
    msg = f"cannot explain a {type(answer).__name__}"
    raise BadValue(msg, field="answer", fix="an Estimate, a CapacityAnswer or a PlanAnswer")


@explain.register
def _(answer: Estimate) -> str:
    if answer.shape:
        msg = f"explains one point, got a grid of {answer.shape}"
        raise BadValue(msg, field="answer", fix="estimate a single point")
    return "\n".join(_estimate_lines(answer))


@explain.register
def _(answer: CapacityAnswer) -> str:
    return "\n".join(_capacity_lines(answer))


@explain.register
def _(answer: PlanAnswer) -> str:
    return "\n".join(_plan_lines(answer))


def _estimate_lines(e: Estimate, indent: str = "") -> Iterator[str]:
    yield f"{indent}{e.name}: {seconds(float(e.time_s))} [{e.source}]"
    numbers = " + ".join(seconds(float(t)) for t in e.terms.values())
    yield f"{indent}  time = {e.formula}"
    yield f"{indent}  terms: " + ", ".join(
        f"{name} {seconds(float(t))}" for name, t in e.terms.items()
    )
    if e.formula == " + ".join(e.terms):
        yield f"{indent}       = {numbers}"
    yield f"{indent}  interval {interval(float(e.low_s), float(e.high_s))}" + (
        "" if e.coverage is None else f", coverage {e.coverage:.0%}"
    )
    yield f"{indent}  lower bound {seconds(float(e.lower_bound_s))}, bound by {e.bound}"
    for part in sorted(e.parts, key=lambda p: -float(p.count * p.estimate.time_s)):
        total = float(part.count * part.estimate.time_s)
        each = seconds(float(part.estimate.time_s))
        yield (
            f"{indent}  {part.group}/{part.estimate.name}: {float(part.count):g} x {each} "
            f"= {seconds(total)} ({total / float(e.time_s):.1%}), bound by {part.estimate.bound}"
        )


def _capacity_lines(a: CapacityAnswer) -> Iterator[str]:
    d = a.per_device
    yield f"{a.model} on {a.setting.devices} x {a.device}, per device:"
    for name, size in a.stack.items():
        yield f"  {name}: {size:,.0f} B ({format_binary(size)})"
    yield f"  used = {d['used_bytes']:,.0f} B of {d['memory_bytes']:,.0f} B"
    user = d["kv_bytes_per_user"] + d["state_bytes_per_user"]
    yield (
        f"  one user = KV {d['kv_bytes_per_user']:,.0f} B + state "
        f"{d['state_bytes_per_user']:,.0f} B = {user:,.0f} B"
    )
    yield f"  max users {a.max_users}: that many fit, one more does not; binds: {a.binds}"


def _plan_lines(a: PlanAnswer) -> Iterator[str]:
    yield plan_verdict(a)
    if a.best is None:
        yield from (f"  {reason}" for reason in a.infeasible)
        return
    yield from _best_lines(a, a.best)
    yield f"  why not fewer devices: {a.best.limit}"
    for r in a.relax:
        cost = dollars(r.usd_per_million_tokens)
        yield f"  with {r.change}: {r.devices} x {r.device}, {cost} per million output tokens"


def _best_lines(a: PlanAnswer, p: Plan) -> Iterator[str]:
    d, s = a.demand, p.steps
    share = p.mixed_share
    yield (
        f"  prefill: {d.fresh:,} of {d.prompt:,} prompt tokens in {s.chunks} chunks of "
        f"{s.chunk:,}; a step with a chunk takes {seconds(float(s.mixed.value))}"
    )
    yield (
        f"  TTFT = {s.slots:g} x {seconds(float(s.mixed.value))} / {p.split.pp} stages "
        f"= {seconds(float(p.ttft.span.value))}"
    )
    yield (
        f"  TPOT = {share:.3f} x {seconds(float(s.mixed.value))} + {1 - share:.3f} x "
        f"{seconds(float(s.decode.value))} = {seconds(float(p.tpot.span.value))} "
        "(steps that carry another request's chunk, and steps that do not)"
    )
    yield (
        f"  request = TTFT + {d.output - 1:,} x TPOT = {seconds(float(p.latency_s.value))}; "
        f"{p.users:.4g} users / that = {p.requests_per_s:.3g} requests/s "
        f"= {p.tokens_per_s:.4g} tokens/s"
    )
    yield from _term_lines("decode step", s.decode_terms, float(s.decode.value))
    yield from _term_lines("mixed step", s.mixed_terms, float(s.mixed.value))
    yield from _memory_lines(p)
    yield from _money_lines(p)


def _term_lines(name: str, terms: dict[str, float], total: float) -> Iterator[str]:
    inside = ", ".join(
        f"{k} {seconds(v)} ({v / total:.0%})" for k, v in sorted(terms.items(), key=lambda t: -t[1])
    )
    yield f"  {name} of {seconds(total)}: {inside}"


def _memory_lines(p: Plan) -> Iterator[str]:
    parts = ", ".join(f"{name} {format_binary(size)}" for name, size in p.stack.items())
    yield f"  memory per device of {format_binary(p.budget_bytes)}: {parts}"
    yield f"  room for {p.most_users} users per replica, {p.batch} planned"


def _money_lines(p: Plan) -> Iterator[str]:
    if p.price.usd_per_hour is None or p.usd_per_million_tokens is None:
        yield f"  cost: {p.price.origin}"
    else:
        yield (
            f"  cost = {dollars(p.price.usd_per_hour)}/h x {p.devices} devices / "
            f"{p.tokens_per_s * 3600 / 1e6:.3g} M tokens/h = {dollars(p.usd_per_million_tokens)} "
            f"per million output tokens ({p.price.origin})"
        )
    if p.joules_per_million_tokens is not None:
        each = format_si(p.joules_per_million_tokens, "J")
        yield f"  energy at TDP: {each} per million output tokens"
