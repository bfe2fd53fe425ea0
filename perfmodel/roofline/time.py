"""The estimate of one operator: kernel class, parameters, terms, interval, bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.answer import Estimate, Source, merge_sources
from perfmodel.errors import BadValue, MissingCalibration
from perfmodel.hw.device import Device
from perfmodel.ops import Cost, count
from perfmodel.roofline.bounds import Bound, largest, lower_bound
from perfmodel.roofline.choice import TILED, choose, has_matrix_unit, runs_kernels
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.coverage import described, octaves_outside
from perfmodel.roofline.evidence import doubtful_figures, roof_figures
from perfmodel.roofline.fallback import predict_analytic
from perfmodel.roofline.links import fastest_bandwidth
from perfmodel.roofline.model import Launch, Run, Terms, check_question
from perfmodel.roofline.parameters import (
    Analytic,
    ClassParameters,
    analytic,
    class_of_kernel,
    class_parameters,
    distance,
    known_as,
    unverified_factor,
)
from perfmodel.roofline.residuals import Residuals
from perfmodel.workload import Array, Collective, Workload


def estimate(
    workload: Workload,
    device: Device,
    *,
    kernel: str | None = None,
    launch: Launch = "graph",
    warm: bool = False,
) -> Estimate:
    """How long ``workload`` takes on ``device``, with an interval and what binds.

    ``kernel`` narrows the class to a known implementation; ``launch`` says how it is started;
    ``warm`` that its operands were just written, so that what fits the last-level cache may come
    from there (its lower bound then allows for that too).

    Raises:
        UnsupportedDtype: the device has no rate for the workload's type.
        MissingFigure: the spec lacks a figure that the question needs.
        UnknownName: nobody measured a kernel of that name.
        MissingCalibration: ``kernel`` was named and its class is not fitted.
        BadValue: no operator, or a kernel or launch that is none.
    """
    check_question(workload, kernel)
    run = Run(launch=launch, warm=warm)
    choice = choose(workload, kernel)
    if choice.only is not None:
        return _estimate(workload, device, choice.only, kernel, run)
    one = _estimate(workload, device, choice.step, kernel, run)
    many = _estimate(workload, device, choice.longer, kernel, run)
    return _select(choice.single, one, many)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Basis:
    """Where a prediction's parameters come from and how wide its interval is."""

    source: Source
    coverage: float | None
    low: Array
    high: Array
    notes: tuple[str, ...]


def bound_of(workload: Workload, device: Device, run: Run) -> Bound:
    """The lower bound that every estimate of ``workload`` is held to; raises as
    :func:`estimate`."""
    return _bound(workload, count(workload), device, run)


def _bound(w: Workload, cost: Cost, device: Device, run: Run) -> Bound:
    talks = isinstance(w, Collective) and bool(np.any(np.asarray(w.ranks) > 1))
    link = fastest_bandwidth(w, device) if isinstance(w, Collective) and talks else None
    return lower_bound(cost, device, warm=run.warm, link_bytes_per_s=link)


def _held(terms: Terms, bound: Bound) -> Terms:
    """No estimate lies below physics: roofs that a class model leaves out hold all the same."""
    return replace(
        terms,
        time_s=np.maximum(terms.time_s, bound.time_s),
        formula=f"max(lower bound, {terms.formula})",
    )


def _estimate(w: Workload, device: Device, cls: str, kernel: str | None, run: Run) -> Estimate:
    cost = count(w)
    bound = _bound(w, cost, device, run)
    raw, basis = _predict(w, cost, bound, device, cls, kernel, run)
    terms = _held(raw, bound)
    doubts = doubtful_figures(cost, device, bound.roofs)
    slack = np.float64(unverified_factor() if doubts else 1.0)
    _, binding = largest({**bound.roofs, "launch": terms.terms["launch"]})
    return Estimate(
        name=w.op,
        time_s=terms.time_s,
        low_s=np.maximum(terms.time_s * basis.low / slack, bound.time_s),
        high_s=terms.time_s * basis.high * slack,
        lower_bound_s=bound.time_s,
        bound=np.broadcast_to(binding, np.shape(terms.time_s)),
        terms=terms.terms,
        formula=terms.formula,
        source=basis.source,
        coverage=basis.coverage,
        assumptions=(*basis.notes, *bound.assumptions, *doubts),
        facts=_facts(cost, bound, device, cls, terms),
    )


def _predict(
    w: Workload,
    cost: Cost,
    bound: Bound,
    device: Device,
    cls: str,
    kernel: str | None,
    run: Run,
) -> tuple[Terms, _Basis]:
    """The class model where it was fitted and the device has its structure, else the analytic."""
    fitted = _fitted(cls, device, kernel)
    assumed = analytic(device.kind)
    if fitted is None:
        note = f"no measured kernels of class {cls} for a {device.kind}: {assumed.reason}"
        basis = _assumed(assumed.low, assumed.high, (note,))
        return predict_analytic(cost, bound, device, assumed), basis
    measured = _measured(w, kernel, fitted)
    values, residuals = fitted.for_kernel(measured, device.name)
    terms = CLASS_MODELS[cls].predict(w, device, values, run)
    seen = fitted.devices_of(measured)
    return terms, _basis(w, fitted, seen, residuals, device, assumed, terms)


def _measured(w: Workload, kernel: str | None, fitted: ClassParameters) -> str | None:
    """The name under which the class has parameters of this kernel; None for the pooled ones, if
    the name did nothing but choose the class."""
    if kernel is None:
        return None
    name, chose = known_as(w.op, kernel), class_of_kernel(w.op, kernel) is not None
    return None if chose and name not in fitted.kernels else name


def _fitted(cls: str, device: Device, kernel: str | None) -> ClassParameters | None:
    """Fitted parameters, or None where the class model cannot stand: no kernel launches to model,
    or nobody fitted the class (an error if a kernel of it was named)."""
    if not runs_kernels(device) or (cls in TILED and not has_matrix_unit(device)):
        if kernel is None:
            return None
        msg = f"{device.name} does not run measured kernels, got {kernel!r}"
        raise BadValue(msg, field="kernel", fix="leave the kernel out")
    try:
        return class_parameters(cls)
    except MissingCalibration:
        if kernel is None:
            return None
        raise


def _basis(
    w: Workload,
    fitted: ClassParameters,
    seen: tuple[str, ...],
    residuals: Residuals,
    device: Device,
    assumed: Analytic,
    terms: Terms,
) -> _Basis:
    """Calibrated inside the fit's data; carried over, and so a guess, outside."""
    where = ", ".join(fitted.devices)
    note = f"{fitted.name} fitted on {fitted.rows} rows of {where} (factor {fitted.factor:.3f})"
    foreign = tuple(_outside(w, fitted, device))
    if foreign:
        low, high = min(assumed.low, residuals.low), max(assumed.high, residuals.high)
        return _assumed(low, high, (note, *foreign))
    beyond = octaves_outside(w, fitted.spans)
    told = distance()
    octaves = sum(beyond.values(), np.float64(0.0))
    widening = np.float64(1.0) + np.float64(told.growth_per_octave) * octaves
    tried = len(seen) if residuals.held_back == "device" else 1
    few = 1.0 if device.name in seen else told.unseen_device(tried)
    widening = widening * np.float64(few)
    below, above = residuals.factors(terms.regimes, widening, told.unseen_regime)
    return _Basis(
        source="calibrated",
        coverage=residuals.coverage,
        low=below,
        high=above,
        notes=(note, *_few(device, few), *_distance(beyond, widening)),
    )


def _assumed(low: float, high: float, notes: tuple[str, ...]) -> _Basis:
    ends = np.float64(min(low, 1.0)), np.float64(max(high, 1.0))
    return _Basis(source="analytic", coverage=None, low=ends[0], high=ends[1], notes=notes)


def _few(device: Device, by: float) -> Iterator[str]:
    """That few devices stand behind an interval for another."""
    if by > 1.0:
        yield f"{device.name} is not among them: interval {by:.3g} times as wide on the log scale"


def _distance(beyond: Mapping[str, Array], widening: Array) -> Iterator[str]:
    """What lies outside the sizes of the data, and what that does to the interval."""
    if beyond:
        far = ", ".join(f"{k} by {float(np.max(v)):.2g} octaves" for k, v in beyond.items())
        wider = f"{float(np.max(widening)):.3g} times as wide on the log scale"
        yield f"outside the sizes of the data: {far}; interval up to {wider}"


def _outside(w: Workload, fitted: ClassParameters, device: Device) -> Iterator[str]:
    if device.vendor not in fitted.vendors:
        yield f"no {device.vendor} device among them: parameters carried over, interval assumed"
    if described(w) not in fitted.covers:
        yield f"no row of {described(w)} among them: parameters carried over, interval assumed"


def _facts(cost: Cost, bound: Bound, device: Device, cls: str, terms: Terms) -> Mapping[str, Any]:
    sustained = {f"sustained_{k}": v for k, v in device.compute.sustained.items()}
    return {
        "device": device.name,
        "kernel_class": cls,
        "flops": cost.flops_total,
        "bytes": cost.bytes_total,
        **{f"{name}_roof_s": roof for name, roof in bound.roofs.items()},
        "rests_on": [line for f in roof_figures(cost, device, bound.roofs).values() for line in f],
        **terms.details,
        **sustained,
    }


def _select(single: NDArray[np.bool_], one: Estimate, many: Estimate) -> Estimate:
    """``one`` where ``single``, else ``many``: a grid that two kernel classes share."""

    def pick(a: Array, b: Array) -> Array:
        chosen: Array = np.where(single, a, b)
        return chosen

    names = dict.fromkeys((*one.terms, *many.terms))
    zero = np.float64(0.0)
    return Estimate(
        name=one.name,
        time_s=pick(one.time_s, many.time_s),
        low_s=pick(one.low_s, many.low_s),
        high_s=pick(one.high_s, many.high_s),
        lower_bound_s=pick(one.lower_bound_s, many.lower_bound_s),
        bound=np.where(single, one.bound, many.bound),
        terms={k: pick(one.terms.get(k, zero), many.terms.get(k, zero)) for k in names},
        formula=f"single tokens: {one.formula}; longer: {many.formula}",
        source=merge_sources((one.source, many.source)),
        coverage=one.coverage if one.coverage == many.coverage else None,
        assumptions=tuple(dict.fromkeys((*one.assumptions, *many.assumptions))),
        facts={k: v for k, v in many.facts.items() if k in one.facts and k != "kernel_class"},
    )
