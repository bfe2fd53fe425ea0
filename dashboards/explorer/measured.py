"""What was measured here, read from files: measurements, resource reports, ladders of READMEs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel import catalog
from perfmodel.measure import Measurement
from perfmodel.report.kernels import Timed, ladder_sections, sized, timed_kernels
from perfmodel.report.scenario import Argument
from perfmodel.validation import FileReport, Scored, validate_files

FOLDERS = {"gemm": "int8_gemm", "elementwise": "copy"}
"""Operators whose kernels lie in a folder of another name."""


def files() -> tuple[Path, ...]:
    """Every file of measurements, by name."""
    return tuple(catalog.find("measured", name) for name in catalog.names("measured"))


def word(path: Path) -> Argument:
    """A file of measurements as the command line names it."""
    return Argument(option="", text=f"specs/measured/{path.name}", keyword="", value=None)


def report(path: Path) -> FileReport:
    """A file's kernels beside what is predicted of them."""
    return _report(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _report(path: Path, mtime_ns: int) -> FileReport:
    del mtime_ns  # part of the cache key: an edited file is read again
    return validate_files([path])[0]


def reports() -> tuple[FileReport, ...]:
    """Every file that times kernels; those that hold roofs alone are left out."""
    return tuple(r for path in files() if (r := report(path)).rows)


def scored(own: Sequence[FileReport] | None = None) -> tuple[Scored, ...]:
    """Every timed kernel beside its prediction; ``own`` reports first."""
    return tuple(s for r in (*(own or ()), *reports()) for s in r.scored)


def measurements() -> tuple[Measurement, ...]:
    """Every timed kernel that has a prediction."""
    return tuple(s.measurement for s in scored())


def timed(own: Sequence[FileReport] | None = None) -> tuple[Timed, ...]:
    """Every timed kernel with its roof; ``own`` reports too."""
    return _timed(scored(own))


@lru_cache(maxsize=8)
def _timed(rows: tuple[Scored, ...]) -> tuple[Timed, ...]:
    return timed_kernels(rows)


def ops() -> tuple[str, ...]:
    """Operators that were timed."""
    return tuple(sorted({t.workload.op for t in timed()}))


def devices() -> tuple[str, ...]:
    """Devices that kernels were timed on."""
    return tuple(sorted({t.device for t in timed()}))


def sizes() -> tuple[str, ...]:
    """Workloads that were timed, as their sizes."""
    return tuple(sorted({sized(t.workload) for t in timed()}))


def ladders(op: str) -> list[str]:
    """The ladder tables of the README beside an operator's kernels."""
    package = Path(catalog.__file__).resolve().parents[1] / "refkernels"
    path = package / FOLDERS.get(op, op) / "README.md"
    return ladder_sections(path.read_text(encoding="utf-8")) if path.is_file() else []


def resources() -> tuple[dict[str, Any], ...]:
    """What the assembler reported of every kernel, as ``python -m refkernels.resources`` wrote."""
    found = catalog.names("kernels")
    tables = (catalog.read_json(catalog.find("kernels", name)) for name in found)
    return tuple(entry for table in tables for entry in table.get("resources", []))
