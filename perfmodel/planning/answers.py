"""What a planning question is answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.answer import Source
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split
from perfmodel.planning.cost import HourlyPrice
from perfmodel.planning.demand import Demand
from perfmodel.planning.serving import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A time against the service level asked of it, if one was."""

    span: Span
    asked_s: float | None
    coverage: float | None = None
    """Share of measurements that lay in such intervals; None where nothing was measured."""

    @property
    def chance(self) -> float | None:
        """Probability that the level holds, as far as the interval tells: its ends are the
        quantiles that ``coverage`` states, its value the median, log-linear between them. Beyond
        an end it is that end's quantile: no more is known there.
        """
        if self.asked_s is None or self.coverage is None:
            return None
        low, value, high = (
            float(np.log(x)) for x in (self.span.low, self.span.value, self.span.high)
        )
        tail = (1.0 - self.coverage) / 2.0
        known = np.interp(np.log(self.asked_s), [low, value, high], [tail, 0.5, 1.0 - tail])
        return float(known)

    @property
    def position(self) -> float | None:
        """Where the level lies in the interval, on a log scale: 0 at its low end, 1 at its high
        end or above it, so 1 means that the whole interval is within the level.
        """
        if self.asked_s is None:
            return None
        low, high = float(self.span.low), float(self.span.high)
        if high <= low:
            return float(self.asked_s >= high)
        where = np.log(self.asked_s / low) / np.log(high / low)
        return float(np.clip(where, 0.0, 1.0))

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready: ``value, low, high, asked, position, chance``."""
        asked = {"asked": self.asked_s, "position": self.position, "chance": self.chance}
        return self.span.to_dict() | asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The two kinds of engine step behind a plan's times, and how they add up."""

    chunks: int
    """Steps in which one prompt is prefilled."""
    chunk: int
    slots: float
    """Steps from arrival to first token (in slots of one pipeline stage)."""
    mixed: Span
    """A step that carries a chunk."""
    decode: Span
    """A step that carries none."""
    mixed_terms: Mapping[str, float]
    decode_terms: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "chunks": self.chunks,
            "chunk": self.chunk,
            "slots": self.slots,
            "mixed_s": self.mixed.to_dict(),
            "decode_s": self.decode.to_dict(),
            "mixed_terms": dict(self.mixed_terms),
            "decode_terms": dict(self.decode_terms),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way of serving the load. Times are means over requests, without queueing."""

    device: str
    devices: int
    replicas: int
    split: Split
    dtypes: Dtypes
    batch: int
    """Requests in flight per replica."""
    most_users: int
    """Requests in flight for which one replica has memory."""
    users: float
    ttft: Level
    tpot: Level
    latency_s: Span
    requests_per_s: float
    tokens_per_s: float
    price: HourlyPrice
    usd_per_million_tokens: float | None
    joules_per_million_tokens: float | None
    stack: Mapping[str, float]
    """What one device holds, in bytes."""
    budget_bytes: float
    resource: str
    """The resource that the mean step waits for."""
    limit: str
    """What forbids doing it with fewer devices: ``"nothing"`` where fewer serve too,
    ``"smallest layout"`` where none smaller was tried.
    """
    steps: Steps
    mixed_share: float
    saturated: bool
    pareto: bool
    assumptions: tuple[str, ...]
    """What the step times take for granted."""
    coverage: float | None
    """Of the steps' intervals; their ends are added, as if all erred the same way."""
    source: Source

    @property
    def chance(self) -> float | None:
        """Probability that all service levels hold: the least of theirs, as the times of one plan
        are added up as if all erred the same way. None where none was asked or one is unknown.
        """
        asked = [level.chance for level in (self.ttft, self.tpot) if level.asked_s is not None]
        known = [chance for chance in asked if chance is not None]
        return min(known) if known and len(known) == len(asked) else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "device": self.device,
            "devices": self.devices,
            "tp": int(self.split.tp),
            "pp": int(self.split.pp),
            "ep": int(self.split.ep),
            "replicas": self.replicas,
            "batch": self.batch,
            "max_users_per_replica": self.most_users,
            "users": self.users,
            "dtypes": {
                "act": self.dtypes.act, "weight": self.dtypes.weight, "kv": self.dtypes.kv,
            },
            "ttft_s": self.ttft.to_dict(),
            "tpot_s": self.tpot.to_dict(),
            "latency_s": self.latency_s.to_dict(),
            "requests_per_s": self.requests_per_s,
            "tokens_per_s": self.tokens_per_s,
            "cost": self.price.to_dict() | {
                "usd_per_million_output_tokens": self.usd_per_million_tokens,
            },
            "energy": {
                "joules_per_million_output_tokens": self.joules_per_million_tokens,
                "basis": "every device at its TDP",
            },
            "memory": {"stack": dict(self.stack), "budget_bytes": self.budget_bytes},
            "bound": {"resource": self.resource, "limit": self.limit},
            "steps": self.steps.to_dict(),
            "mixed_share": self.mixed_share,
            "prefill_saturated": self.saturated,
            "pareto": self.pareto,
            "assumptions": list(self.assumptions),
            "coverage": self.coverage,
            "chance": self.chance,
            "source": self.source,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """A change of the question, and the best plan that it would give."""

    change: str
    device: str
    devices: int
    usd_per_million_tokens: float | None
    latency_s: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "change": self.change,
            "device": self.device,
            "devices": self.devices,
            "usd_per_million_output_tokens": self.usd_per_million_tokens,
            "latency_s": self.latency_s,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """Plans best first, why other layouts are none, and what would relax the best one."""

    model: str
    demand: Demand
    rank: str
    chunk: int | None
    plans: tuple[Plan, ...]
    found: int
    """Plans found, those beyond the list included."""
    infeasible: tuple[str, ...]
    relax: tuple[Relief, ...]
    assumptions: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether anything serves the load."""
        return bool(self.plans)

    @property
    def best(self) -> Plan | None:
        """The plan ranked first."""
        return self.plans[0] if self.plans else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the question it answers."""
        return {
            "model": self.model,
            "demand": self.demand.to_dict(),
            "rank": self.rank,
            "chunk": self.chunk,
            "plans": [p.to_dict() for p in self.plans],
            "found": self.found,
            "infeasible": list(self.infeasible),
            "relax": [r.to_dict() for r in self.relax],
            "assumptions": list(self.assumptions),
        }
