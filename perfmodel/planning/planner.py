"""Plans: ways of serving a load on devices within its service levels, ranked.

Each layout (device, data types, tensor and pipeline parallelism, users per replica) is evaluated;
those that have room in memory and meet the service levels are plans. "Nothing serves this" is an
answer too, with a reason for each layout and what would relax it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue, MissingData, PerfModelError, UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.models.flow import Dtypes
from perfmodel.models.shape import ModelShape
from perfmodel.models.stepping import estimates_shared
from perfmodel.planning.answers import Plan, PlanAnswer, Relief
from perfmodel.planning.cost import (
    HourlyPrice,
    hourly_price,
    joules_per_million_tokens,
    usd_per_million_tokens,
)
from perfmodel.planning.demand import Demand
from perfmodel.planning.detail import Candidate, build_plan, why_not
from perfmodel.planning.layouts import FITS, Search, Trial, Tries, check_search
from perfmodel.planning.pareto import pareto_mask
from perfmodel.planning.running import Wish
from perfmodel.workload import Array, dtype_bytes

Rank: TypeAlias = Literal["cost", "devices", "latency", "energy"]

SHOWN = 20
"""Plans returned, best first, besides those of the Pareto set."""

EASIER = 1.5
"""By how much a service level is loosened to see what it costs."""


def _key(candidate: Candidate, rank: Rank) -> tuple[float, ...]:
    """Sorts best first; an unknown cost or energy comes last and decides nothing."""
    usd, joules = (np.inf if np.isnan(x) else x for x in (candidate.usd, candidate.joules))
    first = {
        "cost": usd,
        "devices": candidate.devices,
        "latency": candidate.latency_s,
        "energy": joules,
    }[rank]
    return (first, usd, candidate.devices, candidate.latency_s)


def plan(
    shape: ModelShape,
    devices: Sequence[Device],
    demand: Demand,
    *,
    search: Search,
    rank: Rank = "cost",
    price: float | None = None,
    relax: bool = True,
) -> PlanAnswer:
    """Ways of serving ``demand`` with ``shape`` on any one of ``devices``, best first.

    ``price`` is dollars per device-hour, for all of them; without it each spec's own is used.
    ``relax`` also answers what easier questions would give.

    Raises:
        BadValue: no device, a model that does not generate, an unknown rank, a bad search space.
        UnsupportedDtype, MissingData: every device lacks what the question needs.
        ImpossibleSplit: a split asked for by name that the model forbids.
    """
    _check(shape, devices, rank, search)
    with estimates_shared():
        tries = Tries(shape)
        answer = _answer(tries, devices, demand, search, rank, price)
        if not relax:
            return answer
        best = answer.best
        ask = _asker(
            tries, [d for d in devices if best is None or d.name == best.device], rank, price
        )
        running = search.dtypes[0].on(shape, devices[0]) if best is None else best.dtypes
        return replace(answer, relax=tuple(_reliefs(answer, search, running, ask)))


def _answer(
    tries: Tries,
    devices: Sequence[Device],
    demand: Demand,
    search: Search,
    rank: Rank,
    price: float | None,
) -> PlanAnswer:
    """The question itself, without easier ones."""
    found, reasons = _candidates(tries, devices, demand, search, price)
    found.sort(key=lambda c: _key(c, rank))
    on_front = _front(found)
    kept = [i for i, front in enumerate(on_front) if front or i < SHOWN]
    plans = tuple(build_plan(found[i], demand, search, pareto=bool(on_front[i])) for i in kept)
    return PlanAnswer(
        model=tries.shape.name,
        demand=demand,
        rank=rank,
        chunk=search.chunk,
        plans=plans,
        found=len(found),
        infeasible=tuple(reasons),
        relax=(),
        assumptions=_assumptions(tries.shape, devices, demand, search, plans),
    )


def _check(shape: ModelShape, devices: Sequence[Device], rank: str, search: Search) -> None:
    if not devices:
        msg = "name at least one device"
        raise BadValue(msg, field="devices", fix="h100-sxm-80gb")
    if not shape.decoder:
        msg = f"{shape.name} does not generate tokens, so there is no serving to plan"
        raise BadValue(msg, field="model", fix="perfmodel estimate, with --phase encode")
    if rank not in get_args(Rank):
        msg = f"must be one of {', '.join(get_args(Rank))}, got {rank!r}"
        raise BadValue(msg, field="rank")
    check_search(search)


def _candidates(
    tries: Tries,
    devices: Sequence[Device],
    demand: Demand,
    search: Search,
    price: float | None,
) -> tuple[list[Candidate], list[str]]:
    """All plans, and why each layout without one has none.

    A device that lacks a data type or a figure is a reason, unless all do.
    """
    found: list[Candidate] = []
    reasons: list[str] = []
    refusals: list[PerfModelError] = []
    for device in devices:
        hourly = hourly_price(device, price)
        try:
            for trial in tries.on(device, demand, search):
                found += _feasible(trial, demand, hourly)
                reasons += why_not(trial, demand, search)
        except (UnsupportedDtype, MissingData) as refusal:
            refusals.append(refusal)
            reasons.append(f"{device.name}: {refusal}")
    if len(refusals) == len(devices):
        raise refusals[0]
    return found, reasons


def _feasible(trial: Trial, demand: Demand, price: HourlyPrice) -> Iterator[Candidate]:
    tokens_per_s = trial.requests_per_s * demand.output
    usd: Array = np.full_like(tokens_per_s, np.nan)
    joules: Array = usd
    if price.usd_per_hour is not None:
        usd = usd_per_million_tokens(price.usd_per_hour, trial.devices, tokens_per_s)
    if trial.device.tdp_w is not None:
        joules = joules_per_million_tokens(trial.device.tdp_w, trial.devices, tokens_per_s)
    best = _fewest_users(trial)
    for row, column in np.argwhere((trial.verdict == FITS) & best):
        yield Candidate(
            trial=trial,
            row=int(row),
            column=int(column),
            price=price,
            usd=float(np.asarray(usd)[row, column]),
            devices=float(trial.devices[row, column]),
            latency_s=float(np.asarray(trial.serving.latency.value)[row, column]),
            joules=float(np.asarray(joules)[row, column]),
        )


def _fewest_users(trial: Trial) -> NDArray[np.bool_]:
    """Of the points with as many replicas, the one with the fewest users each: it carries the
    load all the same, and sooner.
    """
    before = np.roll(trial.replicas, 1, axis=1)
    before[:, 0] = np.nan
    first: NDArray[np.bool_] = trial.replicas != before
    return first


def _front(found: Sequence[Candidate]) -> NDArray[np.bool_]:
    if not found:
        return np.zeros(0, dtype=np.bool_)
    costs = [(c.usd, c.devices, c.latency_s, c.joules) for c in found]
    return pareto_mask(np.array(costs, dtype=np.float64))


Ask: TypeAlias = Callable[[Demand, Search], Plan | None]


def _asker(tries: Tries, devices: Sequence[Device], rank: Rank, price: float | None) -> Ask:
    """Asks for the best plan of an easier question."""

    def ask(easier: Demand, wider: Search) -> Plan | None:
        found, _ = _candidates(tries, devices, easier, wider, price)
        best = min(found, key=lambda c: _key(c, rank), default=None)
        return None if best is None else build_plan(best, easier, wider, pareto=False)

    return ask


def _reliefs(answer: PlanAnswer, search: Search, running: Dtypes, ask: Ask) -> Iterator[Relief]:
    """Easier questions whose best plan beats the present one, each asked in full: of the device
    that is best now, or of all when none serves.
    """
    for change, easier, wider in _easier(answer.demand, search, running):
        try:
            best = ask(easier, wider)
        except PerfModelError:
            continue
        if best is not None and (answer.best is None or _beats(best, answer.best, answer.rank)):
            yield Relief(
                change=change,
                device=best.device,
                devices=best.devices,
                usd_per_million_tokens=best.usd_per_million_tokens,
                latency_s=float(best.latency_s.value),
            )


def _beats(one: Plan, other: Plan, rank: str) -> bool:
    def score(p: Plan) -> float:
        value = {
            "cost": p.usd_per_million_tokens,
            "devices": float(p.devices),
            "latency": float(p.latency_s.value),
            "energy": p.joules_per_million_tokens,
        }[rank]
        return float(p.devices) if value is None else value

    return score(one) < score(other)


def _easier(
    demand: Demand, search: Search, running: Dtypes
) -> Iterator[tuple[str, Demand, Search]]:
    first = Wish(dtype=running.act, weight_dtype=running.weight, kv_dtype=running.kv)
    if dtype_bytes(running.kv) > dtype_bytes("fp8"):
        yield "KV cache in fp8", demand, replace(search, dtypes=(replace(first, kv_dtype="fp8"),))
    for weight in ("int8", "int4"):
        if dtype_bytes(running.weight) > dtype_bytes(weight):
            narrow = replace(search, dtypes=(replace(first, weight_dtype=weight),))
            yield f"weights in {weight}", demand, narrow
    for field, label in (("ttft_s", "TTFT"), ("tpot_s", "TPOT")):
        asked = getattr(demand, field)
        if asked is not None:
            slower = replace(demand, **{field: asked * EASIER})
            yield f"{label} up to {asked * EASIER:g} s", slower, search
    if demand.prefix_hit == 0:
        yield "half of each prompt cached", replace(demand, prefix_hit=0.5), search


def _assumptions(
    shape: ModelShape,
    devices: Sequence[Device],
    demand: Demand,
    search: Search,
    plans: Sequence[Plan],
) -> tuple[str, ...]:
    prefill = f"chunks of {search.chunk} tokens" if search.chunk else "one step per prompt"
    held, seen = demand.peak_context, demand.mean_context
    notes = [
        "TTFT and TPOT are means over requests in flight, staggered, without queueing",
        f"prefill in {prefill}, mixed into the decode steps of the others",
        f"memory holds {held} tokens per user, decode attends to {seen} on average",
        f"framework reserve {search.reserve_bytes / 1e9:g} GB per device",
        f"at most {search.max_devices} devices; energy as if each drew its TDP, without host",
    ]
    if demand.prefix_hit:
        hit = f"{demand.prefix_hit:.0%} of each prompt is found in the prefix cache"
        notes.append(f"{hit}, and takes memory for every user all the same")
    if any(int(p.split.pp) > 1 for p in plans):
        notes.append("layers are spread evenly over pipeline stages")
    domains = {d.name: d.peer_link.domain for d in devices if d.peer_link is not None}
    if any(int(p.split.tp) * int(p.split.pp) > domains.get(p.device, 1) for p in plans):
        notes.append("stages in different nodes are timed as if the peer link joined them")
    best = plans[0].assumptions if plans else shape.assumptions
    return tuple(dict.fromkeys((*notes, *best)))
