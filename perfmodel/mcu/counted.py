"""A whole network in cycles of the instruction model, operator by operator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.hw.device import Device
from perfmodel.mcu.cores import Core, Simd, core_of, core_table
from perfmodel.mcu.instructions import FAMILIES, Cycles, operator_cycles
from perfmodel.mcu.network import Network, Op
from perfmodel.mcu.scales import family_scales
from perfmodel.roofline.model import Values
from perfmodel.workload import is_integer_dtype

SCALAR = Simd(lanes=1, macs=1, mac_cycles=1.0, widen=0.0, block=(1, 1), depthwise_macs=1)
"""Loops that take one element at a time, as reference kernels do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """An operator and its cycles before scales."""

    op: Op
    cycles: Cycles


def counted(
    network: Network, device: Device, dtype: str = "int8", *, scalar: bool = False
) -> tuple[Counted, ...]:
    """Cycles of every operator of ``network`` on the core of ``device``.

    Raises:
        BadValue, UnknownName: the device is no board, or its core is not described.
        UnsupportedDtype: the core has no kernels for ``dtype``.
    """
    core = core_of(device)
    core.of(dtype)
    if scalar:
        core = replace(core, simd={dtype: _scalar(core, dtype)})
    return tuple(_counted(network, device, core, dtype))


def _scalar(core: Core, dtype: str) -> Simd:
    own = core.simd[dtype]
    vector = own.lanes >= 8  # whole vectors count several beats per instruction
    return replace(SCALAR, mac_cycles=1.0 if vector else own.mac_cycles)


def _counted(network: Network, device: Device, core: Core, dtype: str) -> Iterator[Counted]:
    table = core_table()
    for op in network.ops:
        moved = float(sum(network.tensor(name).elements for name in op.outputs))
        yield Counted(op=op, cycles=operator_cycles(op, moved, device, core, table, dtype))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """Cycles of networks, a row each: by operator class, and how many operators."""

    classes: NDArray[np.float64]
    operators: NDArray[np.float64]
    floating: NDArray[np.bool_]

    def cycles(self, values: Values, runtimes: Sequence[str | None]) -> NDArray[np.float64]:
        """Cycles of each row under parameter ``values``, run by ``runtimes``."""
        names = sorted(set(runtimes), key=str)
        scales = np.array([family_scales(values, r) for r in names])
        own = scales[[names.index(r) for r in runtimes]]
        loops = np.sum(self.classes * own, axis=1)
        loops = np.where(self.floating, loops * values["float"], loops)
        total: NDArray[np.float64] = loops + self.operators * values["call"]
        return total


def work(rows: Sequence[tuple[tuple[Counted, ...], str]]) -> Work:
    """Operators of several networks, each with its data type, summed by class."""
    return Work(
        classes=np.array([[_class_sum(ops, f) for f in FAMILIES] for ops, _ in rows]),
        operators=np.array([float(len(ops)) for ops, _ in rows]),
        floating=np.array([not is_integer_dtype(dtype) for _, dtype in rows]),
    )


def _class_sum(ops: tuple[Counted, ...], family: str) -> float:
    return sum(c.cycles.work for c in ops if c.cycles.family == family)
