"""Roofs of a device and where operators stand under them: what a roofline shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perfmodel.answer import Estimate
from perfmodel.hw.device import Device
from perfmodel.measure import Roof
from perfmodel.report.devices import device_roofs, promised_roof, provenance
from perfmodel.units import format_si


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """A roof: bytes per second (a diagonal) or FLOP per second (a horizontal), and its source."""

    name: str
    rate: float
    diagonal: bool
    measured: bool
    source: tuple[str, ...]
    unit: str = "FLOP/s"

    def at(self, intensity: float) -> float:
        """FLOP/s that it allows at FLOP per byte ``intensity``."""
        return self.rate * intensity if self.diagonal else self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One operator: FLOP per byte and FLOP/s, its share of the whole time."""

    name: str
    intensity: float
    rate: float
    share: float
    estimate: Estimate
    special_rate: float | None
    """FLOP/s at which its special functions alone would take all the time."""


def ceilings(device: Device) -> tuple[Ceiling, ...]:
    """Every roof of a device: what its spec promises, and what was measured beside it."""
    levels = [
        Ceiling(
            name=level.name,
            rate=level.bandwidth_bytes_per_s,
            diagonal=True,
            measured=False,
            source=_sources(device, f"memory.{level.name}."),
            unit="B/s",
        )
        for level in device.memory.levels
        if level.bandwidth_bytes_per_s is not None
    ]
    return (*levels, *_peaks(device), *_measured(device))


def special_ceiling(device: Device) -> tuple[Ceiling, ...]:
    """The roof of the special-function units, in operations: its height in FLOP/s depends on how
    many an operator needs, so that the picture has a tick for each operator instead of a line.
    """
    if device.compute.special_per_s <= 0.0:
        return ()
    paths = ("compute.special", "compute.clock_vector", "compute.units", "measured.special")
    return (
        Ceiling(
            name="special functions",
            rate=device.compute.special_per_s,
            diagonal=False,
            measured=False,
            source=_sources(device, *paths),
            unit="op/s",
        ),
    )


def _peaks(device: Device) -> Iterable[Ceiling]:
    """One horizontal for all types of one unit that share a rate."""
    shared: dict[tuple[str, float], list[str]] = {}
    for (unit, dtype, _), rate in device.compute.peaks.items():
        types = shared.setdefault((unit, rate), [])
        if dtype not in types:
            types.append(dtype)
    for (unit, rate), types in shared.items():
        paths = [f"compute.{unit}.{t}." for t in types]
        yield Ceiling(
            name=f"{unit} {'/'.join(types)}",
            rate=rate,
            diagonal=False,
            measured=False,
            source=_sources(device, *paths, f"compute.clock_{unit}", "compute.units"),
        )


def _measured(device: Device) -> Iterable[Ceiling]:
    """The best figure of every level and every type that the datasheet promises something for."""
    best: dict[str, Roof] = {}
    for roof in device_roofs(device):
        name = roof.quantity.partition("_")[0] if roof.unit == "B/s" else roof.quantity
        known = best.get(name)
        if promised_roof(device, roof) and (known is None or roof.value > known.value):
            best[name] = roof
    for name, roof in best.items():
        if roof.unit == "B/s" or name.startswith(("tensor_", "fma_")):
            told = ", ".join(f"{k} = {v}" for k, v in roof.condition.items())
            yield Ceiling(
                name=f"{name} measured",
                rate=roof.value,
                diagonal=roof.unit == "B/s",
                measured=True,
                source=(f"{roof.quantity}: {format_si(roof.value, roof.unit)}, {roof.date}", told),
                unit=roof.unit,
            )


def _sources(device: Device, *prefixes: str) -> tuple[str, ...]:
    return tuple(
        f"{path} = {f.text} [{provenance(f)}]" + (f"; {f.condition}" if f.condition else "")
        for path, f in device.figures.items()
        if path.startswith(prefixes)
    )


def spots(estimate: Estimate) -> tuple[Spot, ...]:
    """One point per operator of an estimate; operators without FLOPs or bytes have no place."""
    whole = float(estimate.time_s)
    if not estimate.parts:
        return tuple(_spot(estimate.name, estimate, whole, whole))
    return tuple(
        spot
        for part in estimate.parts
        for spot in _spot(
            f"{part.group}: {part.estimate.name}",
            part.estimate,
            float(part.count * part.estimate.time_s),
            whole,
        )
    )


def _spot(name: str, one: Estimate, total_s: float, whole_s: float) -> Iterable[Spot]:
    flops, traffic = float(one.facts["flops"]), float(one.facts["bytes"])
    special = float(one.facts.get("special_roof_s", 0.0))
    if flops > 0.0 and traffic > 0.0:
        yield Spot(
            name=name,
            intensity=flops / traffic,
            rate=flops / float(one.time_s),
            share=total_s / whole_s,
            estimate=one,
            special_rate=flops / special if special > 0.0 else None,
        )
