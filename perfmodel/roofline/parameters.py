"""Parameters of kernel classes as specs/calibration stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel.catalog import find, read_toml
from perfmodel.errors import MalformedFile, MissingCalibration, UnknownName
from perfmodel.hw.device import Kind
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.coverage import Spans
from perfmodel.roofline.residuals import Residuals, read_residuals


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassParameters:
    """A fitted class: values, what they were fitted on, and how far off they were there.

    ``covers`` lists the operators and data types of the rows, as
    :func:`perfmodel.roofline.coverage.described` tells them.
    ``kernels`` holds, by name of a known implementation, values that replace the pooled ones.
    """

    name: str
    values: Mapping[str, float]
    residuals: Residuals
    data: tuple[str, ...]
    date: str
    rows: int
    devices: tuple[str, ...]
    vendors: tuple[str, ...]
    covers: tuple[str, ...]
    factor: float
    kernels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kernel_residuals: Mapping[str, Residuals] = field(default_factory=dict)
    near: Residuals | None = None
    """Residuals where the fit had seen the device, and not the shape."""
    kernel_near: Mapping[str, Residuals] = field(default_factory=dict)
    kernel_devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spans: Spans = field(default_factory=dict)

    def for_kernel(
        self, kernel: str | None, device: str = ""
    ) -> tuple[Mapping[str, float], Residuals]:
        """Values and residuals of one implementation; the pooled ones for None.

        Residuals are those of shapes held back for a ``device`` that the fit has seen, of devices
        held back for any other.

        Raises:
            UnknownName: nobody measured a kernel of that name in this class.
        """
        seen = device in self.devices_of(kernel)
        if kernel is None:
            near = self.near if seen else None
            return self.values, near or self.residuals
        if kernel not in self.kernels:
            raise UnknownName(
                f"{self.name} kernel", kernel, self.kernels, fix="leave the kernel out"
            )
        values = {**self.values, **self.kernels[kernel]}
        near = self.kernel_near.get(kernel) if seen else None
        return values, near or self.kernel_residuals.get(kernel, self.residuals)

    def devices_of(self, kernel: str | None) -> tuple[str, ...]:
        """The devices that one implementation was measured on; all of the class for None."""
        return self.devices if kernel is None else self.kernel_devices.get(kernel, self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analytic:
    """Efficiencies assumed for a kind of device where nothing was measured, and why."""

    kind: str
    tensor_fraction: float
    vector_fraction: float
    special_fraction: float
    memory_fraction: float
    link_fraction: float
    unhidden: float
    launch_clk: float
    low: float
    high: float
    reason: str


def class_parameters(cls: str) -> ClassParameters:
    """The fitted parameters of kernel class ``cls`` from specs/calibration/<cls>.toml.

    Raises:
        UnknownName: no such class.
        MissingCalibration: nobody has fitted it.
        MalformedFile: the file lacks a parameter, or holds one that the class does not know.
    """
    if cls not in CLASS_MODELS:
        raise UnknownName("kernel class", cls, CLASS_MODELS)
    try:
        path = find("calibration", cls)
    except UnknownName:
        msg = f"no fitted parameters for kernel class {cls!r}"
        fix = "perfmodel calibrate, or a --specs folder that holds calibration/" + cls + ".toml"
        raise MissingCalibration(msg, field="calibration", fix=fix) from None
    return _read_class(path, cls, path.stat().st_mtime_ns)


def analytic(kind: Kind) -> Analytic:
    """What specs/calibration/analytic.toml assumes of devices of ``kind`` without measurements.

    Raises:
        MalformedFile: the file does not cover the kind.
    """
    path = find("calibration", "analytic")
    table = _read_analytic(path, path.stat().st_mtime_ns)
    if kind not in table:
        msg = f"{path}: says nothing about devices of kind {kind!r}"
        raise MalformedFile(msg, field=f"kinds.{kind}")
    return table[kind]


def unverified_factor() -> float:
    """By how much an interval widens when a figure that it rests on is unverified."""
    path = find("calibration", "analytic")
    return _read_unverified(path, path.stat().st_mtime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How intervals widen away from the data, on the log scale."""

    growth_per_octave: float
    """Share of the width added for every doubling of a size outside the data."""
    unseen_regime: float
    """Factor on the width of a regime of which a fit saw too few rows."""
    few_devices: tuple[float, ...]
    """Factors on the width for a device that nobody measured, by how many were: 1, 2, ..."""

    def unseen_device(self, measured: int) -> float:
        """What residuals of so many devices leave out of how devices differ."""
        return self.few_devices[measured - 1] if measured <= len(self.few_devices) else 1.0


def distance() -> Distance:
    """What specs/calibration/analytic.toml says of predictions away from the data.

    Raises:
        MalformedFile: it does not.
    """
    path = find("calibration", "analytic")
    return _read_distance(path, path.stat().st_mtime_ns)


def class_of_kernel(op: str, kernel: str) -> str | None:
    """The class to which specs/calibration/kernels.toml assigns an implementation of ``op``; None
    where the workload's shape tells it."""
    name = kernel.lower()
    belongs = _kernels().belongs
    return next((c for o, pattern, c in belongs if o == op and fnmatchcase(name, pattern)), None)


def known_as(op: str, kernel: str) -> str:
    """The name under which an implementation of ``op`` is fitted: specs/calibration/kernels.toml
    lists what goes by two."""
    return _kernels().same.get((op, kernel), kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernels:
    """What kernels.toml says: (operator, pattern, class), and names by other names."""

    belongs: tuple[tuple[str, str, str], ...]
    same: Mapping[tuple[str, str], str]


def _kernels() -> _Kernels:
    path = find("calibration", "kernels")
    return _read_kernels(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_kernels(path: Path, mtime_ns: int) -> _Kernels:
    del mtime_ns
    table = read_toml(path)
    try:
        return _Kernels(
            belongs=tuple((e["op"], e["pattern"], e["class"]) for e in table["belongs"]),
            same={(e["op"], e["kernel"]): e["as"] for e in table.get("same", ())},
        )
    except (KeyError, TypeError) as error:
        msg = f"{path}: not a table of implementations: {error}"
        raise MalformedFile(msg, fix="compare with the shipped file") from None


@lru_cache(maxsize=64)
def _read_class(path: Path, cls: str, mtime_ns: int) -> ClassParameters:
    del mtime_ns  # part of the cache key: an edited file is read again
    table = read_toml(path)
    try:
        return _class_from(table, cls)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path}: not a calibration of {cls}: {type(error).__name__} {error}"
        raise MalformedFile(msg, fix="write it with perfmodel calibrate") from None


def _class_from(table: Mapping[str, Any], cls: str) -> ClassParameters:
    fit, kernels = table["fit"], table.get("kernels", {})
    values = _values(table["parameters"], cls, whole=True)
    return ClassParameters(
        name=cls,
        values=values,
        residuals=read_residuals(table["residuals"]),
        near=_near(table),
        spans=_spans(fit.get("spans", {})),
        data=tuple(fit["data"]),
        date=str(fit["date"]),
        rows=int(fit["rows"]),
        devices=tuple(fit["devices"]),
        vendors=tuple(fit["vendors"]),
        covers=tuple(fit["covers"]),
        factor=float(fit["factor"]),
        kernels={k: _values(v["parameters"], cls, whole=False) for k, v in kernels.items()},
        kernel_residuals={
            k: read_residuals(v["residuals"]) for k, v in kernels.items() if "residuals" in v
        },
        kernel_devices={k: tuple(v["fit"]["devices"]) for k, v in kernels.items() if "fit" in v},
        kernel_near={k: near for k, v in kernels.items() if (near := _near(v)) is not None},
    )


def _values(table: Mapping[str, Any], cls: str, *, whole: bool) -> dict[str, float]:
    """Parameter values, names checked against the class's declaration and ranges against it."""
    declared = {p.name: p for p in CLASS_MODELS[cls].parameters}
    strange, absent = set(table) - set(declared), set(declared) - set(table)
    if strange or (whole and absent):
        msg = f"unknown parameters {sorted(strange)}, missing parameters {sorted(absent)}"
        raise ValueError(msg)
    values = {name: float(entry["value"]) for name, entry in table.items()}
    for name, value in values.items():
        if not declared[name].low <= value <= declared[name].high:
            msg = f"{name} = {value} lies outside {declared[name].low} .. {declared[name].high}"
            raise ValueError(msg)
    return values


def _near(table: Mapping[str, Any]) -> Residuals | None:
    """Residuals of rows whose device the fit had seen; None where none were held back so."""
    own = table.get("held_back", {}).get("shape")
    if own is None:
        return None
    return read_residuals({**own, "held_back": "shape"}, float(table["residuals"]["coverage"]))


def _spans(table: Mapping[str, Any]) -> Spans:
    return {
        str(op): {str(k): (float(v[0]), float(v[1])) for k, v in own.items()}
        for op, own in table.items()
    }


@lru_cache(maxsize=8)
def _read_analytic(path: Path, mtime_ns: int) -> Mapping[str, Analytic]:
    del mtime_ns
    try:
        kinds = read_toml(path)["kinds"]
        return {kind: Analytic(kind=kind, **entry) for kind, entry in kinds.items()}
    except (KeyError, TypeError) as error:
        msg = f"{path}: not a table of analytic efficiencies: {error}"
        raise MalformedFile(msg, fix="compare with the shipped file") from None


@lru_cache(maxsize=8)
def _read_unverified(path: Path, mtime_ns: int) -> float:
    del mtime_ns
    try:
        return float(read_toml(path)["unverified"]["factor"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: states no unverified.factor: {error}"
        raise MalformedFile(msg, fix="compare with the shipped file") from None


@lru_cache(maxsize=8)
def _read_distance(path: Path, mtime_ns: int) -> Distance:
    del mtime_ns
    try:
        told = read_toml(path)["distance"]
        return Distance(
            growth_per_octave=float(told["growth_per_octave"]),
            unseen_regime=float(told["unseen_regime"]),
            few_devices=tuple(float(f) for f in told["few_devices"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: does not say how intervals widen with distance: {error}"
        raise MalformedFile(msg, fix="compare with the shipped file") from None
