"""What a little more of one resource would buy: the same question, one figure of the device raised.

A device's clocks, bandwidths and capacities are raised one at a time and the question is asked in
full again, so that what binds afterwards is found too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from perfmodel.answer import Estimate
from perfmodel.hw.compute import Compute
from perfmodel.hw.device import Device
from perfmodel.hw.memory import Memory

MORE = 1.1
"""By how much each resource is raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """One resource raised by ``factor``: the time then, and now."""

    resource: str
    factor: float
    time_s: float
    base_s: float

    @property
    def saved(self) -> float:
        """Share of the time that goes away; negative where it gets longer."""
        return 1.0 - self.time_s / self.base_s


def sensitivity(
    device: Device, question: Callable[[Device], Estimate], *, factor: float = MORE
) -> tuple[Gain, ...]:
    """What ``factor`` times each resource of ``device`` does to the time of ``question``, most
    first. Resources that the device does not state are left out.

    Raises: what ``question`` raises.
    """
    base = float(question(device).time_s)
    gains = [
        Gain(
            resource=name, factor=factor, time_s=float(question(raised).time_s), base_s=base
        )
        for name, raised in raised_devices(device, factor)
    ]  # fmt: skip
    return tuple(sorted(gains, key=lambda g: -g.saved))


def raised_devices(device: Device, factor: float) -> Iterator[tuple[str, Device]]:
    """``device`` with each of its resources raised by ``factor``, one at a time."""
    compute, main = device.compute, device.memory.main.name
    yield "memory bandwidth", _level(device, main, "bandwidth_bytes_per_s", factor)
    yield "clock", replace(device, compute=_clocked(compute, factor))
    yield "arithmetic rate", replace(device, compute=_arithmetic(compute, factor))
    if compute.special_per_s > 0.0:
        faster = replace(compute, special_per_s=compute.special_per_s * factor)
        yield "special-function rate", replace(device, compute=faster)
    cache = device.memory.level("l2")
    if cache is not None and cache.bytes is not None:
        yield "SRAM (cache) size", _level(device, "l2", "bytes", factor)
    if cache is not None and cache.bandwidth_bytes_per_s is not None:
        yield "SRAM (cache) bandwidth", _level(device, "l2", "bandwidth_bytes_per_s", factor)
    if device.peer_link is not None:
        wider = device.peer_link.bandwidth_bytes_per_s * factor
        link = replace(device.peer_link, bandwidth_bytes_per_s=wider)
        yield "link bandwidth", replace(device, peer_link=link)
    if device.tdp_w is not None:
        yield "power limit", replace(device, tdp_w=device.tdp_w * factor)


def _arithmetic(compute: Compute, factor: float) -> Compute:
    peaks = {key: rate * factor for key, rate in compute.peaks.items()}
    return replace(compute, peaks=peaks)


def _clocked(compute: Compute, factor: float) -> Compute:
    """Everything that counts in cycles: both clocks and every rate."""
    return replace(
        _arithmetic(compute, factor),
        clock_tensor_hz=compute.clock_tensor_hz * factor,
        clock_vector_hz=compute.clock_vector_hz * factor,
        special_per_s=compute.special_per_s * factor,
    )


def _level(device: Device, name: str, field: str, factor: float) -> Device:
    """``device`` with one figure of one memory level raised; as it is where it states none."""
    levels = tuple(
        replace(x, **{field: getattr(x, field) * factor})
        if x.name == name and getattr(x, field) is not None
        else x
        for x in device.memory.levels
    )
    return replace(device, memory=Memory(levels=levels))
