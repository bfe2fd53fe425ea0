"""Measurement files: what was measured, on what, with which software, as JSON."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from perfmodel.workload import Workload
from refkernels._check import Gate
from refkernels._sources import all_sources, source_digest
from refkernels._timing import Timing

SCHEMA = 1


def roof(
    quantity: str,
    value: float,
    unit: str,
    *,
    spread: float,
    sm_clock_hz: float | None = None,
    power_w: float | None = None,
    condition: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """One roof: a rate or a latency that a device reached under the named condition."""
    return {
        "kind": "roof",
        "quantity": quantity,
        "value": value,
        "unit": unit,
        "condition": dict(condition or {}),
        "spread": spread,
        "sm_clock_hz": sm_clock_hz,
        "power_w": power_w,
    }


def kernel_time(
    workload: Workload,
    kernel: str,
    timing: Timing,
    *,
    flops: float,
    moved_bytes: float,
    gate: Gate | None,
    framework: str | None = None,
    launch: str = "graph",
    load: str | None = None,
    beside: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """One kernel's time at one size; ``gate`` is None for others' kernels, which we do not gate.

    ``load`` names the lasting load that several kernels shared, taking turns: the row may be
    divided by those of the same load and by ``beside``, the others' seconds, and holds the medians
    of either order of turns.
    """
    shared: dict[str, Any] = {}
    if load is not None:
        shared = {"load": load, "orders_s": list(timing.orders_s), "beside_s": dict(beside or {})}
    return {
        "kind": "kernel",
        "workload": workload.to_dict(),
        "kernel": kernel,
        "framework": framework,
        "launch": launch,
        "time_s": timing.time_s,
        "p25_s": timing.p25_s,
        "p75_s": timing.p75_s,
        "samples": timing.samples,
        "stream_time_s": timing.stream_time_s,
        "flops": flops,
        "bytes": moved_bytes,
        "sm_clock_hz": timing.sm_clock_hz,
        "power_w": timing.power_w,
        "gate": gate.to_dict() if gate else None,
        **shared,
    }


def measurement_file(
    device: Mapping[str, object],
    measurements: Sequence[Mapping[str, object]],
    *,
    family: str | None = None,
) -> dict[str, Any]:
    """A whole file: schema, device, software, date, revision of the kernels, measurements.

    ``family`` is the folder below ``cuda/`` whose revision counts (default: all of it).
    """
    return {
        "schema": SCHEMA,
        "device": dict(device),
        "software": software(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "kernel_revision": kernel_revision(family),
        "measurements": [dict(m) for m in measurements],
    }


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write ``content`` readably, all or nothing; the folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


def kernel_revision(family: str | None = None) -> str:
    """A digest of the CUDA sources (of one folder below ``cuda/``) and the headers they include.

    The same kernels give the same revision in any checkout.
    """
    digest = hashlib.sha256()
    for source in all_sources():
        if family is None or source.parent.name == family:
            digest.update(source_digest(source).encode())
    return digest.hexdigest()[:12]


def gpu_device(name: str | None = None) -> dict[str, object]:
    """The current CUDA device; ``name`` is its spec's name (default: made from the product's)."""
    import cupy

    device = cupy.cuda.Device()
    properties = cupy.cuda.runtime.getDeviceProperties(device.id)
    product = properties["name"].decode()
    return {
        "name": name or _slug(product),
        "product": product,
        "uuid_digest": hashlib.sha256(bytes(properties["uuid"])).hexdigest()[:12],
        "sm_count": int(properties["multiProcessorCount"]),
        "memory_bytes": int(properties["totalGlobalMem"]),
    }


def host_device(name: str | None = None) -> dict[str, object]:
    """This machine's processor, in the same shape."""
    import os

    product = _cpu_product()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "name": name or _slug(product),
        "product": product,
        "uuid_digest": None,
        "sm_count": len(os.sched_getaffinity(0)),
        "memory_bytes": pages,
        "clock_hz": _cpu_clock_hz(),
        "cache_bytes": _cache_bytes(Path("/sys/devices/system/cpu/cpu0/cache")),
    }


def software() -> dict[str, str | None]:
    """Versions of what ran; None where it is absent."""
    driver = cuda = None
    if "cupy" in sys.modules:
        runtime = sys.modules["cupy"].cuda.runtime
        if runtime.driverGetVersion() > 0:
            driver, cuda = _driver_version(), str(runtime.runtimeGetVersion())
    return {
        "driver": driver,
        "cuda": cuda,
        "cupy": _version("cupy-cuda13x"),
        "torch": _version("torch"),
        "triton": _version("triton"),
        "numba": _version("numba"),
        "python": platform.python_version(),
    }


def _driver_version() -> str:
    """The driver's own number ("580.159.04") if the driver library tells, else its CUDA level."""
    try:
        import pynvml

        pynvml.nvmlInit()
        answer = pynvml.nvmlSystemGetDriverVersion()
    except Exception:  # noqa: BLE001 -- any failure of an optional library means: ask CUDA
        return str(sys.modules["cupy"].cuda.runtime.driverGetVersion())
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_product() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_clock_hz() -> float | None:
    """The clock that the system reports now; None where it tells none."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("cpu MHz"):
                return float(line.partition(":")[2]) * 1e6
    return None


def _cache_bytes(folder: Path) -> dict[str, int]:
    """Bytes of each data cache level that one core sees, by name ("l1"), as Linux tells them."""
    found = {}
    for index in sorted(folder.glob("index*")):
        level, kind, size = ((index / n).read_text().strip() for n in ("level", "type", "size"))
        if kind != "Instruction" and size.endswith("K"):
            found[f"l{level}"] = int(size[:-1]) * 1024
    return found


def _slug(product: str) -> str:
    return "-".join(product.lower().replace("(r)", "").replace("(tm)", "").split())
