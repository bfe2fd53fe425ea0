"""Finds and reads spec files: devices, models, calibration, measurements.

A spec is ``<folder>/<kind>/<name>.<suffix>``. Folders are searched in this order, the first hit
wins: those given with ``--specs DIR`` (:func:`using_specs`), those of the environment variable
``PERFMODEL_SPECS`` (separated as PATH is), and the shipped one. ``<folder>/<kind>/aliases.toml``
maps other spellings to names. Case, ``_``, ``-`` and spaces do not distinguish names.

This module resolves names and reads files into plain dictionaries; what they mean is built
above it (:func:`perfmodel.hw.load.load_device`).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from perfmodel.errors import BadValue, MalformedFile, MissingFile, UnknownName
from perfmodel.files import MAX_BYTES, existing_file, read_text, refuse

SpecKind: TypeAlias = Literal[
    "hw", "models", "engines", "calibration", "measured", "energy", "kernels", "mcu"
]

SUFFIX: dict[SpecKind, str] = {
    "hw": ".toml",
    "models": ".json",
    "engines": ".toml",
    "calibration": ".toml",
    "measured": ".json",
    "energy": ".toml",
    "kernels": ".json",
    "mcu": ".toml",
}
NOUN: dict[SpecKind, str] = {
    "hw": "device", "models": "model", "engines": "engine", "calibration": "calibration"
}  # fmt: skip
_EXTRA: ContextVar[tuple[Path, ...]] = ContextVar("perfmodel_specs", default=())


@cache
def shipped_dir(folder: Literal["specs", "cuda", "dashboards", "docs"] = "specs") -> Path:
    """Where the package's own ``folder`` lies: in a wheel, an editable install or the repository.

    Raises:
        MissingFile: the package was installed without it.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "_data" / folder, package.parent / folder):
        if candidate.is_dir():
            return candidate
    msg = f"the {folder} folder that belongs to perfmodel is missing"
    raise MissingFile(msg, fix="reinstall perfmodel")


def spec_dirs() -> tuple[Path, ...]:
    """Folders searched for specs, the user's first.

    Raises:
        MissingFile: a folder named by ``PERFMODEL_SPECS`` does not exist.
    """
    named = os.environ.get("PERFMODEL_SPECS", "")
    env = tuple(_folder(Path(p), "PERFMODEL_SPECS") for p in named.split(os.pathsep) if p)
    return (*_EXTRA.get(), *env, shipped_dir())


@contextmanager
def using_specs(*folders: str | Path) -> Iterator[None]:
    """Search ``folders`` before all others inside this context (the option ``--specs DIR``).

    Raises:
        MissingFile: one of them is not a folder.
    """
    token = _EXTRA.set((*(_folder(Path(f), "specs") for f in folders), *_EXTRA.get()))
    try:
        yield
    finally:
        _EXTRA.reset(token)


def _folder(path: Path, field: str) -> Path:
    if os.path.isdir(path):  # noqa: PTH112 (unlike Path.is_dir, False for any unusable path)
        return path
    msg = f"no such folder: {path}"
    raise MissingFile(msg, field=field)


def fold(name: str) -> str:
    """``name`` as it is compared: lower case, runs of ``_``, ``-`` and spaces as one dash."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def names(kind: SpecKind) -> tuple[str, ...]:
    """Every spec of ``kind`` by file name, sorted; aliases and files that start with ``_`` not."""
    found = {p.stem for folder in spec_dirs() for p in (folder / kind).glob(f"*{SUFFIX[kind]}")}
    return tuple(sorted(n for n in found if n != "aliases" and not n.startswith("_")))


def aliases(kind: SpecKind) -> dict[str, str]:
    """Other spellings of ``kind`` and the names they stand for; the user's folders win."""
    merged: dict[str, str] = {}
    for folder in reversed(spec_dirs()):
        path = folder / kind / "aliases.toml"
        if path.is_file():
            merged |= _read_aliases(path)
    return merged


def aliases_of(kind: SpecKind, name: str) -> tuple[str, ...]:
    """The aliases that stand for ``name``."""
    return tuple(alias for alias, target in aliases(kind).items() if target == name)


def sources() -> dict[str, dict[str, Any]]:
    """The bibliography: source id -> title, publisher, where, date; the user's folders win."""
    merged: dict[str, dict[str, Any]] = {}
    for folder in reversed(spec_dirs()):
        path = folder / "sources.toml"
        if path.is_file():
            merged |= {k: v for k, v in read_toml(path).items() if isinstance(v, dict)}
    return merged


def find(kind: SpecKind, name: str | Path) -> Path:
    """The file of the spec called ``name``: a name, an alias, or the path of a file.

    Anything with a folder in it or the suffix of the kind is a path.

    Raises:
        BadValue: neither a text nor a path.
        MissingFile: a path that is not a readable file.
        UnknownName: no spec and no alias of that name; offers the nearest.
    """
    text = name_or_path(name, NOUN.get(kind, kind))
    if isinstance(name, Path) or os.sep in text or text.endswith(SUFFIX[kind]):
        return existing_file(Path(text))
    path = _named(kind, text)
    if path is None:
        noun = NOUN.get(kind, kind)
        fix = f"a name from the list, or the path of a {SUFFIX[kind]} file"
        raise UnknownName(noun, text[:80], {*names(kind), *aliases(kind)}, fix=fix)
    return path


def name_or_path(value: object, noun: str) -> str:
    """The text of a name or path; raises BadValue, saying what ``noun`` is named by, otherwise."""
    if isinstance(value, str | Path):
        return str(value)
    msg = f"must be a name or a path, got {type(value).__name__} {repr(value)[:40]}"
    raise BadValue(msg, field=noun, fix=f"the {noun}'s name, or the path of its file")


def _named(kind: SpecKind, text: str) -> Path | None:
    """The spec spelled ``text``; as written first, which saves listing every folder."""
    exact = None if text == "aliases" or text.startswith("_") else _locate(kind, text)
    if exact is not None:
        return exact
    known = {fold(n): n for n in names(kind)}
    other = {fold(a): target for a, target in aliases(kind).items()}
    stem = known.get(fold(text)) or other.get(fold(text))
    return _locate(kind, stem) if stem else None


def _locate(kind: SpecKind, stem: str) -> Path | None:
    files = (folder / kind / f"{stem}{SUFFIX[kind]}" for folder in spec_dirs())
    return next((f for f in files if os.path.isfile(f)), None)  # noqa: PTH113 (as existing_file)


def read_toml(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """A TOML file as a dictionary.

    Raises:
        MissingFile: it cannot be opened.
        MalformedFile: larger than ``max_bytes``, not UTF-8 or not TOML; names line and file.
    """
    text = read_text(path, max_bytes=max_bytes)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        refuse(path, "TOML", error)


def _read_aliases(path: Path) -> Mapping[str, str]:
    stat = path.stat()
    return _cached_aliases(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _cached_aliases(path: Path, mtime_ns: int, size: int) -> Mapping[str, str]:
    del mtime_ns, size  # part of the cache key: an edited file is read again
    table = read_toml(path)
    for alias, target in table.items():
        if not isinstance(target, str):
            msg = f"{path}: must be the name of a spec, got {target!r}"
            raise MalformedFile(msg, field=alias, fix=f'{alias} = "name"')
    return table
