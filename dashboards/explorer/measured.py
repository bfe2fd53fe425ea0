"""What was measured here, read from files: measurements, resource reports, ladders of READMEs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel import catalog
from perfmodel.files import read_json
from perfmodel.report.kernels import Planned, Timed, by_family, planned_rungs, timed_kernels
from perfmodel.report.scenario import Argument
from perfmodel.report.timed_mixers import TimedMixer, timed_mixers
from perfmodel.validation import FileReport, Scored, file_report, validate_files
from perfmodel.validation.baseline import Compared, compare

SOURCES = {"ssd": "gla"}
"""Families whose CUDA sources lie in another one's folder."""


def files() -> tuple[Path, ...]:
    """Every file of measurements, by name."""
    return tuple(catalog.find("measured", name) for name in catalog.names("measured"))


def word(path: Path) -> Argument:
    """A file of measurements as the command line names it."""
    return Argument(option="", text=f"specs/measured/{path.name}", keyword="", value=None)


def words(own: Sequence[FileReport] | None) -> list[Argument]:
    """Uploaded files as the command line would name them where they lie."""
    return [Argument(option="", text=r.file, keyword="", value=None) for r in own or ()]


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


def compared(found: Sequence[FileReport]) -> list[Compared]:
    """Errors by class and device, beside those of the baselines."""
    return _compared(tuple(r.scored for r in found))


@lru_cache(maxsize=16)
def _compared(rows: tuple[tuple[Scored, ...], ...]) -> list[Compared]:
    return compare([file_report("", scored) for scored in rows])


def accuracy_page() -> str:
    """The document of everything that this release was scored on; empty where it is absent."""
    path = catalog.shipped_dir("docs") / "accuracy.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def scored(own: Sequence[FileReport] | None = None) -> tuple[Scored, ...]:
    """Every timed kernel beside its prediction; ``own`` reports first."""
    return tuple(s for r in (*(own or ()), *reports()) for s in r.scored)


def mixers() -> tuple[TimedMixer, ...]:
    """Every timed kernel that ran a token mixer as the crossover asks for it."""
    return _mixers(scored())


@lru_cache(maxsize=8)
def _mixers(rows: tuple[Scored, ...]) -> tuple[TimedMixer, ...]:
    return timed_mixers(rows)


def timed(own: Sequence[FileReport] | None = None) -> tuple[Timed, ...]:
    """Every timed kernel with its roof; ``own`` reports too."""
    return _timed(scored(own))


def scored_of(rows: Sequence[Timed], own: Sequence[FileReport] | None = None) -> list[Scored]:
    """The predictions of timed kernels."""
    by_key = _by_key(scored(own))
    wanted = dict.fromkeys((r.kernel, r.device, r.launch, *r.workload.key()) for r in rows)
    return [s for key in wanted for s in by_key.get(key, ())]


@lru_cache(maxsize=8)
def _by_key(rows: tuple[Scored, ...]) -> dict[tuple[Any, ...], list[Scored]]:
    found: dict[tuple[Any, ...], list[Scored]] = {}
    for row in rows:
        m = row.measurement
        if m.workload is not None and m.quantity == "latency" and not m.workload.shape:
            key = (m.implementation or "unnamed", m.device, m.launch, *m.workload.key())
            found.setdefault(key, []).append(row)
    return found


@lru_cache(maxsize=8)
def _timed(rows: tuple[Scored, ...]) -> tuple[Timed, ...]:
    return timed_kernels(rows)


def families(own: Sequence[FileReport] | None = None) -> dict[str, list[Timed]]:
    """Timed kernels by family; families that were not timed have none. Most of ours first."""
    return _families(timed(own))


@lru_cache(maxsize=8)
def _families(rows: tuple[Timed, ...]) -> dict[str, list[Timed]]:
    timed_ones = by_family(rows)
    found = {name: timed_ones.get(name, []) for name in (*timed_ones, *_folders())}
    return dict(sorted(found.items(), key=lambda f: (-sum(r.ours for r in f[1]), -len(f[1]))))


def family_names() -> tuple[str, ...]:
    """Families of kernels that are known here."""
    return tuple(families())


def devices() -> tuple[str, ...]:
    """Devices that kernels were timed on."""
    return tuple(sorted({t.device for t in timed()}))


def sizes() -> tuple[str, ...]:
    """Sizes that were timed."""
    return tuple(sorted({t.sizes for t in timed()}))


def _readmes() -> Path:
    return Path(catalog.__file__).resolve().parents[1] / "refkernels"


def _folders() -> list[str]:
    """Families of ours whose README tells a ladder, or whose resources are reported."""
    found = sorted(p.parent.name for p in _readmes().glob("*/README.md"))
    return [name for name in found if planned(name) or resources(name)]


def planned(family: str) -> list[Planned]:
    """The ladder as the README beside a family's kernels tells it."""
    path = _readmes() / family / "README.md"
    return planned_rungs(path.read_text(encoding="utf-8")) if path.is_file() else []


def resources(family: str) -> list[dict[str, Any]]:
    """What the assembler reported of a family's kernels (``python -m refkernels.resources``)."""
    name = SOURCES.get(family, family)
    if name not in catalog.names("kernels"):
        return []
    found: list[dict[str, Any]] = read_json(catalog.find("kernels", name))["resources"]
    return found
