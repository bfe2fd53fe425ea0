"""Capacity: does a model fit, for how many users and what context, what binds, what would help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import ImpossibleSplit
from perfmodel.hw.device import Device
from perfmodel.models.cache import held_in_copies
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split, check_split
from perfmodel.models.parameters import parameter_count, weight_bytes
from perfmodel.models.shape import ModelShape
from perfmodel.planning.defaults import PAGE_SIZE, PREFILL_CHUNK, RESERVE_BYTES
from perfmodel.planning.footprint import Footprint, budget_bytes, footprint
from perfmodel.workload import dtype_bytes
from perfmodel.workload.base import one_real, one_size

LONGEST = 40
"""Contexts beyond two to this are told as unbounded."""

GRID = 1024
"""Contexts tried at once while the longest is sought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way of holding a model in memory; the question of a capacity answer."""

    context: int
    users: int = 1
    split: Split
    dtypes: Dtypes
    page_size: int | None = PAGE_SIZE
    reserve_bytes: float = RESERVE_BYTES
    memory_bytes: float | None = None
    chunk: int | None = PREFILL_CHUNK
    """None prefills a whole context in one step."""

    @property
    def devices(self) -> int:
        """Devices of one replica; experts spread wider than ``tp`` join several of its groups."""
        return int(self.split.tp) * int(self.split.pp) * self.groups

    @property
    def groups(self) -> int:
        """Tensor-parallel groups that share the experts and serve users of their own."""
        return int(self.split.expert_replicas)

    @property
    def users_each(self) -> int:
        """Users of the fullest group."""
        return -(-self.users // self.groups)

    def budget(self, device: Device) -> float:
        """Bytes of one device that are ours."""
        return budget_bytes(device, self.memory_bytes)

    def footprint(self, shape: ModelShape, context: Any = None) -> Footprint:
        """The footprint per device, at other contexts (an array, maybe) if they are given."""
        return footprint(
            shape,
            context=self.context if context is None else context,
            split=self.split,
            dtypes=self.dtypes,
            page_size=self.page_size,
            reserve_bytes=self.reserve_bytes,
            chunk=np.inf if self.chunk is None else self.chunk,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """A change of the question and what it would give."""

    change: str
    max_users: int
    max_context: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "change": self.change,
            "max_users": self.max_users,
            "max_context": self.max_context,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityAnswer:
    """How many users fit. Bytes are totals over the group of devices unless ``per_device``."""

    model: str
    device: str
    setting: Setting
    params: int
    weights_bytes: float
    kv_bytes_per_token: float
    kv_bytes_per_user: float
    state_bytes_per_user: float
    budget_bytes: float
    max_users: int
    max_context: int | None
    """The longest context that ``users`` could keep; None where memory does not depend on it."""
    fits: bool
    binds: str
    stack: dict[str, float]
    """What one device holds with ``users`` in flight, in bytes, in stacking order."""
    per_device: dict[str, float]
    swap_s: float | None
    """Seconds to move one user's cache and state over the host link, one way."""
    relax: tuple[Relaxation, ...]
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the question it answers."""
        s = self.setting
        return {
            "model": self.model,
            "device": self.device,
            "devices": s.devices,
            "context": s.context,
            "users": s.users,
            "tp": int(s.split.tp),
            "pp": int(s.split.pp),
            "ep": int(s.split.ep),
            "weight_dtype": s.dtypes.weight,
            "kv_dtype": s.dtypes.kv,
            "page_size": s.page_size,
            "chunk": s.chunk,
            "params": self.params,
            "weights_bytes": self.weights_bytes,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "kv_bytes_per_user": self.kv_bytes_per_user,
            "state_bytes_per_user": self.state_bytes_per_user,
            "budget_bytes": self.budget_bytes,
            "max_users": self.max_users,
            "max_context": self.max_context,
            "fits": self.fits,
            "binds": self.binds,
            "stack": dict(self.stack),
            "per_device": dict(self.per_device),
            "swap_s": self.swap_s,
            "relax": [r.to_dict() for r in self.relax],
            "source": "analytic",
            "assumptions": list(self.assumptions),
        }


def capacity(
    shape: ModelShape,
    device: Device,
    *,
    context: int,
    users: int = 1,
    split: Split,
    dtypes: Dtypes,
    page_size: int | None = PAGE_SIZE,
    reserve_bytes: float = RESERVE_BYTES,
    memory_bytes: float | None = None,
    chunk: int | None = PREFILL_CHUNK,
) -> CapacityAnswer:
    """How many users of ``context`` tokens a model serves from the memory of ``split`` devices.

    The answer is maximal: ``max_users`` fit and one more would not. ``fits`` says whether
    ``users`` do. ``memory_bytes`` replaces the device's own capacity.

    Raises:
        BadValue: a size that is not a positive whole number; a negative reserve or memory.
        ImpossibleSplit: the model's shape forbids the split.
        MissingFigure: the device's spec states no memory capacity.
    """
    setting = Setting(
        context=one_size(context, "context"),
        users=one_size(users, "users"),
        split=split,
        dtypes=dtypes,
        page_size=None if page_size is None else one_size(page_size, "page_size"),
        reserve_bytes=one_real(reserve_bytes, "reserve_bytes"),
        memory_bytes=None if memory_bytes is None else one_real(memory_bytes, "memory_bytes"),
        chunk=None if chunk is None else one_size(chunk, "chunk"),
    )
    check_split(shape, split, device)
    return _answer(shape, device, setting)


def _answer(shape: ModelShape, device: Device, setting: Setting) -> CapacityAnswer:
    held = setting.footprint(shape)
    each = int(held.max_users(setting.budget(device)))
    most = each * setting.groups
    tp, pp = float(int(setting.split.tp)), int(setting.split.pp)
    stages = shape.depth / np.ceil(shape.depth / pp)
    return CapacityAnswer(
        model=shape.name,
        device=device.name,
        setting=setting,
        params=int(parameter_count(shape).total),
        weights_bytes=_total_weights(shape, setting),
        kv_bytes_per_token=float(held.token_kv * tp * stages),
        kv_bytes_per_user=float(held.user_kv * tp * stages),
        state_bytes_per_user=float(held.user_state * tp * stages),
        budget_bytes=setting.budget(device) * setting.devices,
        max_users=most,
        max_context=max_context(shape, device, setting),
        fits=each >= setting.users_each,
        binds=_binds(held, setting, device, each),
        stack=_stack(held, setting.users_each, device),
        per_device=_per_device(held, setting, device),
        swap_s=_swap_s(held, device),
        relax=tuple(_relaxations(shape, device, setting, most)),
        assumptions=_assumptions(shape, device, setting),
    )


def max_context(shape: ModelShape, device: Device, setting: Setting) -> int | None:
    """The most tokens that each of ``setting.users`` can keep; 0 if none, None if unbounded."""
    budget = setting.budget(device)

    def fitting(contexts: NDArray[np.int64]) -> int:
        """How many of the ascending ``contexts`` fit."""
        used = setting.footprint(shape, contexts).used(setting.users_each)
        return int(np.count_nonzero(np.broadcast_to(used <= budget, contexts.shape)))

    powers = np.power(2, np.arange(LONGEST + 1))
    doublings = fitting(powers)
    if doublings == len(powers):
        return None
    low, high = (int(powers[doublings - 1]) if doublings else 0), int(powers[doublings])
    while high - low > 1:
        stride = -(-(high - low) // GRID)
        tries = np.arange(low + stride, high, stride)
        low += stride * fitting(tries)
        high = min(high, low + stride)
    return low


def _total_weights(shape: ModelShape, setting: Setting) -> float:
    """Over all devices of a replica: what the stages hold together, times the TP group."""
    split = setting.split
    per_rank = weight_bytes(shape, setting.dtypes.weight, split.tp, 1, split.ep)
    return float(per_rank * np.float64(int(split.tp) * setting.groups))


def _stack(held: Footprint, users: int, device: Device) -> dict[str, float]:
    layers = held.stack(users) | {"operating system": np.float64(device.os_reserve_bytes)}
    return {name: float(size) for name, size in layers.items() if size > 0}


def _per_device(held: Footprint, setting: Setting, device: Device) -> dict[str, float]:
    budget = setting.budget(device)
    return {
        "weights_bytes": float(held.weights),
        "kv_bytes_per_token": float(held.token_kv),
        "kv_bytes_per_user": float(held.user_kv),
        "state_bytes_per_user": float(held.user_state),
        "activation_bytes": float(held.activations(setting.users_each)),
        "reserve_bytes": float(held.reserve),
        "os_reserve_bytes": float(device.os_reserve_bytes),
        "memory_bytes": budget + device.os_reserve_bytes,
        "budget_bytes": budget,
        "used_bytes": float(held.used(setting.users_each)),
        "free_bytes": float(budget - held.used(setting.users_each)),
    }


def _binds(held: Footprint, setting: Setting, device: Device, most: int) -> str:
    """The part of memory that leaves no room for one user more."""
    budget = setting.budget(device)
    if held.weights > budget:
        return "weights"
    users = max(1, most)
    parts = {
        "weights": held.weights,
        "KV cache": held.user_kv * users,
        "recurrent state": held.user_state * users,
        "activations": held.activations(users),
        "framework reserve": held.reserve,
    }
    return max(parts, key=lambda name: float(parts[name]))


def _swap_s(held: Footprint, device: Device) -> float | None:
    link = device.host_link
    if link is None:
        return None
    moved = held.user_kv + held.user_state
    return float(link.latency_s + moved / link.bandwidth_bytes_per_s)


def _relaxations(
    shape: ModelShape, device: Device, setting: Setting, most: int
) -> Iterator[Relaxation]:
    """Changes that would let more users in, each recomputed rather than estimated."""
    for change, other in _alternatives(setting):
        try:
            check_split(shape, other.split, device)
        except ImpossibleSplit:
            continue
        users = int(other.footprint(shape).max_users(other.budget(device))) * other.groups
        if users > most:
            longest = max_context(shape, device, other)
            yield Relaxation(change=change, max_users=users, max_context=longest)


def _alternatives(setting: Setting) -> Iterator[tuple[str, Setting]]:
    dtypes, split = setting.dtypes, setting.split
    if dtype_bytes(dtypes.kv) > dtype_bytes("fp8"):
        yield "KV cache in fp8", replace(setting, dtypes=replace(dtypes, kv="fp8"))
    for weight in ("int8", "int4"):
        if dtype_bytes(dtypes.weight) > dtype_bytes(weight):
            yield f"weights in {weight}", replace(setting, dtypes=replace(dtypes, weight=weight))
    for tp in (2 * int(split.tp), 4 * int(split.tp)):
        yield f"{tp}-way tensor parallel", replace(setting, split=replace(split, tp=tp))
    yield f"{2 * split.pp} pipeline stages", replace(setting, split=replace(split, pp=2 * split.pp))


def _assumptions(shape: ModelShape, device: Device, setting: Setting) -> tuple[str, ...]:
    at_once = min(setting.chunk or setting.context, setting.context)
    notes = [
        f"framework reserve {setting.reserve_bytes / 1e9:g} GB per device",
        f"activations: largest live set of a layer at {at_once} tokens, fp32 logits",
    ]
    if held_in_copies(shape, int(setting.split.tp)):
        notes.append(
            "totals count the copies of keys, values or latents that devices of a group hold"
        )
    if setting.memory_bytes is not None:
        notes.append(f"memory {setting.memory_bytes:.0f} bytes per device, as given")
    if setting.split.pp > 1:
        notes.append("layers are spread evenly over pipeline stages; the largest stage decides")
    if shape.max_context is not None and setting.context > shape.max_context:
        notes.append(f"{shape.name} was published for at most {shape.max_context} tokens")
    if not shape.decoder:
        notes.append("an encoder keeps no cache: a user is a sequence of the batch")
    return (*notes, *shape.assumptions, *_memory_doubts(device))


def _memory_doubts(device: Device) -> tuple[str, ...]:
    return tuple(note for note in device.unverified if note.startswith("memory"))
