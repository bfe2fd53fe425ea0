"""One training step of a network on a cluster of RISC-V cores: time and memory.

Every product runs three times as a matrix product over its gathered patches (Nadalini et al.,
"PULP-TrainLib", SAMOS 2022; "Reduced precision floating-point optimization for DNN on-device
learning on microcontrollers", FGCS 2023): forward ``[N, K] [K, M]``, the weights' gradient
``[N, M] [M, K]`` and, but for the first layer, the input's gradient ``[K, N] [N, M]``; then the
step of the optimiser. Each moves its operands from L2 through L1 tiles, DMA beside arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.answer import Estimate, Part
from perfmodel.errors import BadValue, MissingFigure
from perfmodel.hw.device import Device
from perfmodel.mcu.basis import assumed
from perfmodel.mcu.calibrated import mcu_calibration
from perfmodel.mcu.cores import Core, core_of, core_table
from perfmodel.mcu.instructions import Cycles, Shape, cluster_cores, product_cycles, product_shape
from perfmodel.mcu.network import Network, Op
from perfmodel.mcu.networks import find_network
from perfmodel.mcu.tiling import Tile, best_tile
from perfmodel.workload import Conv, Elementwise, Gemm, Norm, dtype_bytes, dtype_name

DTYPES = ("fp32", "fp16")
PASSES = ("forward", "weight gradient", "input gradient")
UPDATE_INSTRUCTIONS = 3.0
"""Per weight of plain gradient descent: load the weight and its gradient, multiply-add, store; two
of the four overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One matrix product of the step."""

    op: str
    name: str
    cycles: Cycles
    tile: Tile
    dma_cycles: float

    @property
    def total(self) -> float:
        """Arithmetic beside DMA, and the first tile that nothing hides."""
        first = self.dma_cycles / self.tile.tiles
        return max(self.cycles.work, self.dma_cycles) + min(first, self.cycles.work)


def training_step(network: Network | str | Path, device: Device, dtype: str = "fp32") -> Estimate:
    """How long one training step on one sample takes, and what it keeps in memory (``facts``).

    Raises:
        BadValue: the device is no cluster, or the data type is no floating-point one.
        UnknownName: no such network.
        MissingFigure: the device's file states no first-level memory.
    """
    graph = network if isinstance(network, Network) else find_network(network)
    core = core_of(device)
    kind = dtype_name(dtype)
    _check(core, kind, device)
    passes = list(_passes(graph, device, core, kind))
    around = _around_cycles(graph, device, core, kind)
    clock = np.float64(device.compute.clock_vector_hz)
    terms = {
        name: np.float64(sum(p.total for p in passes if p.name == name)) / clock for name in PASSES
    }
    terms |= {name: np.float64(cycles) / clock for name, cycles in around.items()}
    time_s = np.sum(list(terms.values()))
    span = assumed()
    return Estimate(
        name=f"{graph.name} training step",
        time_s=time_s,
        low_s=np.maximum(time_s * span.low, _least_s(passes, clock)),
        high_s=time_s * span.high,
        lower_bound_s=_least_s(passes, clock),
        bound=np.array("multiplier"),
        terms=terms,
        formula=" + ".join(terms),
        source=span.source,
        assumptions=(
            f"instruction model of {core.title}: {core.note}",
            "one sample, plain gradient descent, gradients of all weights in memory",
        ),
        parts=tuple(_part(p, clock) for p in passes),
        facts=_facts(graph, device, kind, passes, float(time_s)),
    )


def _check(core: Core, dtype: str, device: Device) -> None:
    if core.cluster < 2:
        msg = f"{device.name} has no cluster of cores that trains"
        raise BadValue(msg, field="device", fix="gap9, vega or another PULP cluster")
    if dtype not in DTYPES:
        msg = f"networks are trained in floating point, got {dtype}"
        raise BadValue(msg, field="dtype", fix="fp32 or fp16")


def _passes(graph: Network, device: Device, core: Core, dtype: str) -> Iterator[Pass]:
    first = True
    for op in graph.ops:
        for w in op.workloads:
            if isinstance(w, Conv | Gemm):
                yield from _three(op, product_shape(w), device, core, dtype, first=first)
                first = False


def _three(
    op: Op, s: Shape, device: Device, core: Core, dtype: str, *, first: bool
) -> Iterator[Pass]:
    """The products of one layer: forward, weights' gradient, input's gradient."""
    sizes = {
        "forward": (s.filters, s.positions, s.taps),
        "weight gradient": (s.filters, s.taps, s.positions),
        "input gradient": (s.taps, s.positions, s.filters),
    }
    for name, (m, n, k) in sizes.items():
        if first and name == "input gradient":
            continue
        shape = Shape(
            family=s.family,
            positions=n,
            filters=m,
            taps=k,
            rows=s.rows if name != "weight gradient" else 0.0,
            weights=0.0,
            groups=s.groups,
        )
        tile = best_tile(int(m), int(n), int(k), dtype_bytes(dtype), _l1_bytes(device))
        moved = tile.moved_bytes * s.groups / core.dma_bytes_per_cycle
        cycles = product_cycles(shape, device, core, core.of(dtype), core_table(), dtype)
        yield Pass(op=op.name, name=name, cycles=cycles, tile=tile, dma_cycles=moved)


def _around_cycles(graph: Network, device: Device, core: Core, dtype: str) -> dict[str, float]:
    """Cycles of what is no product: element-wise operators both ways, weights' step, calls."""
    table, cores = core_table(), cluster_cores(device, core)
    elements = sum(
        float(w.elements) if isinstance(w, Elementwise) else float(w.rows) * float(w.cols)
        for op in graph.ops
        for w in op.workloads
        if isinstance(w, Elementwise | Norm)
    )
    weights = sum(t.elements for t in graph.of_kind("weight"))
    calls = mcu_calibration().values["call"] * 2.0 * len(graph.ops)
    return {
        "element-wise": 2.0 * elements * table.per_element("elementwise", dtype) / cores,
        "optimiser": weights * UPDATE_INSTRUCTIONS / cores,
        "calls": calls,
    }


def memory_bytes(graph: Network, dtype: str) -> dict[str, float]:
    """What a step keeps in second-level memory: weights, their gradients, every tensor that a
    gradient needs again, and the two largest gradients of activations at once."""
    size = dtype_bytes(dtype)
    weights = float(sum(t.elements for t in graph.of_kind("weight"))) * size
    products = [op for op in graph.ops if op.macs]
    kept = {name for op in products for name in op.inputs if graph.tensor(name).kind != "weight"}
    sizes = sorted(graph.tensor(n).elements * size for op in products for n in op.outputs)
    return {
        "weights": weights,
        "weight gradients": weights,
        "activations": float(sum(graph.tensor(n).elements for n in kept)) * size,
        "activation gradients": float(sum(sizes[-2:])),
    }


def _l1_bytes(device: Device) -> float:
    level = device.memory.level("l1")
    if level is None or level.bytes is None:
        msg = f"the spec of {device.name} states no first-level memory"
        raise MissingFigure(msg, field="memory.l1", fix="add memory.l1 to a spec (--specs DIR)")
    return level.bytes


def _least_s(passes: list[Pass], clock: np.float64) -> np.float64:
    return np.float64(sum(p.cycles.least for p in passes)) / clock


def _part(p: Pass, clock: np.float64) -> Part:
    time_s = np.float64(p.total) / clock
    span = assumed()
    bound = "DMA" if p.dma_cycles > p.cycles.work else "multiplier"
    found = Estimate(
        name=f"{p.op} {p.name}",
        time_s=time_s,
        low_s=time_s * span.low,
        high_s=time_s * span.high,
        lower_bound_s=np.float64(p.cycles.least) / clock,
        bound=np.array(bound),
        terms={
            "arithmetic": np.float64(p.cycles.work) / clock,
            "DMA": np.float64(p.dma_cycles) / clock,
        },
        formula="max(arithmetic, DMA) + first tile",
        source="analytic",
        facts={
            "macs": p.cycles.macs,
            "tile": f"{p.tile.m} x {p.tile.n} x {p.tile.k}",
            "tiles": p.tile.tiles,
            "l1_bytes": p.tile.held_bytes,
        },
    )
    return Part(group=p.name, count=np.float64(1.0), estimate=found)


def _facts(
    graph: Network, device: Device, dtype: str, passes: list[Pass], time_s: float
) -> dict[str, Any]:
    held = memory_bytes(graph, dtype)
    total = math.fsum(held.values())
    macs = sum(p.cycles.macs for p in passes)
    clock = device.compute.clock_vector_hz
    return {
        "device": device.name,
        "dtype": dtype,
        "macs": macs,
        "macs_per_cycle": macs / (time_s * clock),
        "memory_bytes": total,
        "memory": held,
        "l1_bytes": max(p.tile.held_bytes for p in passes),
        "fits": total <= device.memory.capacity_bytes,
        "clock_hz": clock,
    }
