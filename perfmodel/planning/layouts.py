"""Every way of laying a model over devices that a plan considers, evaluated in one sweep each.

A :class:`Trial` is one device type and one choice of data types; layouts (tensor parallelism and
pipeline depth) and users per replica are the two axes of its arrays, so the time model runs once
per trial whatever their number. Layouts of one stage have a trial of their own: they hand nothing
on, and their intervals are those of whole served steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue, ImpossibleSplit
from perfmodel.hw.device import Device
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split, check_split, possible_tp
from perfmodel.models.shape import ModelShape
from perfmodel.planning.defaults import (
    DEPTHS,
    MOST_DEVICES,
    PAGE_SIZE,
    PREFILL_CHUNK,
    RESERVE_BYTES,
)
from perfmodel.planning.demand import Demand
from perfmodel.planning.footprint import Footprint, budget_bytes, footprint
from perfmodel.planning.running import Wish
from perfmodel.planning.serving import Serving, serve
from perfmodel.workload import Array, check_real, check_size

MOST_USERS = 4096
"""Users per replica beyond which no plan is sought."""

FITS, NO_MEMORY, TTFT, TPOT, DEVICES = range(5)
"""Why a point of a trial is no plan; the first that applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a plan may choose from. None leaves the choice to what model and device allow."""

    tp: tuple[int, ...] | None = None
    pp: tuple[int, ...] | None = None
    ep: int = 1
    dtypes: tuple[Wish, ...] = (Wish(),)
    max_devices: int = MOST_DEVICES
    chunk: int | None = PREFILL_CHUNK
    page_size: int | None = PAGE_SIZE
    reserve_bytes: float = RESERVE_BYTES
    memory_bytes: float | None = None

    def budget(self, device: Device) -> float:
        """Bytes of one device that are ours."""
        return budget_bytes(device, self.memory_bytes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """Grids over layouts (rows) and users per replica (columns)."""

    device: Device
    dtypes: Dtypes
    split: Split
    """With ``tp`` as a column of candidates, and ``pp`` where there are several stages."""
    held: Footprint
    most_users: NDArray[np.float64]
    serving: Serving
    replicas: NDArray[np.float64]
    devices: NDArray[np.float64]
    users: NDArray[np.float64]
    """Users in flight over all replicas."""
    requests_per_s: NDArray[np.float64]
    verdict: NDArray[np.int64]

    def groups(self, row: int) -> int:
        """Tensor-parallel groups of one replica of a row."""
        return int(self.at(row).expert_replicas)

    def at(self, row: int) -> Split:
        """The split of a row."""
        tp, pp = np.broadcast_arrays(self.split.tp, self.split.pp)
        return replace(self.split, tp=int(tp[row, 0]), pp=int(pp[row, 0]))


class Tries:
    """The trials of one model: questions that differ in service levels alone share a sweep."""

    def __init__(self, shape: ModelShape) -> None:
        self.shape = shape
        self.known: dict[tuple[int, Demand, Search], tuple[Trial, ...]] = {}

    def on(self, device: Device, demand: Demand, search: Search) -> Iterator[Trial]:
        """As :func:`trials`, on a device that lives as long as this."""
        key = (id(device), replace(demand, ttft_s=None, tpot_s=None), search)
        if key in self.known:
            yield from (_judged(trial, demand, search) for trial in self.known[key])
            return
        made = []
        for trial in trials(self.shape, device, demand, search):
            made.append(trial)
            yield trial
        self.known[key] = tuple(made)


def _judged(trial: Trial, demand: Demand, search: Search) -> Trial:
    """A trial under other service levels."""
    verdict = _verdict(demand, search, trial.serving, trial.most_users, trial.devices)
    return replace(trial, verdict=verdict)


def trials(shape: ModelShape, device: Device, demand: Demand, search: Search) -> Iterator[Trial]:
    """For each choice of data types, layouts of one stage, then those of several.

    Raises:
        ImpossibleSplit: a split asked for by name that the model forbids.
        UnsupportedDtype: the device lacks a rate.
    """
    splits = tuple(
        _splits(degrees(shape, device, search), depths(shape, device, search), search.ep)
    )
    for dtypes in dict.fromkeys(wish.on(shape, device) for wish in search.dtypes):
        for split in splits:
            yield _trial(shape, device, demand, search, dtypes, split)


def _splits(degrees: Sequence[int], depths: Sequence[int], ep: int) -> Iterator[Split]:
    """One stage, and several: every layout is a row."""
    if 1 in depths:
        yield Split(tp=np.array(degrees)[:, None], ep=ep)
    several = [(tp, pp) for pp in depths if pp > 1 for tp in degrees]
    if several:
        tp, pp = np.array(several).T[:, :, None]
        yield Split(tp=tp, pp=pp, ep=ep)


def degrees(shape: ModelShape, device: Device, search: Search) -> tuple[int, ...]:
    """Tensor-parallel degrees to try: as asked, else powers of two inside one link domain."""
    if search.tp is not None:
        for tp in search.tp:
            check_split(shape, Split(tp=tp, ep=search.ep), device)
        return search.tp
    domain = device.peer_link.domain if device.peer_link is not None else 1
    tried = [t for t in possible_tp(shape) if t & (t - 1) == 0 and t <= domain]
    allowed = tuple(t for t in tried if _allowed(shape, Split(tp=t, ep=search.ep)))
    if not allowed:
        check_split(shape, Split(tp=tried[0], ep=search.ep), device)
    return allowed


def _allowed(shape: ModelShape, split: Split) -> bool:
    try:
        check_split(shape, split)
    except ImpossibleSplit:
        return False
    return True


def depths(shape: ModelShape, device: Device, search: Search) -> tuple[int, ...]:
    """Pipeline depths to try: as asked, else a few where devices have a link to hand on over."""
    if search.pp is not None:
        for pp in search.pp:
            check_split(shape, Split(pp=pp), device)
        return search.pp
    linked = DEPTHS if device.peer_link is not None else DEPTHS[:1]
    return tuple(pp for pp in linked if pp <= shape.depth)


def _trial(
    shape: ModelShape,
    device: Device,
    demand: Demand,
    search: Search,
    dtypes: Dtypes,
    split: Split,
) -> Trial:
    held = footprint(
        shape,
        context=float(demand.peak_context),
        split=split,
        dtypes=dtypes,
        page_size=search.page_size,
        reserve_bytes=search.reserve_bytes,
        chunk=float(search.chunk or demand.fresh),
    )
    most = np.asarray(held.max_users(search.budget(device)))
    batch = np.asarray(_batches(demand, most), dtype=np.float64)
    serving = serve(
        shape, device, demand, split=split, dtypes=dtypes, batch=batch, chunk=search.chunk
    )
    groups = np.asarray(split.expert_replicas, dtype=np.float64)
    replicas = _replicas(demand, serving, groups)
    devices = replicas * np.asarray(split.tp) * np.asarray(split.pp) * groups
    users, rate = _load(demand, serving, replicas)
    return Trial(
        device=device,
        dtypes=dtypes,
        split=split,
        held=held,
        most_users=most,
        serving=serving,
        replicas=replicas,
        devices=devices,
        users=users,
        requests_per_s=rate,
        verdict=_verdict(demand, search, serving, most, devices),
    )


def _batches(demand: Demand, most: Array) -> list[int]:
    """Users per replica worth trying: every even split of the users, or a fine geometric grid."""
    if demand.users is not None:
        shares = (
            {-(-demand.users // r) for r in range(1, demand.users + 1)}
            if (demand.users <= MOST_USERS)
            else set(_geometric(demand.users))
        )
        return sorted(b for b in shares if b <= MOST_USERS)
    top = int(np.clip(np.max(most), 1, MOST_USERS))
    return _geometric(top)


def _geometric(top: int) -> list[int]:
    steps = np.floor(np.geomspace(1, top, num=96))
    return sorted({int(s) for s in steps} | set(range(1, min(top, 16) + 1)))


def _replicas(demand: Demand, serving: Serving, groups: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replicas that carry the load: each is ``groups`` tensor-parallel groups of ``batch`` users,
    more than one where experts are spread wider than ``tp``.
    """
    if demand.users is not None:
        wanted = np.asarray(demand.users / (serving.batch * groups))
    else:
        wanted = np.asarray(np.float64(demand.rate or 0.0) / (serving.requests_per_s * groups))
    shape = np.shape(serving.requests_per_s)
    return np.array(np.broadcast_to(np.maximum(1.0, np.ceil(wanted)), shape))


def _load(
    demand: Demand, serving: Serving, replicas: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Users in flight and requests per second, tied by Little's law."""
    latency = serving.latency.value
    if demand.users is not None:
        users = np.full_like(replicas, demand.users)
        return users, users / latency
    rate = np.full_like(replicas, demand.rate or 0.0)
    return rate * latency, rate


def _verdict(
    demand: Demand,
    search: Search,
    serving: Serving,
    most: Array,
    devices: NDArray[np.float64],
) -> NDArray[np.int64]:
    """The first reason, in order, that a point is no plan."""
    checks = [
        (serving.batch > most, NO_MEMORY),
        (serving.ttft.value > (demand.ttft_s or np.inf), TTFT),
        (serving.tpot.value > (demand.tpot_s or np.inf), TPOT),
        (devices > search.max_devices, DEVICES),
    ]
    where = [np.broadcast_to(c, devices.shape) for c, _ in checks]
    return np.select(where, [code for _, code in checks], FITS)


def check_search(search: Search) -> None:
    """Refuse an empty or senseless search space.

    Raises:
        BadValue: names the field.
    """
    lists: dict[str, Sequence[object] | None] = {
        "tp": search.tp, "pp": search.pp, "dtype": search.dtypes,
    }  # fmt: skip
    for field, values in lists.items():
        if values is not None and not values:
            msg = "has nothing to choose from"
            raise BadValue(msg, field=field, fix="at least one value")
    for field in ("max_devices", "ep", "chunk", "page_size"):
        if getattr(search, field) is not None:
            check_size(getattr(search, field), field)
    for field in ("reserve_bytes", "memory_bytes"):
        if getattr(search, field) is not None:
            check_real(getattr(search, field), field)
