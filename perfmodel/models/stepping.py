"""Counted operators into the time of a step: sums of estimates, one roof for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel.answer import Estimate, Part, merge_coverages, merge_sources
from perfmodel.hw.device import Device
from perfmodel.models.engines import Engine
from perfmodel.models.flow import CountedOp, Dtypes
from perfmodel.models.host import (
    FEATURES,
    EngineTimes,
    engine_times,
    features,
    host_features,
    host_fit,
)
from perfmodel.models.parallel import Split
from perfmodel.models.parameters import parameter_count
from perfmodel.models.shape import ModelShape, Moe
from perfmodel.ops import Cost, count
from perfmodel.ops.cost import ZERO
from perfmodel.ops.gemm import is_weight_only
from perfmodel.ops.numbers import f64
from perfmodel.roofline.bounds import Bound, largest, lower_bound
from perfmodel.roofline.residuals import Residuals
from perfmodel.roofline.time import estimate
from perfmodel.workload import (
    Array,
    Attention,
    Collective,
    Elementwise,
    Gemm,
    Norm,
    RateKey,
    Workload,
)

COLD = ("embed", "optimizer")
"""Groups whose pointwise operators read what rests in memory."""
BALANCED = "tokens choose experts evenly and independently of each other"


_SHARED: ContextVar[dict[object, Estimate] | None] = ContextVar("shared_estimates", default=None)


@contextmanager
def estimates_shared() -> Iterator[None]:
    """Estimate an operator once for all steps inside, which run on devices that live as long."""
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timed:
    """An operator's estimate and its share of the step: seconds with the count applied."""

    op: CountedOp
    estimate: Estimate
    time_s: Array
    low_s: Array
    high_s: Array
    lower_bound_s: Array


def combine(
    ops: Sequence[CountedOp],
    device: Device,
    *,
    name: str,
    shape: ModelShape,
    split: Split,
    dtypes: Dtypes,
    tokens: Array,
    steps: Array,
    assumptions: Iterable[str],
    serving: Serving,
) -> Estimate:
    """The step's Estimate: ``time_s = sum of count x time`` over its operators, and host overhead.

    ``tokens`` are read or made, in ``steps`` engine steps. The interval is that of steps held back
    from the fit on served models, where ``serving`` has it, else the sum of the operators'.
    Attention is added last: it alone may vary over every axis of a grid, so all other sums stay
    small arrays.
    """
    timed = list(time_ops(attention_last(ops), device, serving, shape.name))
    host_s, host_note = serving.host_s(steps, split.tp, device)
    terms = terms_by_group(timed) | ({} if host_s is None else {"host": host_s})
    total = resting_cost(ops)
    bound = lower_bound(total, device)
    links = added(t.lower_bound_s for t in timed if isinstance(t.op.workload, Collective))
    time_s = added(terms.values())
    low_s, high_s, coverage = _interval(timed, time_s, host_s, bound, serving.residuals)
    return Estimate(
        name=name,
        time_s=time_s,
        low_s=low_s,
        high_s=high_s,
        lower_bound_s=bound.time_s,
        bound=largest({**bound.roofs, "link": links})[1],
        terms=terms,
        formula=" + ".join(terms),
        source=merge_sources(tuple(t.estimate.source for t in timed)),
        coverage=coverage,
        assumptions=_assumptions(shape, assumptions, timed, bound, host_note),
        parts=tuple(
            Part(group=t.op.group, count=_visits(t.op), estimate=t.estimate) for t in timed
        ),
        facts=_facts(total, device, dtypes)
        | {
            "collective_lower_bound_s": links,
            "parameters": parameter_count(shape).total,
            "pipeline_stages": split.pp,
            "tokens": tokens,
            "tokens_per_s": tokens / time_s,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Who runs a step: an engine with its fitted factors, or bare kernels one after another.

    ``residuals`` are those of whole served steps, where the question lies inside their fit.
    """

    engine: Engine | None = None
    residuals: Residuals | None = None

    def host_s(self, steps: Array, tp: Any, device: Device) -> tuple[Array | None, str]:
        """Host seconds of ``steps`` steps, None without an engine; and what that assumes."""
        if self.engine is None:
            return None, "no serving engine named: host time per step is taken as zero"
        times, note = engine_times(self.engine)
        host = host_features(steps, tp, device)
        return added(value * getattr(times, f"{k}_s") for k, value in host.items()), note

    def kernel(self, w: Workload, device: Device) -> str | None:
        """The implementation that the engine names for ``w``: of matrix products, and of
        all-reduces within a node."""
        if self.engine is None:
            return None
        if isinstance(w, Gemm):
            return self.engine.kernels.products.get(w.dtype) if not is_weight_only(w) else None
        if not isinstance(w, Collective) or w.kind != "all_reduce":
            return None
        joined = device.peer_link.domain if device.peer_link is not None else 0
        return self.engine.kernels.all_reduce if bool(np.all(f64(w.ranks) <= joined)) else None

    def adapt(self, found: Estimate, op: CountedOp, device: Device, model: str) -> Estimate:
        """One operator as the engine runs it."""
        if self.engine is None or host_fit() is None:
            return found
        parts = features(found, op.workload, device, self.engine, model, warm=_warm(op))
        if "plain" in parts:
            return found
        return _as_run(found, parts, engine_times(self.engine)[0])


def _as_run(found: Estimate, parts: dict[str, Array], times: EngineTimes) -> Estimate:
    factors = dict(zip(FEATURES, times.coefficients, strict=True))
    terms = {name: value * factors[name] for name, value in parts.items()}
    time_s = np.maximum(added(terms.values()), found.lower_bound_s)
    ratio = time_s / found.time_s
    return replace(
        found,
        time_s=time_s,
        low_s=np.maximum(found.low_s * ratio, found.lower_bound_s),
        high_s=found.high_s * ratio,
        terms=terms,
        formula="max(lower bound, " + " + ".join(terms) + ")",
    )


def step_features(
    ops: Sequence[CountedOp], device: Device, *, engine: Engine, model: str, steps: Array, tp: Any
) -> dict[str, Array]:
    """A step's seconds by feature: what an engine's factors multiply to give its time."""
    sums: dict[str, Array] = dict(host_features(steps, tp, device))
    serving = Serving(engine=engine)
    for op in attention_last(ops):
        found = estimate(
            op.workload, device, warm=_warm(op), kernel=serving.kernel(op.workload, device)
        )
        parts = features(found, op.workload, device, engine, model, warm=_warm(op))
        for name, value in parts.items():
            sums[name] = sums.get(name, ZERO) + times_count(op, value)
    return {name: sums.get(name, ZERO) for name in FEATURES}


def attention_last(ops: Sequence[CountedOp]) -> list[CountedOp]:
    """Operators in their order, those of attention after all others."""
    return sorted(ops, key=lambda op: isinstance(op.workload, Attention))


def time_ops(
    ops: Iterable[CountedOp], device: Device, serving: Serving, model: str
) -> Iterator[Timed]:
    """Every operator's time; layers that differ elsewhere share the estimates of what is equal, and
    so do steps inside :func:`estimates_shared`.
    """
    shared = _SHARED.get() if serving.engine is None else None
    known: dict[object, Estimate] = {} if shared is None else shared
    for op in ops:
        w = op.workload
        key = (w.key(), _warm(op), id(device))
        if key not in known:
            found = estimate(w, device, warm=_warm(op), kernel=serving.kernel(w, device))
            known[key] = serving.adapt(found, op, device, model)
        yield time_op(op, known[key])


def time_op(op: CountedOp, found: Estimate) -> Timed:
    """One operator's share of the step; over chunks the estimate shown is their mean."""
    names = ("time_s", "low_s", "high_s", "lower_bound_s")
    sums = {name: times_count(op, getattr(found, name)) for name in names}
    if op.summed:
        found = _mean_over_chunks(op, found, sums)
    return Timed(op=op, estimate=replace(found, name=op.name or found.name), **sums)


def _warm(op: CountedOp) -> bool:
    """Whether all operands were just written: pointwise operators but those on tables."""
    return isinstance(op.workload, Norm | Elementwise) and op.group not in COLD


def times_count(op: CountedOp, value: Array) -> Array:
    """``value`` of one execution times the count, chunks summed one after another.

    The running sum makes trailing chunks that some grid points lack add exact zeros.
    """
    product: Array = value * f64(op.count)
    return np.cumsum(product, axis=-1)[..., -1] if op.summed else product


def _visits(op: CountedOp) -> Array:
    return times_count(op, np.float64(1.0))


def _mean_over_chunks(op: CountedOp, found: Estimate, sums: dict[str, Array]) -> Estimate:
    visits = np.maximum(_visits(op), 1.0)
    shape = np.broadcast_shapes(np.shape(op.count), np.shape(found.time_s))
    spent = np.broadcast_to(found.time_s * f64(op.count), shape)
    longest = np.argmax(spent, axis=-1)[..., None]
    bound = np.take_along_axis(np.broadcast_to(found.bound, shape), longest, axis=-1)[..., 0]
    means: dict[str, Any] = {name: value / visits for name, value in sums.items()}
    terms = {name: times_count(op, value) / visits for name, value in found.terms.items()}
    return replace(found, bound=bound, terms=terms, facts={}, **means)


def terms_by_group(timed: Iterable[Timed]) -> dict[str, Array]:
    """Seconds by group, in the order of first occurrence."""
    terms: dict[str, Array] = {}
    for t in timed:
        terms[t.op.group] = terms[t.op.group] + t.time_s if t.op.group in terms else t.time_s
    return terms


def added(values: Iterable[Array]) -> Array:
    """The sum of arrays that broadcast, first to last."""
    return sum(values, start=ZERO)


def resting_cost(ops: Sequence[CountedOp]) -> Cost:
    """The whole step as one cost: all arithmetic, and the bytes that rest in memory around it.

    Those are weights, cache, state and embedding rows. Activations between operators could stay on
    the chip, so no bound may count them; collectives are kept apart.
    """
    flops: dict[RateKey, Array] = {}
    special: Array = ZERO
    weights: Array = ZERO
    resting: Array = ZERO
    for op in attention_last(ops):
        if isinstance(op.workload, Collective):
            continue
        cost = count(op.workload)
        for key, work in cost.flops.items():
            flops[key] = flops.get(key, ZERO) + times_count(op, work)
        special = special + times_count(op, cost.special)
        if not op.reread:
            weights = weights + times_count(op, cost.weight_bytes)
        resting = resting + times_count(op, f64(op.resting_bytes))
    return Cost(flops=flops, special=special, read_bytes=weights + resting, weight_bytes=weights)


def _facts(total: Cost, device: Device, dtypes: Dtypes) -> dict[str, Any]:
    flops, traffic = total.flops_total, total.bytes_total
    ridge = device.compute.peak("tensor", dtypes.act) / device.memory.bandwidth_bytes_per_s
    return {
        "flops": flops,
        "bytes": traffic,
        "weight_bytes": total.weight_bytes,
        "arithmetic_intensity": flops / traffic,
        "ridge_flops_per_byte": ridge,
    }


def _interval(
    timed: Sequence[Timed],
    time_s: Array,
    host_s: Array | None,
    bound: Bound,
    residuals: Residuals | None,
) -> tuple[Array, Array, float | None]:
    """Low, high and coverage: of whole served steps if known, else summed over the operators."""
    if residuals is not None:
        low = np.maximum(time_s * min(residuals.low, 1.0), bound.time_s)
        return low, time_s * max(residuals.high, 1.0), residuals.coverage
    host = ZERO if host_s is None else host_s
    low, high = added(t.low_s for t in timed) + host, added(t.high_s for t in timed) + host
    return low, high, merge_coverages(t.estimate.coverage for t in timed)


def _assumptions(
    shape: ModelShape,
    noted: Iterable[str],
    timed: Sequence[Timed],
    bound: Bound,
    host_note: str,
) -> tuple[str, ...]:
    def every() -> Iterator[str]:
        yield from shape.assumptions
        yield from noted
        if any(isinstance(group.ffn, Moe) for group in shape.layers):
            yield BALANCED
        yield from bound.assumptions
        for t in timed:
            yield from t.estimate.assumptions
        yield host_note

    return tuple(dict.fromkeys(note for note in every() if note))
