"""Serving engines as data: which kernels they have, how they fill memory, how tables call them.

``specs/engines/<name>.toml`` describes one generation of an engine; nothing in the code knows a
name. What their host and kernels cost is fitted (:mod:`perfmodel.models.host`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from perfmodel import catalog
from perfmodel.errors import MalformedFile
from perfmodel.models.flow import Dtypes
from perfmodel.ops.numbers import f64
from perfmodel.units import parse
from perfmodel.workload import Attention

CacheType = Literal["weight", "wide"]
ShareOf = Literal["free", "total"]
HostClass = Literal["replayed", "launched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Which kernels an engine has."""

    all_reduce: str | None = None
    """The implementation that joins partial sums within a node; None for the library's."""
    products: Mapping[str, str] = field(default_factory=dict)
    """The implementation of matrix products, by data type of the activations; typical ones for
    types that it does not name."""
    power_of_two_groups: bool = False
    """Whether its decode kernel needs groups of query heads that are a power of two."""
    ungrouped_models: tuple[str, ...] = ()
    """Models whose grouped heads its decode kernel does not share all the same."""
    windows: bool = True
    """Whether sliding windows bound the cache and what is read of it."""

    def grouped(self, model: str, w: Attention) -> NDArray[np.bool_]:
        """Whether query heads that share keys and values read them together."""
        assert w.kv_heads is not None
        group = f64(w.heads) / f64(w.kv_heads)
        whole = np.exp2(np.floor(np.log2(group))) == group
        able = whole | (not self.power_of_two_groups)
        return np.asarray(able & (model not in self.ungrouped_models))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """How an engine shares out memory."""

    dtype: CacheType = "wide"
    """Cached keys and values as wide as the weights, or as what lies between products."""
    share: float = 0.9
    share_of: ShareOf = "total"
    """The share is of all memory, or of what weights, activations and reserve leave free."""
    reserve_bytes: float = 1.5e9
    whole_requests: bool = False
    """Whether a request is admitted only when its last token will fit too."""
    max_batch: int = 2048
    step_tokens: int = 8192
    """Tokens of prompts that one step reads at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One generation of a serving engine."""

    name: str
    title: str
    rows: tuple[str, ...]
    """Patterns of the names under which measured tables know it."""
    host: HostClass
    """Whether decode steps are replayed from graphs or launched kernel by kernel: engines of a
    class resemble each other where one of them was not measured."""
    source: str | None = None
    """Where its description comes from: an id of ``sources.toml``."""
    kernels: Kernels = field(default_factory=Kernels)
    cache: Cache = field(default_factory=Cache)
    runs: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Requests of its published throughput runs by (prompt, output) tokens."""

    def dtypes(self, dtype: str, kv_dtype: str | None = None) -> Dtypes:
        """Data types of a model served in ``dtype``, the cache as the engine keeps it."""
        types = Dtypes(act=dtype, weight=dtype, kv=kv_dtype or dtype)
        if kv_dtype is not None or self.cache.dtype == "weight":
            return types
        return Dtypes(act=dtype, weight=dtype, kv=types.wide)


def load_engine(name: str | Path) -> Engine:
    """The engine called ``name``.

    Raises:
        UnknownName: no such engine; offers the nearest names.
        MissingFile, MalformedFile: the path is no file, or describes no engine.
    """
    path = catalog.find("engines", name)
    return _read(path, path.stat().st_mtime_ns)


def engine_names() -> tuple[str, ...]:
    """Every engine that :func:`load_engine` finds."""
    return catalog.names("engines")


def engine_of(label: str) -> Engine | None:
    """The engine that a table means by ``label``: the longest pattern wins; None for no label."""
    text = label.strip().lower()
    found = [
        (len(pattern), engine)
        for engine in map(load_engine, engine_names())
        for pattern in engine.rows
        if text and fnmatchcase(text, pattern.lower())
    ]
    return max(found, key=lambda f: (f[0], f[1].name))[1] if found else None


@lru_cache(maxsize=64)
def _read(path: Path, mtime_ns: int) -> Engine:
    del mtime_ns  # part of the cache key: an edited file is read again
    table = catalog.read_toml(path)
    try:
        return _engine(path.stem, table)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path}: not an engine: {type(error).__name__} {error}"
        raise MalformedFile(msg, fix="compare with a shipped file") from None


def _engine(name: str, table: Mapping[str, Any]) -> Engine:
    kernels, cache = dict(table.get("kernels", {})), dict(table.get("cache", {}))
    kernels["ungrouped_models"] = tuple(kernels.get("ungrouped_models", ()))
    if "reserve" in cache:
        cache["reserve_bytes"] = parse(cache.pop("reserve"), "bytes", "cache.reserve")
    found = Engine(
        name=name,
        title=str(table["title"]),
        rows=tuple(table["rows"]),
        host=table["host"],
        source=table.get("source"),
        kernels=Kernels(**kernels),
        cache=Cache(**cache),
        runs={(int(r["isl"]), int(r["osl"])): int(r["requests"]) for r in table.get("run", ())},
    )
    _check(found)
    return found


def _check(engine: Engine) -> None:
    cache = engine.cache
    if cache.dtype not in get_args(CacheType) or cache.share_of not in get_args(ShareOf):
        msg = f"cache.dtype {cache.dtype!r} or cache.share_of {cache.share_of!r} is unknown"
        raise ValueError(msg)
    if engine.host not in get_args(HostClass):
        msg = f"host {engine.host!r} is none of {', '.join(get_args(HostClass))}"
        raise ValueError(msg)
    if not 0.0 < cache.share <= 1.0 or min(cache.max_batch, cache.step_tokens) < 1:
        msg = "cache.share must lie in (0, 1] and cache.max_batch, cache.step_tokens be at least 1"
        raise ValueError(msg)
