"""What a serving engine adds to its kernels: host time, and its own fused and streaming kernels.

A step of an engine takes::

    plain + pointwise_share * pointwise + all_reduce_share * all_reduce
    + stream / stream_fraction + reread / reread_fraction + steps (step_s + ranks_s [tp > 1])

where ``plain``, ``pointwise`` and ``all_reduce`` are times of separate kernels, ``stream`` the
cache at full main-memory bandwidth (decode attention is bound by it) and ``reread`` the cache once
per query head at full last-level-cache bandwidth, where a kernel cannot share it. The factors are
fitted on served models (``specs/calibration/host.toml``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel import catalog
from perfmodel.answer import Estimate
from perfmodel.errors import MalformedFile
from perfmodel.hw.device import Device
from perfmodel.models.engines import Engine
from perfmodel.ops import count
from perfmodel.ops.attention import kv_read_bytes
from perfmodel.ops.numbers import f64
from perfmodel.roofline.model import Parameter
from perfmodel.roofline.residuals import Residuals
from perfmodel.workload import Array, Attention, Size

FILE = "host"
"""``specs/calibration/host.toml``: what engines were fitted to add."""

FEATURES = ("plain", "pointwise", "all_reduce", "stream", "reread", "step", "ranks")
"""Parts of a step that the fitted factors multiply, in this order."""

HOST_LINK = 32e9
"""Bytes/s of the link to the host (PCIe 4.0 x16) at which host times are stated."""

OF_ENGINE = (
    Parameter(
        name="step_s", unit="s", low=0.0, high=0.02, start=1e-3,
        meaning="host time per step: scheduling, sampling, launching what no replay hides",
    ),
    Parameter(
        name="ranks_s", unit="s", low=0.0, high=0.05, start=2e-3,
        meaning="further host time per step to keep the ranks of a tensor-parallel group together",
    ),
)  # fmt: skip
SHARED = (
    Parameter(
        name="stream_fraction", unit="1", low=0.3, high=1.0, start=0.85,
        meaning="share of main-memory bandwidth at which decode attention streams the cache",
    ),
    Parameter(
        name="reread_fraction", unit="1", low=0.1, high=1.0, start=0.7,
        meaning="share of last-level-cache bandwidth at which every query head reads the cache",
    ),
    Parameter(
        name="pointwise_share", unit="1", low=0.3, high=1.5, start=0.9,
        meaning="time of an engine's pointwise kernels over that of the operators counted: below 1 "
        "where it fuses them, above 1 for kernels that no layer counts (quantising activations, "
        "gathering, copying)",
    ),
    Parameter(
        name="all_reduce_share", unit="1", low=0.3, high=1.5, start=0.9,
        meaning="time of an engine's all-reduce, fused with what follows, over the kernel's alone",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTimes:
    """Fitted factors of one engine; neutral ones add nothing."""

    step_s: float = 0.0
    ranks_s: float = 0.0
    stream_fraction: float = 1.0
    reread_fraction: float = 1.0
    pointwise_share: float = 1.0
    all_reduce_share: float = 1.0

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """What multiplies each of :data:`FEATURES`."""
        return np.array(
            [
                1.0, self.pointwise_share, self.all_reduce_share, 1.0 / self.stream_fraction,
                1.0 / self.reread_fraction, self.step_s, self.ranks_s,
            ]
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFit:
    """What ``host.toml`` holds: factors by engine, and residuals by serving scenario."""

    engines: Mapping[str, EngineTimes]
    """By engine and, for engines without rows of their own, by host class."""
    shared: EngineTimes
    residuals: Mapping[str, Residuals]
    vendors: tuple[str, ...]
    dtypes: tuple[str, ...]
    note: str


def host_fit() -> HostFit | None:
    """The fitted factors; None where nobody has fitted any.

    Raises:
        MalformedFile: the file is not such a fit.
    """
    path = catalog.exactly("calibration", FILE)
    return None if path is None else _read(path, path.stat().st_mtime_ns)


def engine_times(engine: Engine) -> tuple[EngineTimes, str]:
    """The factors of ``engine``, and what they take for granted; neutral where none are fitted."""
    found = host_fit()
    if found is None:
        return EngineTimes(), f"no host time is calibrated for {engine.name}: taken as zero"
    if engine.name in found.engines:
        times = found.engines[engine.name]
        said = f"{times.step_s * 1e3:.3g} ms of host time per step"
        return times, f"{engine.name}: {said}; {found.note}"
    if engine.host in found.engines:
        note = f"no host time is fitted for {engine.name}: the median of {engine.host} engines"
        return found.engines[engine.host], note
    return found.shared, f"no host time is fitted for {engine.host} engines: taken as zero"


def features(
    found: Estimate, workload: object, device: Device, engine: Engine, model: str, *, warm: bool
) -> dict[str, Array]:
    """One operator's estimate by feature: seconds that the factors of an engine multiply.

    Pointwise operators count as such where their operands are ``warm``, so that fusion spares them.
    """
    kind = str(found.facts.get("kernel_class", ""))
    if kind == "attention_decode" and isinstance(workload, Attention) and not workload.shared_kv:
        return _streamed(workload, device, engine, model)
    if kind == "pointwise" and warm:
        return {"pointwise": found.time_s}
    if kind.startswith("collective") and workload.kind == "all_reduce":  # type: ignore[attr-defined]  # that class has no other workload
        return {"all_reduce": found.time_s}
    return {"plain": found.time_s}


def _streamed(w: Attention, device: Device, engine: Engine, model: str) -> dict[str, Array]:
    assert w.kv_heads is not None
    main = np.float64(device.memory.bandwidth_bytes_per_s)
    cache = device.memory.cache
    rate = cache.bandwidth_bytes_per_s if cache is not None else None
    read = kv_read_bytes(w)
    again = read * (f64(w.heads) / f64(w.kv_heads)) / np.float64(rate or main)
    return {
        "stream": count(w).bytes_total / main,
        "reread": np.where(engine.kernels.grouped(model, w), 0.0, again)[()],
    }


def host_features(steps: Array, tp: Size, device: Device) -> dict[str, Array]:
    """The host's features of ``steps`` steps: their number, as a host of :data:`HOST_LINK` counts.

    Nobody says which processor drove a served device; its link to the host tells the generation. A
    generation doubles the link, and threads of the servers that came with it run about sqrt(2)
    times as fast.
    """
    link = device.host_link.bandwidth_bytes_per_s if device.host_link is not None else HOST_LINK
    age = np.sqrt(np.clip(np.float64(HOST_LINK / link), 0.25, 4.0))
    own = steps * age
    return {"step": own, "ranks": own * np.where(np.asarray(tp) > 1, 1.0, 0.0)[()]}


@lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int) -> HostFit:
    del mtime_ns
    table = catalog.read_toml(path)
    try:
        return _host_fit(table)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path}: not a fit of engines: {type(error).__name__} {error}"
        raise MalformedFile(msg, fix="write it with perfmodel calibrate") from None


def _host_fit(table: Mapping[str, Any]) -> HostFit:
    shared = {k: _value(v) for k, v in table["shared"].items()}
    engines = {
        name: EngineTimes(**shared, **{k: _value(v) for k, v in entry.items()})
        for name, entry in table["engines"].items()
    }
    residuals = {
        name: Residuals(coverage=float(r["coverage"]), low=float(r["low"]), high=float(r["high"]))
        for name, r in table["residuals"].items()
    }
    fit = table["fit"]
    if not {"step", "bare"} <= set(residuals):
        msg = "needs residuals.step and residuals.bare"
        raise ValueError(msg)
    return HostFit(
        engines=engines,
        shared=EngineTimes(**shared),
        residuals=residuals,
        vendors=tuple(fit["vendors"]),
        dtypes=tuple(fit["dtypes"]),
        note=f"fitted on {int(fit['rows'])} served rows (factor {float(fit['factor']):.3f})",
    )


def _value(entry: Mapping[str, Any]) -> float:
    value = entry["value"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 10.0:
        msg = f"needs a value in seconds or a share, got {value!r}"
        raise ValueError(msg)
    return float(value)
