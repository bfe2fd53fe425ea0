"""Fitted scales of runtimes as specs/calibration/mcu.toml stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel.catalog import find, read_toml
from perfmodel.errors import MalformedFile, MissingCalibration, UnknownName
from perfmodel.mcu.scales import OWN, SHARED
from perfmodel.roofline.residuals import Residuals

FIX = "write it with perfmodel calibrate"


@dataclass(frozen=True, slots=True, kw_only=True)
class McuCalibration:
    """Shared scales and those of each runtime, ``runtime.name``, and how far off they were.

    ``held_back`` has residuals by what was held back: ``network``, ``board``, ``runtime``.
    ``energy`` are quantiles of measured power over the board's stated one.
    """

    values: Mapping[str, float]
    runtimes: tuple[str, ...]
    held_back: Mapping[str, Residuals]
    energy: Residuals | None
    devices: tuple[str, ...]
    timed: tuple[str, ...]
    """Core and data type of the rows, as ``"cortex-m7 int8"``."""
    rows: int
    factor: float


def mcu_calibration() -> McuCalibration:
    """The fitted scales.

    Raises:
        MissingCalibration: nobody has fitted them.
        MalformedFile: the file lacks a parameter or holds an unknown one.
    """
    try:
        path = find("calibration", "mcu")
    except UnknownName:
        msg = "no fitted scales of microcontroller runtimes"
        raise MissingCalibration(msg, fix="perfmodel calibrate") from None
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, mtime_ns: int) -> McuCalibration:
    del mtime_ns  # part of the cache key: an edited file is read again
    table = read_toml(path)
    try:
        return _calibration(table)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path}: not a calibration of mcu: {type(error).__name__} {error}"
        raise MalformedFile(msg, fix=FIX) from None


def _calibration(table: Mapping[str, Any]) -> McuCalibration:
    fit, kernels = table["fit"], table["kernels"]
    own = {
        f"{runtime}.{p.name}": float(entry["parameters"][p.name]["value"])
        for runtime, entry in kernels.items()
        for p in OWN
    }
    energy = table.get("energy")
    return McuCalibration(
        values={p.name: float(table["parameters"][p.name]["value"]) for p in SHARED} | own,
        runtimes=tuple(kernels),
        held_back={split: _residuals(entry) for split, entry in table["held_back"].items()},
        energy=_residuals(energy) if energy else None,
        devices=tuple(fit["devices"]),
        timed=tuple(fit["timed"]),
        rows=int(fit["rows"]),
        factor=float(fit["factor"]),
    )


def _residuals(entry: Mapping[str, Any]) -> Residuals:
    found = Residuals(
        coverage=float(entry["coverage"]), low=float(entry["low"]), high=float(entry["high"])
    )
    if not 0.0 < found.low <= found.high:
        msg = f"residuals must have 0 < low <= high, got {found}"
        raise ValueError(msg)
    return found
