"""Which scales an answer rests on, and how far they may be off where they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfmodel.answer import Source
from perfmodel.hw.device import Device
from perfmodel.mcu.calibrated import McuCalibration, mcu_calibration
from perfmodel.mcu.cores import Core
from perfmodel.mcu.runtimes import Runtime
from perfmodel.mcu.scales import SHARED
from perfmodel.roofline.parameters import analytic

TYPICAL = "the typical runtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Source and interval of a part: ``low`` and ``high`` multiply its time."""

    source: Source
    low: float
    high: float
    coverage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Scales of a runtime on a core; ``slower`` multiplies them where it stands on another's."""

    values: Mapping[str, float]
    runtime: str | None
    slower: float
    span: Span
    notes: tuple[str, ...]


def assumed() -> Span:
    """What is assumed of kernels that nobody measured."""
    wide = analytic("mcu")
    return Span(source="analytic", low=wide.low, high=wide.high, coverage=None)


def basis_of(device: Device, core: Core, runtime: Runtime | None, dtype: str) -> Basis:
    """The scales for ``runtime`` on ``device``; raises as :func:`mcu_calibration`.

    On a core whose instructions no measured one has, runtimes are not told apart: what tunes
    kernels for one instruction set says little about another.
    """
    fitted = mcu_calibration()
    if runtime is not None and runtime.bare:
        neutral = {p.name: p.start for p in SHARED} | {"call": fitted.values["call"]}
        return Basis(
            values=neutral,
            runtime=None,
            slower=1.0,
            span=assumed(),
            notes=(f"{runtime.title}: {runtime.reason}",),
        )
    timed = _timed(fitted, core, dtype)
    key = None if runtime is None or not timed else runtime.like or runtime.name
    return Basis(
        values=fitted.values,
        runtime=key,
        slower=runtime.slower if runtime and timed else 1.0,
        span=_span(fitted, device, runtime) if timed else assumed(),
        notes=tuple(_notes(fitted, device, core, runtime)),
    )


def _timed(fitted: McuCalibration, core: Core, dtype: str) -> bool:
    """Whether this data type was timed on this core, or on one with the same instructions."""
    return not {f"{core.name} {dtype}", f"{core.akin} {dtype}"}.isdisjoint(fitted.timed)


def _span(fitted: McuCalibration, device: Device, runtime: Runtime | None) -> Span:
    if runtime is not None and runtime.name not in fitted.runtimes:
        return assumed()
    splits = ["network"]
    if device.name not in fitted.devices:
        splits.append("board")
    if runtime is None:
        splits.append("runtime")
    held = [fitted.held_back[s] for s in splits if s in fitted.held_back]
    return Span(
        source="calibrated",
        low=min(1.0, *(r.low for r in held)),
        high=max(1.0, *(r.high for r in held)),
        coverage=min(r.coverage for r in held),
    )


def _notes(
    fitted: McuCalibration, device: Device, core: Core, runtime: Runtime | None
) -> list[str]:
    where = ", ".join(fitted.devices)
    notes = [
        f"scales of runtimes fitted on {fitted.rows} rows of {where} (factor {fitted.factor:.3f})"
    ]
    if runtime is None:
        notes.append(f"no runtime named: {TYPICAL}; runtimes differ by up to 4 on one board")
    elif runtime.like:
        stand_in = f"{runtime.slower:g} x {runtime.like}"
        notes.append(f"{runtime.title} taken as {stand_in}: {runtime.reason}")
    if not any(core.name == entry.split()[0] for entry in fitted.timed):
        notes.append(f"no {core.title} was measured: {core.note}")
    elif device.name not in fitted.devices:
        notes.append(f"{device.name} itself was not measured: its core was")
    return notes
