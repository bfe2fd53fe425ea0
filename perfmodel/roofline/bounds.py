"""Lower bounds: total work over peak, the maximum over roofs (Williams et al., Roofline, 2009)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.ops import Cost
from perfmodel.roofline.links import peer_bandwidth
from perfmodel.workload import Array

ZERO = np.float64(0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bound:
    """The least time that physics allows, which roof says so, and every roof in seconds."""

    time_s: Array
    bound: NDArray[np.str_]
    roofs: Mapping[str, Array]
    assumptions: tuple[str, ...] = ()


def lower_bound(
    cost: Cost, device: Device, *, warm: bool = False, link_bytes_per_s: Array | None = None
) -> Bound:
    """``max over roofs of (total work / peak)``: compulsory traffic, no overhead, full overlap.

    Roofs: ``tensor`` and ``vector`` (FLOPs over dense peaks, types of one unit summed),
    ``special``, ``memory`` (compulsory bytes over main-memory bandwidth), ``link``. ``warm``: the
    operands were just written and may rest in the last-level cache, so only what exceeds it must
    come from main memory. ``link_bytes_per_s`` replaces the bandwidth of the device's peer link.

    Raises:
        UnsupportedDtype: the device has no rate for a matrix product's type.
        MissingFigure: the spec lacks the memory bandwidth, or a link that the cost needs.
    """
    roofs, missing = _arithmetic_roofs(cost, device)
    if device.board is not None and device.memory.main.bandwidth_bytes_per_s is None:
        missing.append(f"{device.name} states no memory bandwidth: that roof is left out")
    else:
        roofs["memory"] = memory_roof(cost.bytes_total, device, warm=warm)
    if bool(np.any(cost.link_bytes > 0.0)):
        link = peer_bandwidth(device) if link_bytes_per_s is None else link_bytes_per_s
        roofs["link"] = cost.link_bytes / link
    time_s, bound = largest(roofs)
    return Bound(time_s=time_s, bound=bound, roofs=roofs, assumptions=tuple(missing))


def _arithmetic_roofs(cost: Cost, device: Device) -> tuple[dict[str, Array], list[str]]:
    """Matrix, vector and special-function roofs, and notes on those that had to be left out."""
    roofs: dict[str, Array] = {}
    missing: list[str] = []
    for (unit, dtype, acc), work in cost.flops.items():
        rate = _rate(device, unit, dtype, acc)
        if rate is None:
            missing.append(
                f"{device.name} states no {unit} rate for {dtype}: that roof is left out"
            )
        else:
            roofs[unit] = roofs.get(unit, ZERO) + work / rate
    if device.compute.special_per_s > 0.0:
        roofs["special"] = cost.special / np.float64(device.compute.special_per_s)
    return roofs, missing


def memory_roof(traffic: Array, device: Device, *, warm: bool) -> Array:
    """Compulsory bytes over bandwidth; when ``warm``, bytes beyond the last-level cache, and no
    faster than that cache delivers (where its bandwidth is known)."""
    main = np.float64(device.memory.bandwidth_bytes_per_s)
    cache = device.memory.cache
    if not warm or cache is None or cache.bytes is None:
        return traffic / main
    beyond = np.maximum(traffic - np.float64(cache.bytes), 0.0) / main
    if cache.bandwidth_bytes_per_s is None:
        return beyond
    fastest = np.maximum(main, np.float64(cache.bandwidth_bytes_per_s))
    bound: Array = np.maximum(beyond, traffic / fastest)
    return bound


def largest(terms: Mapping[str, Array]) -> tuple[Array, NDArray[np.str_]]:
    """The element-wise maximum of ``terms`` and the name of the first term that attains it; zero
    and ``none`` without terms."""
    if not terms:
        return ZERO, np.array("none")
    names = np.array(list(terms))
    values = list(terms.values())
    best = values[0]
    index = np.zeros(np.shape(best), dtype=np.intp)
    for i, value in enumerate(values[1:], start=1):
        index = np.where(value > best, i, index)
        best = np.maximum(best, value)
    shape = np.shape(best)
    return best, np.broadcast_to(names[index], shape)


def _rate(device: Device, unit: str, dtype: str, acc: str) -> np.float64 | None:
    """A unit's peak; None for vector work of a device whose vector rates nobody states."""
    try:
        return np.float64(device.compute.peak(unit, dtype, acc))
    except UnsupportedDtype:
        if unit == "vector":
            return None
        raise
