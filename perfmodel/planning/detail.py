"""One point of a trial told in full: its plan, and why a layout has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.answer import Estimate, merge_coverages, merge_sources
from perfmodel.planning.answers import Level, Plan, Steps
from perfmodel.planning.cost import HourlyPrice
from perfmodel.planning.demand import Demand
from perfmodel.planning.layouts import DEVICES, FITS, NO_MEMORY, TPOT, TTFT, Search, Trial
from perfmodel.planning.serving import Span
from perfmodel.workload import Array

LIMITS = {
    NO_MEMORY: "memory capacity",
    TTFT: "TTFT",
    TPOT: "TPOT",
    DEVICES: "devices allowed",
}

RESOURCES = {
    "memory": "memory bandwidth",
    "tensor": "compute",
    "vector": "compute",
    "special": "compute",
    "compute": "compute",
    "link": "interconnect",
}
"""The resource that a roof stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A point of a trial that is a plan, with what it is ranked by; NaN is "not known"."""

    trial: Trial
    row: int
    column: int
    price: HourlyPrice
    usd: float
    devices: float
    latency_s: float
    joules: float


def build_plan(point: Candidate, demand: Demand, search: Search, *, pareto: bool) -> Plan:
    """The plan of a point of a trial."""
    trial, at = point.trial, (point.row, point.column)
    serving = trial.serving
    batch = int(np.ravel(serving.batch)[point.column])
    groups = trial.groups(point.row)
    rate = float(trial.requests_per_s[at])
    coverage = merge_coverages((serving.decode.coverage, serving.mixed.coverage))
    return Plan(
        device=trial.device.name,
        devices=int(trial.devices[at]),
        replicas=int(trial.replicas[at]),
        split=trial.at(point.row),
        dtypes=trial.dtypes,
        batch=batch * groups,
        most_users=int(_row(trial.most_users, point.row)) * groups,
        users=float(trial.users[at]),
        ttft=Level(span=serving.ttft.at(at), asked_s=demand.ttft_s, coverage=coverage),
        tpot=Level(span=serving.tpot.at(at), asked_s=demand.tpot_s, coverage=coverage),
        latency_s=serving.latency.at(at),
        requests_per_s=rate,
        tokens_per_s=rate * demand.output,
        price=point.price,
        usd_per_million_tokens=None if np.isnan(point.usd) else point.usd,
        joules_per_million_tokens=None if np.isnan(point.joules) else point.joules,
        stack=_stack(trial, point.row, batch),
        budget_bytes=search.budget(trial.device),
        resource=_resource(trial, at),
        limit=_limit(trial, at),
        steps=_steps(trial, at),
        mixed_share=float(_at(serving.mixed_share, at)),
        saturated=bool(_at(serving.saturated, at)),
        pareto=pareto,
        assumptions=tuple(dict.fromkeys((*serving.decode.assumptions, *serving.mixed.assumptions))),
        coverage=serving.decode.coverage,
        source=merge_sources((serving.decode.source, serving.mixed.source)),
    )


def _steps(trial: Trial, at: tuple[int, int]) -> Steps:
    serving = trial.serving
    mixed, decode = serving.mixed, serving.decode
    return Steps(
        chunks=serving.chunks,
        chunk=serving.chunk,
        slots=float(_at(serving.slots, at)),
        mixed=_span_at(mixed, at),
        decode=_span_at(decode, at),
        mixed_terms={k: float(_at(t, at)) for k, t in mixed.terms.items()},
        decode_terms={k: float(_at(t, at)) for k, t in decode.terms.items()},
    )


def _span_at(estimate: Estimate, at: tuple[int, int]) -> Span:
    value, low, high = (_at(x, at) for x in (estimate.time_s, estimate.low_s, estimate.high_s))
    return Span(value=value, low=low, high=high)


def _grid(trial: Trial, value: Any) -> Any:
    return np.broadcast_to(value, trial.devices.shape)


def _at(value: Any, at: tuple[int, int]) -> Any:
    """A quantity that broadcasts over a trial's grid, at one point."""
    array = np.asarray(value)
    place = at[len(at) - array.ndim :]
    return array[tuple(i if n > 1 else 0 for i, n in zip(place, array.shape, strict=True))]


def _row(value: Array, row: int) -> float:
    """A quantity that depends on the layout alone, at one row."""
    return float(_at(value, (row, 0)))


def _stack(trial: Trial, row: int, users: int) -> dict[str, float]:
    sizes = {name: _row(size, row) for name, size in trial.held.stack(users).items()}
    return {name: size for name, size in sizes.items() if size > 0}


def _resource(trial: Trial, at: tuple[int, int]) -> str:
    """The roof that binds the kind of step in which a decoding request spends most time."""
    serving = trial.serving
    share = _at(serving.mixed_share, at)
    mixed = share * _at(serving.mixed.time_s, at)
    decode = (1.0 - share) * _at(serving.decode.time_s, at)
    slower: Estimate = serving.mixed if mixed > decode else serving.decode
    roof = str(_at(slower.bound, at))
    return RESOURCES.get(roof, roof)


def _limit(trial: Trial, at: tuple[int, int]) -> str:
    """What forbids fewer replicas or, with one replica, a smaller group."""
    row, column = at
    replicas = trial.replicas[row]
    fewer = np.flatnonzero(replicas[column:] < replicas[column])
    if fewer.size:
        code = int(trial.verdict[row, column + int(fewer[0])])
    elif _narrower(trial, row) and trial.devices[row - 1, column] < trial.devices[at]:
        code = int(trial.verdict[row - 1, column])
    else:
        return "smallest layout"
    return LIMITS.get(code, "nothing")


def _narrower(trial: Trial, row: int) -> bool:
    """Whether the row before is the same layout with less tensor parallelism."""
    return row > 0 and trial.at(row - 1).pp == trial.at(row).pp


def why_not(trial: Trial, demand: Demand, search: Search) -> Iterator[str]:
    """A sentence for each row of the trial without a plan."""
    for row in range(trial.devices.shape[0]):
        codes = trial.verdict[row]
        if not bool(np.any(codes == FITS)):
            yield f"{_label(trial, row)}: {_reason(trial, row, demand, search)}"


def _label(trial: Trial, row: int) -> str:
    dtypes = "/".join((trial.dtypes.weight, trial.dtypes.kv))
    split = trial.at(row)
    return f"{trial.device.name} tp {split.tp} pp {split.pp} ({dtypes})"


def _reason(trial: Trial, row: int, demand: Demand, search: Search) -> str:
    codes = trial.verdict[row]
    if bool(np.all(codes == NO_MEMORY)):
        return _no_memory(trial, row, search)
    room = codes != NO_MEMORY
    ttft = float(_grid(trial, trial.serving.ttft.value)[row][room].min())
    if demand.ttft_s is not None and ttft > demand.ttft_s:
        return f"TTFT at best {ttft:.3g} s, asked {demand.ttft_s:.3g} s"
    tpot = float(_grid(trial, trial.serving.tpot.value)[row][room].min())
    if demand.tpot_s is not None and tpot > demand.tpot_s:
        return f"TPOT at best {tpot * 1e3:.3g} ms, asked {demand.tpot_s * 1e3:.3g} ms"
    if bool(np.any(codes == DEVICES)):
        fewest = int(trial.devices[row][codes == DEVICES].min())
        return f"needs {fewest} devices, allowed {search.max_devices}"
    return "no number of users per replica meets TTFT, TPOT and memory together"


def _no_memory(trial: Trial, row: int, search: Search) -> str:
    held, budget = trial.held, search.budget(trial.device)
    weights = _row(held.weights, row)
    if weights > budget:
        return f"weights {weights / 1e9:.3g} GB exceed the {budget / 1e9:.3g} GB per device"
    least = _row(held.used(1.0), row)  # every sweep tries a single user
    return f"one user needs {least / 1e9:.3g} GB per device of {budget / 1e9:.3g} GB"
