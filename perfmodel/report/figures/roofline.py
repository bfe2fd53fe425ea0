"""Rooflines (Williams et al., 2009): roofs of a device, operators predicted and measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from typing import Any, TypeAlias

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.hw.device import Device
from perfmodel.measure import Roof
from perfmodel.ops import count
from perfmodel.report.devices import device_roofs, promised_roof, provenance
from perfmodel.report.figures.base import (
    MEASURED,
    ROOF,
    Picture,
    axis,
    colour,
    heaps,
    picture,
)
from perfmodel.report.shown import seconds
from perfmodel.units import format_si
from perfmodel.validation import Scored


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


def roofline(
    device: Device,
    points: Sequence[Spot],
    *,
    roofs: Sequence[Ceiling],
    measured: Sequence[Scored] = (),
) -> Picture:
    """Operators under the roofs; predicted and measured kernels joined by their error."""
    pairs = [p for p in map(_pair, measured) if p is not None]
    span = _span([p.intensity for p in points] + [x for x, *_ in pairs], roofs)
    top = max((r.rate for r in roofs if not r.diagonal), default=np.inf)
    floor = min([p.rate for p in points] + [y for _, *ys, _ in pairs for y in ys], default=1e9)
    traces = [_ceiling(r, i, span, top) for i, r in enumerate(roofs)]
    traces += [_measured_note(roofs), _ridges(device, roofs), *_pairs(pairs)]
    traces += [*_special(points, top), _points(points)]
    high = top if np.isfinite(top) else max([p.rate for p in points], default=1e12)
    return picture(
        [t for t in traces if t],
        _alt(device, points, pairs),
        x=axis("FLOP per byte of main memory", log=True),
        y=axis(
            "FLOP/s", log=True, exponentformat="power",
            range=[float(np.log10(floor / 3.0)), float(np.log10(high * 3.0))],
        ),
        height=560,
        title={"text": f"{device.name}: {len(points)} operators"},
        hovermode="closest",
    )  # fmt: skip


def _span(xs: Sequence[float], roofs: Sequence[Ceiling]) -> tuple[float, float]:
    slopes = [r.rate for r in roofs if r.diagonal]
    flats = [r.rate for r in roofs if not r.diagonal]
    ridge = max(flats) / min(slopes) if slopes and flats else 1.0
    return min([*xs, 0.1]) / 2.0, max([*xs, ridge]) * 4.0


def _ceiling(roof: Ceiling, index: int, span: tuple[float, float], top: float) -> dict[str, Any]:
    """A line with points to click on; a diagonal ends at the highest peak. Measured roofs are
    dotted and share one entry of the legend.
    """
    first, last = span
    end = min(last, top / roof.rate) if roof.diagonal else last
    xs = np.geomspace(first, max(end, 2.0 * first), num=13).tolist()
    grey = roof.measured or roof.diagonal
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": roof.name,
        "x": xs,
        "y": [roof.at(x) for x in xs],
        "line": {
            "color": ROOF if grey else colour(index),
            "dash": "dot" if roof.measured else "solid",
            "width": 1.5,
        },
        "marker": {"size": 5, "opacity": 0.35},
        "customdata": [f"roof: {roof.name}"] * len(xs),
        "hovertemplate": f"{roof.name}<extra></extra>",
        "showlegend": not roof.measured,
        "legendgroup": "roofs measured" if roof.measured else roof.name,
    }


def _measured_note(roofs: Sequence[Ceiling]) -> dict[str, Any]:
    """The legend's entry of all measured roofs; a click on it hides them."""
    if not any(r.measured for r in roofs):
        return {}
    return {
        "type": "scatter", "mode": "lines", "name": "roofs, measured", "x": [None], "y": [None],
        "line": {"color": ROOF, "dash": "dot"}, "legendgroup": "roofs measured",
    }  # fmt: skip


def _ridges(device: Device, roofs: Sequence[Ceiling]) -> dict[str, Any]:
    """Where main memory stops and each peak starts to bind."""
    main = next((r for r in roofs if r.diagonal and r.name == device.memory.main.name), None)
    peaks = [r for r in roofs if not r.diagonal and not r.measured]
    if main is None or not peaks:
        return {}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"ridge of {main.name}",
        "x": [p.rate / main.rate for p in peaks],
        "y": [p.rate for p in peaks],
        "marker": {"symbol": "diamond-open", "size": 9, "color": ROOF},
        "text": [p.name for p in peaks],
        "customdata": [f"roof: {p.name}" for p in peaks],
        "hovertemplate": f"{main.name} meets %{{text}} at %{{x:.3g}} FLOP/B<extra></extra>",
    }


NAMED = 0.15
"""Operators with this share of the time carry their name."""


def _points(points: Sequence[Spot]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "operators (area: share of time)",
        "x": [p.intensity for p in points],
        "y": [p.rate for p in points],
        "marker": {
            "size": [8.0 + 34.0 * float(np.sqrt(p.share)) for p in points],
            "color": [colour(i) for i in range(len(points))],
            "line": {"width": 1, "color": "#ffffff"},
            "opacity": 0.85,
        },
        "customdata": [f"operator: {p.name}" for p in points],
        "text": [p.name.rpartition(": ")[2] if p.share >= NAMED else "" for p in points],
        "textposition": _corners(points),
        "hovertext": [
            f"{p.name}<br>{p.share:.1%} of the time, {seconds(float(p.estimate.time_s))} each"
            f"<br>{float(p.estimate.lower_bound_s / p.estimate.time_s):.0%} of its roof"
            f" ({p.estimate.bound})"
            for p in points
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _corners(points: Sequence[Spot]) -> list[str]:
    """Where names stand: by turns, as operators of one kind lie close together."""
    turns = cycle(("bottom right", "top left"))
    return [next(turns) if p.share >= NAMED else "top left" for p in points]


def _special(points: Sequence[Spot], top: float) -> list[dict[str, Any]]:
    """A tick above every operator where its special functions alone would hold it, if that is
    below the highest peak.
    """
    held = [(p, p.special_rate) for p in points if p.special_rate and p.special_rate < top]
    if not held:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "special-function roof of an operator",
            "x": [p.intensity for p, _ in held],
            "y": [rate for _, rate in held],
            "marker": {"symbol": "line-ew-open", "size": 14, "color": ROOF, "line": {"width": 2}},
            "customdata": [f"operator: {p.name}" for p, _ in held],
            "hovertemplate": "special functions of %{customdata}: %{y:.3s}FLOP/s<extra></extra>",
        }
    ]


LARGEST = 11.0
"""The diameter of a dot of many timings: operators are larger."""
Pair: TypeAlias = tuple[float, float, float, str]
"""Intensity, predicted and measured FLOP/s, and name of a timed kernel."""


@lru_cache(maxsize=8192)
def _pair(row: Scored) -> Pair | None:
    """What a row shows; None where it lacks a prediction, FLOPs or bytes."""
    work = row.measurement.workload
    if work is None or row.predicted is None or work.shape:
        return None
    cost = count(work)
    flops, traffic = float(cost.flops_total), float(cost.bytes_total)
    if flops <= 0.0 or traffic <= 0.0:
        return None
    name = f"{row.measurement.implementation} {work.op}"
    return flops / traffic, flops / row.predicted, flops / row.measurement.value, name


def _pairs(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Predictions and measurements, joined; pairs that lie upon each other are one."""
    if not pairs:
        return []
    piles = heaps([p[:3] for p in pairs])
    xs, predicted, taken = zip(*(h.place for h in piles), strict=True)
    segments = [v for x in xs for v in (x, x, None)]
    ends = [v for p, m in zip(predicted, taken, strict=True) for v in (p, m, None)]
    common = {
        "type": "scatter",
        "x": list(xs),
        "text": [_called([pairs[i][3] for i in h.members]) for h in piles],
        "legendgroup": "measured",
    }
    size = [min(h.size + 1.0, LARGEST) for h in piles]
    return [
        {
            "type": "scatter", "mode": "lines", "x": segments, "y": ends, "hoverinfo": "skip",
            "line": {"color": MEASURED, "width": 1}, "showlegend": False,
            "legendgroup": "measured",
        },
        common | {
            "mode": "markers", "name": "kernel, predicted", "y": list(predicted),
            "marker": {"symbol": "circle-open", "size": size, "color": MEASURED},
            "hovertemplate": "%{text}, predicted: %{y:.3s}FLOP/s<extra></extra>",
        },
        common | {
            "mode": "markers", "name": "kernel, measured", "y": list(taken),
            "marker": {"symbol": "circle", "size": size, "color": MEASURED},
            "hovertemplate": "%{text}, measured: %{y:.3s}FLOP/s<extra></extra>",
        },
    ]  # fmt: skip


def _called(names: Sequence[str]) -> str:
    """The kernel of a dot, or how many lie there and one of them."""
    return names[0] if len(names) == 1 else f"{len(names)} timings of {names[0]} and others"


def _alt(device: Device, points: Sequence[Spot], pairs: Sequence[Pair]) -> str:
    longest = sorted(points, key=lambda p: -p.share)[:3]
    told = "; ".join(
        f"{p.name} takes {p.share:.0%} of the time at {format_si(p.rate, 'FLOP/s')}, "
        f"{float(p.estimate.lower_bound_s / p.estimate.time_s):.0%} of its roof"
        for p in longest
    )
    dots = f" {len(pairs)} timed kernels are joined to their predictions." if pairs else ""
    return f"Roofline of {device.name}, both axes logarithmic. {told}.{dots}"
