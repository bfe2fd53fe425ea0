"""Inference runtimes by name: specs/mcu/runtimes.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel.catalog import find, fold, read_toml
from perfmodel.errors import BadValue, MalformedFile, UnknownName


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime; the fields of specs/mcu/runtimes.toml."""

    name: str
    title: str
    matches: tuple[str, ...]
    cores: tuple[str, ...]
    default: tuple[str, ...] = ()
    like: str | None = None
    slower: float = 1.0
    bare: bool = False
    scalar: bool = False
    engine: bool = False
    reason: str = ""


def runtimes() -> Mapping[str, Runtime]:
    """Every runtime by name; raises MalformedFile."""
    path = find("mcu", "runtimes")
    return _read(path, path.stat().st_mtime_ns)


def runtime_named(text: str) -> Runtime:
    """The runtime that people or tables call ``text``.

    Raises:
        UnknownName: none does.
    """
    known = runtimes()
    exact = {fold(n): r for n, r in known.items()}.get(fold(text))
    found = exact or next((r for r in known.values() if _matches(r, text)), None)
    if found is None:
        raise UnknownName("runtime", text[:80], known, fix="leave the runtime out")
    return found


def runtime_on(core: str, text: str | None, *, engine: bool = False) -> Runtime | None:
    """The runtime meant on ``core``: the one named, else the one that drives the matrix
    ``engine`` beside it, else the core's only library, else None.

    Raises:
        UnknownName: no such runtime.
        BadValue: it does not run on this core.
    """
    if text is None:
        drivers = (r for r in runtimes().values() if engine and r.engine and _runs(r, core))
        libraries = (r for r in runtimes().values() if core in r.default)
        return next(drivers, None) or next(libraries, None)
    found = runtime_named(text)
    if not _runs(found, core):
        msg = f"{found.title} does not run on a {core}"
        raise BadValue(msg, field="runtime", fix="leave the runtime out")
    return found


def _runs(runtime: Runtime, core: str) -> bool:
    return any(fnmatchcase(core, pattern) for pattern in runtime.cores)


def _matches(runtime: Runtime, text: str) -> bool:
    lower = text.lower().replace("_", "-")
    return any(fnmatchcase(lower, pattern) for pattern in runtime.matches)


@lru_cache(maxsize=4)
def _read(path: Path, mtime_ns: int) -> Mapping[str, Runtime]:
    del mtime_ns  # part of the cache key: an edited file is read again
    try:
        table = read_toml(path)["runtimes"]
        return {name: _runtime(name, entry) for name, entry in table.items()}
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{path}: not a table of runtimes: {type(error).__name__} {error}"
        raise MalformedFile(msg, fix="compare with the shipped file") from None


def _runtime(name: str, entry: Mapping[str, Any]) -> Runtime:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Runtime(name=name, **fields)
