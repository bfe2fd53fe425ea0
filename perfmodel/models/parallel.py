"""Splitting a model over devices: tensor, pipeline, expert, data and sequence parallelism.

Tensor parallelism (TP) cuts every matrix by columns or rows (Shoeybi et al., "Megatron-LM",
arXiv:1909.08053, section 3), so it must divide heads and feed-forward widths; key/value heads and
state-space groups are replicated once TP exceeds them. Expert parallelism (EP) gives each device
whole experts: with EP below TP an expert is cut by TP/EP, with EP above TP the experts spread over
EP/TP data-parallel replicas. Pipeline parallelism (PP) gives each device consecutive layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import ImpossibleSplit
from perfmodel.hw.device import Device
from perfmodel.models.shape import (
    AttentionMixer,
    DeltaMixer,
    LatentMixer,
    Mamba2Mixer,
    MambaMixer,
    Mixer,
    Mlp,
    ModelShape,
    Moe,
)
from perfmodel.workload import Array, Size, check_size

MOST_DEVICES = 2**16
"""Tensor-parallel degrees beyond this are not offered."""


def ways_of(count: Size, field: str) -> Array:
    """In how many ways something is cut, as float64; raises BadValue where that is no count."""
    return np.asarray(check_size(count, field), dtype=np.float64)[()]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """How many devices share a model, each way. Every count may be an array of a grid.

    ``sequence_parallel`` replaces each all-reduce by a reduce-scatter and an all-gather and cuts
    the norms between them by TP (Korthikanti et al., arXiv:2205.05198, section 4.2.2).

    Raises:
        BadValue: a count that is no whole number of at least 1.
    """

    tp: Size = 1
    pp: Size = 1
    ep: Size = 1
    dp: Size = 1
    sequence_parallel: bool = False

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "ep", "dp"):
            object.__setattr__(self, name, check_size(getattr(self, name), name))

    @property
    def expert_tp(self) -> Size:
        """Devices that share one expert: TP/EP, at least 1."""
        return per_device(self.tp, self.ep)

    @property
    def expert_replicas(self) -> Size:
        """Data-parallel replicas whose tokens meet in one expert: EP/TP, at least 1."""
        return per_device(self.ep, self.tp)


def per_device(size: Size, parts: Size) -> Size:
    """``size / parts`` rounded up: one device's share, replicated where there are fewer."""
    whole: Size = -(-np.asarray(size) // np.asarray(parts))
    return whole if np.ndim(whole) else int(whole)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A size that TP must divide; a replicable one may also divide TP."""

    what: str
    size: int
    replicable: bool = False

    def allows(self, tp: NDArray[np.int64]) -> NDArray[np.bool_]:
        even: NDArray[np.bool_] = self.size % tp == 0
        if self.replicable:
            even |= tp % self.size == 0
        return even


def check_split(shape: ModelShape, split: Split, device: Device | None = None) -> tuple[str, ...]:
    """Refuse a split that the model forbids; returns what it takes for granted about links.

    Raises:
        ImpossibleSplit: names the count, what it must divide, and the values that work.
    """
    tp, pp, ep = (np.asarray(n, dtype=np.int64) for n in (split.tp, split.pp, split.ep))
    _check_experts(shape, tp, ep)
    for rule in _rules(shape):
        why = f"does not divide {rule.what}"
        _refuse(tp[~rule.allows(tp)], "tp", why, lambda: possible_tp(shape))
    _check_expert_widths(shape, split)
    _refuse(
        pp[pp > shape.depth], "pp", f"exceeds the {shape.depth} layers", lambda: (1, shape.depth)
    )
    if split.sequence_parallel and bool(np.any(tp < 2)):
        msg = "sequence parallelism needs tensor parallelism"
        raise ImpossibleSplit(msg, field="sequence_parallel", fix="tp of at least 2")
    return _link_assumptions(int(np.max(tp)), device)


def possible_tp(shape: ModelShape, ep: int = 1) -> tuple[int, ...]:
    """Every tensor-parallel degree that the model's shape allows with ``ep``, in order."""
    rules = tuple(_rules(shape))
    most = min(math.gcd(*(r.size for r in rules if not r.replicable)), MOST_DEVICES)
    tries = np.arange(1, max(most, 1) + 1, dtype=np.int64)
    good = np.all([r.allows(tries) for r in rules] or [tries == 1], axis=0)
    for moe in _moes(shape):
        good &= moe.width % np.maximum(tries // ep, 1) == 0
    return tuple(int(t) for t in tries[good])


def _rules(shape: ModelShape) -> Iterator[_Rule]:
    for group in shape.layers:
        if group.mixer is not None:
            yield from _mixer_rules(group.mixer)
        if isinstance(group.ffn, Mlp):
            yield _Rule(f"the feed-forward width {group.ffn.width}", group.ffn.width)
        elif isinstance(group.ffn, Moe) and group.ffn.shared_width:
            width = group.ffn.shared_width
            yield _Rule(f"the shared experts' width {width}", width)


def _mixer_rules(mixer: Mixer) -> Iterator[_Rule]:
    match mixer:
        case AttentionMixer():
            yield _Rule(f"the {mixer.heads} attention heads", mixer.heads)
            yield _Rule(f"the {mixer.kv_heads} key/value heads", mixer.kv_heads, replicable=True)
        case LatentMixer():
            yield _Rule(f"the {mixer.heads} attention heads", mixer.heads)
        case MambaMixer():
            yield _Rule(f"the {mixer.inner} channels", mixer.inner)
        case Mamba2Mixer():
            yield _Rule(f"the {mixer.heads} state-space heads", mixer.heads)
            yield _Rule(f"the {mixer.groups} state-space groups", mixer.groups, replicable=True)
        case DeltaMixer():
            yield _Rule(f"the {mixer.key_heads} key heads", mixer.key_heads)
            yield _Rule(f"the {mixer.value_heads} value heads", mixer.value_heads)


def _moes(shape: ModelShape) -> Iterator[Moe]:
    return (g.ffn for g in shape.layers if isinstance(g.ffn, Moe))


def _check_experts(shape: ModelShape, tp: NDArray[np.int64], ep: NDArray[np.int64]) -> None:
    if bool(np.any(ep > 1)) and not any(_moes(shape)):
        msg = f"{shape.name} has no experts to spread"
        raise ImpossibleSplit(msg, field="ep", fix="ep 1")
    for moe in _moes(shape):
        why = f"does not divide the {moe.experts} experts"
        _refuse(ep[moe.experts % ep != 0], "ep", why, partial(_divisors, moe.experts))
    tp, ep = np.broadcast_arrays(tp, ep)
    uneven = (tp % ep != 0) & (ep % tp != 0)
    why = "neither divides tp nor is a multiple of it"
    _refuse(ep[uneven], "ep", why, lambda: _divisors(int(tp.max())))


def _check_expert_widths(shape: ModelShape, split: Split) -> None:
    cut = np.asarray(split.expert_tp, dtype=np.int64)
    for moe in _moes(shape):
        why = f"cuts the experts' width {moe.width} unevenly"
        _refuse(cut[moe.width % cut != 0], "tp", why, lambda: possible_tp(shape))


def _refuse(
    bad: NDArray[np.int64], field: str, why: str, works: Callable[[], tuple[int, ...]]
) -> None:
    if bad.size:
        choices = ", ".join(str(w) for w in works()[:16])
        fix = f"{field} between {choices.replace(', ', ' and ')}" if field == "pp" else None
        msg = f"{int(bad.flat[0])} {why}"
        raise ImpossibleSplit(msg, field=field, fix=fix or f"one of {choices}")


def _divisors(n: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, n + 1) if n % d == 0)


def _link_assumptions(tp: int, device: Device | None) -> tuple[str, ...]:
    if device is None or tp == 1:
        return ()
    if device.peer_link is None:
        return (f"tp {tp}: {device.name} has no link between devices; the host carries it",)
    domain = device.peer_link.domain
    if tp > domain:
        return (f"tp {tp} leaves the {domain} devices that {device.peer_link.name} joins",)
    return ()
