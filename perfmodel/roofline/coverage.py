"""What a fit has seen: operators, the data types they ran in, and the sizes they had."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import fields
from typing import TypeAlias

import numpy as np

from perfmodel.workload import Array, Workload

_ALIKE = {"bf16": "16-bit", "fp16": "16-bit"}

Spans: TypeAlias = Mapping[str, Mapping[str, tuple[float, float]]]
"""By operator and field, the least and the greatest size among the rows of a fit."""


def described(workload: Workload) -> str:
    """Operator and data types, as calibration files list what they cover: ``"gemm 16-bit x int4"``.

    The two 16-bit formats count as one: they move the same bytes at the same rates.
    """
    names = [_plain(workload, field) for field in ("dtype", "weight_dtype", "kv_dtype")]
    kinds = list(dict.fromkeys(name for name in names if name))
    return " ".join((workload.op, " x ".join(kinds))).rstrip()


def _plain(workload: Workload, field: str) -> str:
    dtype = getattr(workload, field, None) or ""
    return _ALIKE.get(dtype, dtype)


def spans_of(workloads: Iterable[Workload]) -> dict[str, dict[str, list[float]]]:
    """The sizes among ``workloads`` as a calibration file keeps them, by operator and field."""
    found: dict[str, dict[str, list[float]]] = {}
    for w in workloads:
        own = found.setdefault(w.op, {})
        for name, sizes in _sizes(w).items():
            low, high = own.get(name, (np.inf, 0.0))
            own[name] = [min(low, float(np.min(sizes))), max(high, float(np.max(sizes)))]
    return {op: dict(sorted(own.items())) for op, own in sorted(found.items())}


def octaves_outside(workload: Workload, spans: Spans) -> dict[str, Array]:
    """By field, by how many doublings a size lies outside what the fit has seen; only those that
    do, anywhere on a grid."""
    own = spans.get(workload.op, {})
    found = {}
    for name, sizes in _sizes(workload, own).items():
        low, high = own[name]
        beyond: Array = np.maximum(np.log2(low / sizes), np.log2(sizes / high)).clip(0.0)
        if bool(np.any(beyond > 0.0)):
            found[name] = beyond
    return found


def _sizes(workload: Workload, among: Container[str] | None = None) -> dict[str, Array]:
    """Numeric fields of a workload (``among`` those named), all positive."""
    names = (f.name for f in fields(workload) if among is None or f.name in among)
    told = ((name, getattr(workload, name)) for name in names)
    numbers = {n: np.asarray(v) for n, v in told if not isinstance(v, bool | str | None)}
    return {
        n: v.astype(np.float64)
        for n, v in numbers.items()
        if v.dtype.kind in "iuf" and v.size and bool(np.all(v > 0))
    }
