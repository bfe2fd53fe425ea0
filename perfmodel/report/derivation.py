"""How an estimate came about: its roofs, its formula with numbers put in, what it rests on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from perfmodel.answer import Estimate, Part
from perfmodel.errors import BadValue
from perfmodel.units import format_si
from perfmodel.workload import Array


def derive(estimate: Estimate) -> str:
    """The derivation of a single estimate (an operator, or a step with parts) as plain lines.

    Raises:
        BadValue: the estimate is a grid.
    """
    if estimate.shape:
        msg = f"explains one point, got a grid of {estimate.shape}"
        raise BadValue(msg, field="answer", fix="estimate a single point")
    return "\n".join(derivation_lines(estimate))


def derivation_lines(e: Estimate) -> Iterator[str]:
    """What :func:`derive` prints, line by line."""
    where = f" on {e.facts['device']}" if "device" in e.facts else ""
    yield f"{e.name}{where}: {seconds(e.time_s)}, bound by {e.bound} [{e.source}]"
    coverage = "" if e.coverage is None else f" ({e.coverage:.0%} of held-back rows lie inside)"
    yield f"interval {seconds(e.low_s)} .. {seconds(e.high_s)}{coverage}"
    yield from _bound_lines(e)
    yield from _estimate_lines(e)
    yield from _part_lines(e.parts)
    yield from _listed("rests on", e.facts.get("rests_on", ()))
    yield from _listed("assumes", e.assumptions)


def _bound_lines(e: Estimate) -> Iterator[str]:
    roofs = {
        key.removesuffix("_roof_s"): value
        for key, value in e.facts.items()
        if key.endswith("_roof_s")
    }
    yield f"lower bound {seconds(e.lower_bound_s)}" + (" = the largest of" if roofs else "")
    for name, value in sorted(roofs.items(), key=lambda item: -float(item[1])):
        yield f"  {name:<8} {seconds(value)}"
    if "flops" in e.facts and "bytes" in e.facts:
        flops, traffic = float(e.facts["flops"]), float(e.facts["bytes"])
        intensity = f", {flops / traffic:.3g} FLOP/B" if traffic else ""
        yield f"  of {format_si(flops, 'FLOP')} and {format_si(traffic, 'B')}{intensity}"


def _estimate_lines(e: Estimate) -> Iterator[str]:
    yield f"estimate = {e.formula}"
    yield f"         = {substituted(e.formula, _named(e))}"
    yield f"         = {seconds(e.time_s)}"


def substituted(formula: str, terms: Mapping[str, Array]) -> str:
    """``formula`` with the name of every term replaced by its seconds."""
    names = sorted(terms, key=len, reverse=True)
    if not names:
        return formula
    pattern = r"(?<![\w.])(" + "|".join(re.escape(n) for n in names) + r")(?![\w.])"
    return re.sub(pattern, lambda m: seconds(terms[m[1]]), formula)


def _part_lines(parts: tuple[Part, ...]) -> Iterator[str]:
    if not parts:
        return
    yield "parts, longest first"
    for part in sorted(parts, key=lambda p: -float(p.count * p.estimate.time_s)):
        one, count = part.estimate, float(part.count)
        yield (
            f"  {part.group:<12} {seconds(count * one.time_s):>10} = {count:g} x "
            f"{one.name} {seconds(one.time_s)} [{one.source}, {one.bound}]"
        )
        yield f"    {one.formula} = {substituted(one.formula, _named(one))}"


def _named(e: Estimate) -> dict[str, Array]:
    return {**e.terms, "lower bound": e.lower_bound_s}


def _listed(title: str, lines: tuple[str, ...] | list[str]) -> Iterator[str]:
    if lines:
        yield title
        yield from (f"  - {line}" for line in lines)


def seconds(value: Array | float) -> str:
    """A time with the prefix that suits it."""
    return format_si(float(value), "s", digits=4)
