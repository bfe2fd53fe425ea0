"""How long a network takes on a board: the sum of its operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perfmodel.answer import Estimate, Part, merge_coverages, merge_sources
from perfmodel.errors import UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.mcu.basis import Basis, Span, assumed, basis_of
from perfmodel.mcu.cores import core_of
from perfmodel.mcu.counted import Counted, counted, work
from perfmodel.mcu.instructions import FAMILIES, Cycles
from perfmodel.mcu.measured import at_clock
from perfmodel.mcu.network import Network
from perfmodel.mcu.networks import find_network
from perfmodel.mcu.runtimes import Runtime, runtime_on
from perfmodel.roofline.bounds import largest
from perfmodel.workload import Array, dtype_name

ON_ENGINE = ("conv", "pointwise")
"""Operator classes that a matrix engine runs; it idles on few channels and on vectors."""


def own_dtype(network: Network) -> str:
    """The data type in which most of a network's multiply-accumulates run."""
    products = [op for op in network.ops if op.macs]
    if not products:
        return "int8"
    work = max(products, key=lambda op: op.macs).workloads[0]
    return str(getattr(work, "dtype", "int8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """An operator with its seconds and what they rest on."""

    counted: Counted
    time_s: np.float64
    least_s: np.float64
    span: Span


def latency(
    network: Network | str | Path,
    device: Device,
    runtime: str | None = None,
    dtype: str | None = None,
    clock_hz: float | None = None,
) -> Estimate:
    """How long one inference of ``network`` takes on ``device``, operator by operator.

    ``time_s`` is the sum over operators of scaled cycles of the instruction model over the clock;
    ``lower_bound_s`` what the multipliers need. Without ``runtime`` the typical one is meant, with
    an interval as wide as runtimes differ; without ``dtype`` the type of the network's products
    (int8 of the built-in ones). ``clock_hz`` runs the core at another clock. ``network`` may be a
    built-in name or a ``.tflite`` or ``.onnx`` file.

    Raises:
        UnknownName: no such network, runtime or core.
        BadValue: the device is no board, or the runtime does not run on its core.
        UnsupportedDtype: the core has no kernels for the data type.
        MissingFile, MissingExtra, MalformedFile: of a file that cannot be read.
    """
    graph = network if isinstance(network, Network) else find_network(network)
    kind = dtype_name(dtype or own_dtype(graph))
    board = at_clock(device, clock_hz)
    core = core_of(board)
    engine = _engine_macs_per_cycle(board, kind) is not None
    run = runtime_on(core.name, runtime, engine=engine)
    basis = basis_of(board, core, run, kind)
    ops = counted(graph, board, kind, scalar=run is not None and run.scalar)
    timed = [_timed(c, board, basis, run, kind) for c in ops]
    roofs = _roofs(graph, board, timed, kind)
    bound_s, bound = largest(roofs)
    terms = _terms(timed)
    time_s = np.maximum(np.sum([t.time_s for t in timed]), bound_s)
    return Estimate(
        name=graph.name,
        time_s=time_s,
        low_s=np.maximum(np.sum([t.time_s * t.span.low for t in timed]), bound_s),
        high_s=np.maximum(np.sum([t.time_s * t.span.high for t in timed]), bound_s),
        lower_bound_s=bound_s,
        bound=bound,
        terms=terms,
        formula=f"max(lower bound, {' + '.join(terms)})",
        source=merge_sources(tuple(t.span.source for t in timed)),
        coverage=merge_coverages(t.span.coverage for t in timed),
        assumptions=(*graph.assumptions, *basis.notes, *_unmeasured(timed, basis)),
        parts=tuple(_part(t) for t in timed),
        facts=_facts(graph, board, run, kind, float(time_s)),
    )


def _timed(c: Counted, board: Device, basis: Basis, run: Runtime | None, dtype: str) -> Timed:
    on_engine = run is not None and run.engine and c.cycles.family in ON_ENGINE
    engine = _engine_macs_per_cycle(board, dtype) if on_engine else None
    if engine is not None:
        cycles = np.float64(c.cycles.macs / engine + basis.values["call"])
        least = np.float64(c.cycles.macs / engine)
    else:
        total = work([((c,), dtype)]).cycles(basis.values, [basis.runtime])[0]
        cycles = np.maximum(total * basis.slower, max(c.cycles.least, c.cycles.flash))
        least = np.float64(c.cycles.least)
    clock = np.float64(board.compute.clock_vector_hz)
    return Timed(
        counted=c,
        time_s=cycles / clock,
        least_s=least / clock,
        span=assumed() if _never_timed(c) else basis.span,
    )


def _engine_macs_per_cycle(board: Device, dtype: str) -> float | None:
    """Multiply-adds per core cycle of the chip's matrix engine, where its file states one."""
    rates = (r for (unit, d, _), r in board.compute.peaks.items() if (unit, d) == ("tensor", dtype))
    rate = next(rates, None)
    return None if rate is None else rate / 2.0 / board.compute.clock_vector_hz


def _never_timed(c: Counted) -> bool:
    """Attention's operators: no measured network has them."""
    softmax = c.op.kind == "softmax" and any(
        float(getattr(w, "rows", 1)) > 1 for w in c.op.workloads
    )
    return softmax or c.op.kind == "norm" or c.cycles.family == "attention"


def _roofs(graph: Network, board: Device, timed: Sequence[Timed], dtype: str) -> dict[str, Array]:
    """Multiply-adds at the stated peak (else what the multiplier needs), and weights from flash."""
    try:
        peak = board.compute.peak("tensor", dtype)
        roofs = {"multiplier": np.float64(2.0 * graph.macs / peak)}
    except UnsupportedDtype:
        roofs = {"multiplier": np.sum([t.least_s for t in timed])}
    spec = board.board
    if spec is not None and spec.flash_line_bytes and spec.flash_wait_states is not None:
        cycles = graph.weight_bytes / spec.flash_line_bytes * (spec.flash_wait_states + 1)
        roofs["flash"] = np.float64(cycles / board.compute.clock_vector_hz)
    return dict(roofs)


def _terms(timed: Sequence[Timed]) -> dict[str, Array]:
    """Seconds by operator class, those that occur."""
    sums = {f: [t.time_s for t in timed if t.counted.cycles.family == f] for f in FAMILIES}
    return {family: np.sum(values) for family, values in sums.items() if values}


def _part(t: Timed) -> Part:
    cycles: Cycles = t.counted.cycles
    found = Estimate(
        name=t.counted.op.name,
        time_s=t.time_s,
        low_s=np.maximum(t.time_s * t.span.low, t.least_s),
        high_s=t.time_s * t.span.high,
        lower_bound_s=t.least_s,
        bound=np.array("multiplier"),
        terms={cycles.family: t.time_s},
        formula=cycles.family,
        source=t.span.source,
        coverage=t.span.coverage,
        facts={"macs": cycles.macs, "kind": t.counted.op.kind},
    )
    return Part(group=cycles.family, count=np.float64(1.0), estimate=found)


def _unmeasured(timed: Sequence[Timed], basis: Basis) -> Iterator[str]:
    if basis.span.source != "analytic" and any(t.span.source == "analytic" for t in timed):
        yield "products, softmax and norms of attention were timed on no microcontroller"
    if any(t.counted.op.kind == "other" for t in timed):
        yield "operators of unknown kind are taken as copies"


def _facts(
    graph: Network, board: Device, run: Runtime | None, dtype: str, time_s: float
) -> dict[str, object]:
    clock = board.compute.clock_vector_hz
    assert board.board is not None
    return {
        "device": board.name,
        "core": board.board.core,
        "clock_hz": clock,
        "runtime": None if run is None else run.name,
        "dtype": dtype,
        "macs": graph.macs,
        "weight_bytes": graph.weight_bytes,
        "cycles": time_s * clock,
        "macs_per_cycle": graph.macs / (time_s * clock),
        "inferences_per_s": 1.0 / time_s,
    }
