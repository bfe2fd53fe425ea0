"""Mean latency and throughput of one replica in steady state, with chunked prefill.

``B`` requests are in flight, arrivals staggered; each needs ``n`` chunks of prefill and then
``output - 1`` decode steps. Chunks ride on the decode steps of the others (Agrawal et al.,
"Sarathi-Serve", 2024, section 4.2), so a step is either mixed (time ``t_m``) or pure decode
(``t_d``). With a pipeline of ``pp`` stages, time goes in slots of one stage, ``t / pp`` long, and
each slot serves one micro-batch of ``ceil(B / pp)``. Counting slots of a request's life and the
share of them that carry somebody else's chunk::

    life = n + pp - 1 + (output - 1) pp
    phi  = min(1, (B - 1) n / life)
    TPOT = phi t_m + (1 - phi) t_d
    TTFT = slots t_m / pp,   slots = max(n + pp - 1, (B - D) n),   D = min(B, (output - 1) pp / n)

The second entry of ``slots`` is Little's law where prefill alone fills every slot: then only ``D``
requests can be decoding and the others wait. Both agree at the edge. Nothing else queues. A mixed
step is taken at the mean position of a chunk in its prompt, to which attention is linear, with one
decoding sequence at least (so that a lone user's TTFT is high by one sequence's decode, 1-2 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.answer import Estimate
from perfmodel.hw.device import Device
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split
from perfmodel.models.shape import ModelShape
from perfmodel.models.timing import step
from perfmodel.planning.demand import Demand
from perfmodel.workload import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """A time with its interval."""

    value: Array
    low: Array
    high: Array

    def __add__(self, other: Span) -> Span:
        return Span(
            value=self.value + other.value, low=self.low + other.low, high=self.high + other.high
        )

    def scaled(self, factor: Array | float) -> Span:
        """The span times a factor of at least 0."""
        by = np.asarray(factor, dtype=np.float64)[()]
        return Span(value=self.value * by, low=self.low * by, high=self.high * by)

    def at(self, index: Any) -> Span:
        """One point of a grid."""
        value, low, high = (np.asarray(x)[index] for x in (self.value, self.low, self.high))
        return Span(value=value, low=low, high=high)

    def to_dict(self) -> dict[str, float]:
        """JSON-ready, for a single point."""
        return {"value": float(self.value), "low": float(self.low), "high": float(self.high)}


def span(estimate: Estimate) -> Span:
    """An estimate's time with its interval."""
    return Span(value=estimate.time_s, low=estimate.low_s, high=estimate.high_s)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Serving:
    """One replica in steady state, over the grid of ``batch`` and ``tp``."""

    batch: Array
    ttft: Span
    tpot: Span
    latency: Span
    """A whole request: time to first token and all the others."""
    requests_per_s: Array
    mixed_share: Array
    """Share of a decoding request's steps that carry a prefill chunk."""
    saturated: NDArray[np.bool_]
    """Whether prefill alone fills every step."""
    slots: Array
    """Slots from arrival to first token."""
    chunks: int
    chunk: int
    """Prompt tokens per chunk."""
    decode: Estimate
    """One step of pure decode."""
    mixed: Estimate
    """One chunk of a prompt beside the decode steps of the others."""


def serve(
    shape: ModelShape,
    device: Device,
    demand: Demand,
    *,
    split: Split,
    dtypes: Dtypes,
    batch: Array,
    chunk: int | None,
) -> Serving:
    """How one replica serves ``batch`` requests in flight (arrays of ``batch`` and ``split``
    broadcast). ``chunk`` is prefill tokens per step; None prefills a whole prompt in one step.

    Raises: as :func:`perfmodel.models.timing.step`.
    """
    pp, out = np.asarray(split.pp, dtype=np.float64)[()], float(demand.output)
    n = -(-demand.fresh // min(chunk or demand.fresh, demand.fresh))
    size = -(-demand.fresh // n)
    life = n + pp - 1.0 + (out - 1.0) * pp
    decoding = np.minimum(batch, (out - 1.0) * pp / n)
    others = np.maximum(np.minimum(batch - 1.0, decoding), 1.0)
    common: dict[str, Any] = {
        "tp": split.tp,
        "pp": split.pp,
        "ep": split.ep,
        "dtypes": dtypes,
        "context": demand.mean_context,
    }
    seen = demand.prompt - demand.fresh + -(-size * (n + 1) // 2)
    decode = step(shape, device, phase="decode", batch=_micro(batch, pp), **common)
    mixed = step(
        shape, device, phase="mixed", batch=_micro(others, pp), prompt=seen, chunk=size, **common
    )
    slots = np.maximum(n + pp - 1.0, (batch - decoding) * n)
    phi = np.minimum(1.0, (batch - 1.0) * n / life)
    tpot = span(mixed).scaled(phi) + span(decode).scaled(1.0 - phi)
    ttft = span(mixed).scaled(slots / pp)
    latency = ttft + tpot.scaled(out - 1.0)
    return Serving(
        batch=batch,
        ttft=ttft,
        tpot=tpot,
        latency=latency,
        requests_per_s=batch / latency.value,
        mixed_share=phi,
        saturated=np.asarray(slots > n + pp - 1.0),
        slots=slots,
        chunks=n,
        chunk=size,
        decode=decode,
        mixed=mixed,
    )


def _micro(batch: Array, stages: Array) -> Any:
    """Sequences of one micro-batch, as the whole numbers that a step takes."""
    whole = np.ceil(np.asarray(batch) / stages).astype(np.int64)
    return whole if whole.ndim else int(whole)
