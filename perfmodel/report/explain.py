"""How an answer came about, told from the same terms that made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue
from perfmodel.planning.answers import Plan, PlanAnswer
from perfmodel.planning.memory import CapacityAnswer
from perfmodel.report.derivation import derive
from perfmodel.report.plans import plan_verdict
from perfmodel.report.shown import dollars, seconds
from perfmodel.units import format_binary, format_si


@singledispatch
def explain(answer: object) -> str:
    """The derivation of an Estimate, a CapacityAnswer or a PlanAnswer, as plain lines.

    Raises:
        BadValue: not an answer of this package, or an estimate over a grid.
    """
    msg = f"cannot explain {type(answer).__name__}"
    raise BadValue(msg, field="answer", fix="an Estimate, a CapacityAnswer or a PlanAnswer")


@explain.register
def _(answer: Estimate) -> str:
    return derive(answer)


@explain.register
def _(answer: CapacityAnswer) -> str:
    return "\n".join(_capacity_lines(answer))


@explain.register
def _(answer: PlanAnswer) -> str:
    return "\n".join(_plan_lines(answer))


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
    yield from plan_verdict(a)
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


def _term_lines(name: str, terms: Mapping[str, float], total: float) -> Iterator[str]:
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
