"""What was measured here, read from files: specs/measured and the resource report."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from perfmodel import catalog
from perfmodel.measure import Measurement, read_measurements
from perfmodel.validation import FileReport, Scored, validate_files


def files() -> tuple[Path, ...]:
    """Every file of measurements, by name."""
    return tuple(catalog.find("measured", name) for name in catalog.names("measured"))


def measurements() -> tuple[Measurement, ...]:
    """Every timed kernel of every file."""
    return tuple(m for path in files() for m in _read(path, path.stat().st_mtime_ns))


def report(path: Path) -> FileReport:
    """A file's kernels beside what is predicted of them."""
    return _report(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, mtime_ns: int) -> tuple[Measurement, ...]:
    del mtime_ns  # part of the cache key: an edited file is read again
    return tuple(read_measurements(path))


@lru_cache(maxsize=64)
def _report(path: Path, mtime_ns: int) -> FileReport:
    del mtime_ns
    return validate_files([path])[0]


def scored() -> tuple[Scored, ...]:
    """Every timed kernel beside its prediction."""
    return tuple(s for path in files() for s in report(path).scored)
