"""A device spec from measured roofs: what ``perfmodel probe`` writes.

A peak is the best that any kernel of the probe reached: all units together, or one unit times
their number if that is more (a busy machine slows what runs on all of them).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from perfmodel.errors import MalformedFile
from perfmodel.hw.device import Device
from perfmodel.hw.load import device_from
from perfmodel.measure import Roof, read_header, read_roofs

SOURCE = "perfmodel-probe"
HOST_RATES = {
    "host_fma_f32": ("fp32", "fp32"),
    "host_fma_f64": ("fp64", "fp64"),
    "host_mad_s32": ("int32", "int32"),
    "host_dot_s8": ("int8", "int32"),
}
"""Roof of a processor -> data type and accumulator of its vector rate."""
VECTOR_RATES = {
    "fma_f32": ("fp32", "fp32"),
    "fma_f64": ("fp64", "fp64"),
    "fma_f16x2": ("fp16", "fp16"),
    "fma_bf16x2": ("bf16", "bf16"),
}
TENSOR_RATES = {
    "tensor_bf16": ("bf16", "fp32"),
    "tensor_fp16": ("fp16", "fp32"),
    "tensor_fp8": ("fp8", "fp32"),
    "tensor_int8": ("int8", "int32"),
}
ASSUMED_CLOCK_HZ = 2e9
"""Where the system does not tell its clock; it only scales assumed launch times."""


def probed_device(path: Path) -> Device:
    """The device whose roofs the Measurement file at ``path`` holds.

    Raises:
        MissingFile, MalformedFile: no such file, or one without the roofs that a spec needs.
    """
    header, roofs = read_header(path), read_roofs(path)
    host = any(r.quantity.startswith("host_") for r in roofs)
    name = str(header.get("name") or "probed")
    table = _host(header, roofs) if host else _gpu(header, roofs)
    return device_from(table, path.with_name(f"{name}.toml"))


def _host(header: Mapping[str, Any], roofs: Sequence[Roof]) -> dict[str, Any]:
    units = int(header.get("sm_count") or 1)
    vector = _rates(HOST_RATES, roofs, units)
    exponentials = _best(roofs, "host_exp_f32", units)
    clock = header.get("clock_hz")
    hertz = float(clock or ASSUMED_CLOCK_HZ)
    doubt = "as the system reports it now" if clock else "the system does not tell it"
    if not vector or exponentials is None:
        _refuse(header, "host_fma_f32 and host_exp_f32")
    product = str(header.get("product") or "processor")
    return _heading(header, "cpu", _vendor(product)) | {
        "compute": {
            "units": units,
            "clock_vector": {"value": hertz, "verified": False, "reason": doubt},
            "special_per_clk": exponentials / units / hertz,
            "vector": vector,
        },
        "memory": dict(_host_levels(header, roofs, units)),
    }


def _host_levels(
    header: Mapping[str, Any], roofs: Sequence[Roof], units: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each cache with what was read or written inside it, then main memory.

    Private levels count once per core; the last level is shared.
    """
    caches = {str(k): int(v) for k, v in (header.get("cache_bytes") or {}).items()}
    below = 0
    for name, size in caches.items():
        shared = name == list(caches)[-1]
        most = size // units if shared else size
        inside = [r for r in roofs if below < _span(r) <= most]
        level: dict[str, Any] = {"capacity": size if shared else size * units}
        if inside:
            level["bandwidth"] = _fastest(inside, units)
        yield name, level
        below = most
    outside = [r for r in roofs if _span(r) > below] or [r for r in roofs if _span(r)]
    yield (
        "dram",
        {
            "capacity": int(header.get("memory_bytes") or 1),
            "bandwidth": _fastest(outside, 1),
        },
    )


def _span(roof: Roof) -> float:
    """Bytes that each core of a bandwidth roof goes through; 0 for other roofs."""
    told = roof.condition.get("bytes_per_core", 0)
    return float(told) if isinstance(told, int | float) else 0.0


def _gpu(header: Mapping[str, Any], roofs: Sequence[Roof]) -> dict[str, Any]:
    units = int(header.get("sm_count") or 1)
    clocks = [r.sm_clock_hz for r in roofs if r.sm_clock_hz]
    special = _best(roofs, "ex2_f32", 1)
    memory = [r for r in roofs if r.quantity.startswith(("dram_read", "dram_write", "dram_copy"))]
    if not clocks or special is None or not memory:
        _refuse(header, "dram_read, ex2_f32 and a clock")
    cached = [r for r in roofs if r.quantity == "l2_read"]
    caches = {}
    if cached:
        largest = max(cached, key=lambda r: float(str(r.condition.get("bytes", 0))))
        size = int(float(str(largest.condition.get("bytes", 0))))
        caches = {"l2": {"capacity": max(size, 1), "bandwidth": largest.value}}
    launches = {
        name: min(r.value for r in roofs if r.quantity == f"launch_{name}")
        for name in ("stream", "graph")
        if any(r.quantity == f"launch_{name}" for r in roofs)
    }
    return _heading(header, "gpu", "NVIDIA") | {
        "compute": {
            "units": units,
            "clock_vector": max(clocks),
            "special_per_clk": special / units / max(clocks),
            "vector": _rates(VECTOR_RATES, roofs, 1),
            "tensor": _rates(TENSOR_RATES, roofs, 1),
        },
        "memory": caches
        | {
            "dram": {
                "capacity": int(header.get("memory_bytes") or 1),
                "bandwidth": max(r.value for r in memory),
            }
        },
        "launch": launches,
    }


def _heading(header: Mapping[str, Any], kind: str, vendor: str) -> dict[str, Any]:
    return {
        "title": str(header.get("product") or "probed device")[:200],
        "kind": kind,
        "vendor": vendor,
        "architecture": "probed",
        "source": SOURCE,
    }


def _vendor(product: str) -> str:
    known = ("AMD", "Intel", "Apple", "ARM")
    return next((v for v in known if v.lower() in product.lower()), "unknown")


def _rates(
    names: Mapping[str, tuple[str, str]], roofs: Iterable[Roof], units: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Rates as a spec's ``dtype.accumulator = { peak }``."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for quantity, (dtype, acc) in names.items():
        best = _best(roofs, quantity, units)
        if best is not None:
            found.setdefault(dtype, {})[acc] = {"peak": best}
    return found


def _best(roofs: Iterable[Roof], quantity: str, units: int) -> float | None:
    own = [r for r in roofs if r.quantity == quantity]
    return _fastest(own, units) if own else None


def _fastest(roofs: Iterable[Roof], units: int) -> float:
    """The best sample of any roof, one unit's times ``units``."""
    return max(_sample(r) * (units if r.condition.get("threads") == 1 else 1) for r in roofs)


def _sample(roof: Roof) -> float:
    best = roof.condition.get("best")
    return float(best) if isinstance(best, int | float) else roof.value


def _refuse(header: Mapping[str, Any], what: str) -> NoReturn:
    msg = f"the roofs of {header.get('name')} lack {what}"
    raise MalformedFile(msg, field="measurements", fix="run perfmodel probe again")
