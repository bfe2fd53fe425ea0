"""Measurements of single operators, gathered so that one call predicts a whole group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import PerfModelError
from perfmodel.hw.device import Device
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.ops import count
from perfmodel.roofline.choice import kernel_class
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.model import Run, Terms
from perfmodel.roofline.parameters import known_as
from perfmodel.roofline.time import bound_of
from perfmodel.workload import Array, Workload
from perfmodel.workload.stack import stack, stack_key

ROTATED_SETS = 512
"""Input sets that this repository's benchmarks cycle through at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Rows that one vectorised call predicts: one device, class, implementation and launch."""

    device: Device
    kernel_class: str
    implementation: str
    run: Run
    workload: Workload
    rows: tuple[Measurement, ...]
    floor_s: Array
    """The lower bound: what no parameter changes."""

    @property
    def measured_s(self) -> NDArray[np.float64]:
        """Measured times in seconds."""
        return np.array([r.value for r in self.rows])

    def predicted_s(self, values: dict[str, float]) -> NDArray[np.float64]:
        """Predicted times under parameter ``values``."""
        time_s = np.maximum(self._terms(values).time_s, self.floor_s)
        return np.broadcast_to(time_s, (len(self.rows),))

    def regimes(self, values: dict[str, float]) -> NDArray[np.str_]:
        """The regime of every row under parameter ``values``."""
        return np.broadcast_to(self._terms(values).regimes, (len(self.rows),))

    def _terms(self, values: dict[str, float]) -> Terms:
        model = CLASS_MODELS[self.kernel_class]
        return model.predict(self.workload, self.device, values, self.run)

    def as_class(self, name: str) -> Group:
        """The same rows predicted by another class, their implementation not said."""
        return replace(self, kernel_class=name, implementation="")

    def select(self, keep: Callable[[Measurement], bool]) -> Group | None:
        """The group's rows that ``keep`` wants; None where it wants none."""
        rows = tuple(r for r in self.rows if keep(r))
        return _group(self.device, self.kernel_class, self.implementation, rows) if rows else None


def gather(measurements: Sequence[Measurement]) -> list[Group]:
    """Groups of all rows that time one operator on a known device; others are left out."""
    bins: dict[tuple[object, ...], list[Measurement]] = {}
    devices: dict[str, Device | None] = {}
    for m in measurements:
        if m.workload is None or m.quantity != "latency" or m.refusal:
            continue
        if m.device not in devices:
            devices[m.device] = _device(m.device)
        device = devices[m.device]
        if device is not None:
            cls = kernel_class(m.workload, m.implementation)
            name = known_as(m.workload.op, m.implementation)
            run = (m.launch, m.warm or _rests(m, device))
            key = (device.name, cls, name, run, stack_key(m.workload), m.device)
            bins.setdefault(key, []).append(m)
    return [
        _group(device, str(key[1]), str(key[2]), tuple(rows))
        for key, rows in bins.items()
        if (device := devices[rows[0].device]) is not None
    ]


def _rests(m: Measurement, device: Device) -> bool:
    """Whether operands rested in the last-level cache all the same: too small for
    :data:`ROTATED_SETS` of them to push each other out."""
    cache = device.memory.cache
    if m.source != "perfmodel" or m.workload is None or cache is None or cache.bytes is None:
        return False
    return bool(count(m.workload).bytes_total * ROTATED_SETS < cache.bytes)


def _group(device: Device, cls: str, name: str, rows: tuple[Measurement, ...]) -> Group:
    first = rows[0]
    run = Run(launch=first.launch, warm=first.warm or _rests(first, device))  # type: ignore[arg-type]  # tables name the same ways
    workload = stack([r.workload for r in rows if r.workload is not None])
    return Group(
        device=device,
        kernel_class=cls,
        implementation=name,
        run=run,
        workload=workload,
        rows=rows,
        floor_s=_floor_s(workload, device, run),
    )


def _floor_s(workload: Workload, device: Device, run: Run) -> Array:
    """The lower bound of a group; nothing where the device cannot answer, as its class will say."""
    try:
        return bound_of(workload, device, run).time_s
    except PerfModelError:
        return np.float64(0.0)


def _device(name: str) -> Device | None:
    try:
        return load_device(name)
    except PerfModelError:
        return None
