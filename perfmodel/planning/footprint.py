"""How a device's memory fills, as a function of users: the arithmetic under every capacity answer.

Per device of the largest pipeline stage, with everything broadcast over arrays of ``tp`` and
``context``::

    used(n) = weights + reserve + n (KV + state + logits) + live x max(chunk, n)

``live`` is the largest live set of one layer per token (:mod:`perfmodel.planning.activations`); a
step carries at most ``chunk`` prefill tokens or one token per user, whichever is more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.models.cache import kv_bytes, kv_bytes_per_token, state_bytes
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split
from perfmodel.models.parameters import weight_bytes
from perfmodel.models.shape import ModelShape
from perfmodel.ops.numbers import f64
from perfmodel.planning.activations import live_bytes_per_token, logit_bytes_per_sequence
from perfmodel.workload import Array

ZERO = np.float64(0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Footprint:
    """Bytes per device. ``user_*`` are per sequence in flight, the rest whatever the users."""

    weights: Array
    reserve: Array
    token_kv: Array
    user_kv: Array
    user_state: Array
    user_logits: Array
    user_live: Array
    """Live activations of a whole sequence, where all tokens pass at once (encoders)."""
    live: Array
    chunk: Array

    @property
    def user(self) -> Array:
        """Bytes that each further user takes while users are no more than ``chunk``."""
        return self.user_kv + self.user_state + self.user_logits + self.user_live

    def activations(self, users: Array | float) -> Array:
        """Live activations and logits of a step that serves ``users``."""
        step = self.live * np.maximum(self.chunk, users)
        return step + (self.user_live + self.user_logits) * users

    def used(self, users: Array | float) -> Array:
        """Bytes in use with ``users`` in flight."""
        cache = (self.user_kv + self.user_state) * users
        return self.weights + self.reserve + cache + self.activations(users)

    def stack(self, users: Array | float) -> dict[str, Array]:
        """What :meth:`used` adds up, by name, as people read it."""
        users = f64(users)
        return {
            "weights": self.weights,
            "KV cache": self.user_kv * users,
            "recurrent state": self.user_state * users,
            "activations": self.activations(users),
            "framework reserve": self.reserve,
        }

    def max_users(self, budget: Array | float) -> Array:
        """The largest n with ``used(n) <= budget``; 0 when not even one fits."""
        free = budget - self.weights - self.reserve
        few = np.floor((free - self.live * self.chunk) / self.user)
        many = np.floor(free / (self.user + self.live))
        n = np.where(few <= self.chunk, few, many)
        n = np.where(self.used(n) > budget, n - 1.0, n)
        n = np.where(self.used(n + 1.0) <= budget, n + 1.0, n)
        return np.maximum(n, ZERO)[()]


def budget_bytes(device: Device, memory_bytes: float | None) -> float:
    """Bytes of one device that are ours: its memory (``memory_bytes``, where another is meant) less
    what its operating system keeps."""
    memory = device.memory.capacity_bytes if memory_bytes is None else memory_bytes
    return memory - device.os_reserve_bytes


def footprint(
    shape: ModelShape,
    *,
    context: Array | float,
    split: Split,
    dtypes: Dtypes,
    page_size: int | None,
    reserve_bytes: float,
    chunk: float,
) -> Footprint:
    """The footprint of ``shape`` with ``context`` tokens kept per sequence.

    A pipeline stage holds ``ceil(depth / pp)`` of the layers; the largest stage is the one told.
    """
    tp = np.asarray(split.tp)
    stage = _stage_share(shape, split)
    live = live_bytes_per_token(shape, dtypes.act, np.float64(tp), split.ep)
    whole = not shape.decoder
    kv = ZERO if whole else kv_bytes(shape, context, dtypes.kv, split.tp, page_size)
    per_token = ZERO if whole else kv_bytes_per_token(shape, dtypes.kv, split.tp)
    return Footprint(
        weights=weight_bytes(shape, dtypes.weight, split.tp, split.pp, split.ep),
        reserve=np.float64(reserve_bytes),
        token_kv=per_token * stage,
        user_kv=kv * stage,
        user_state=ZERO if whole else state_bytes(shape, split.tp) * stage,
        user_logits=logit_bytes_per_sequence(shape),
        user_live=live * np.asarray(context, dtype=np.float64)[()] if whole else ZERO,
        live=ZERO if whole else live,
        chunk=np.minimum(np.float64(chunk), context),
    )


def _stage_share(shape: ModelShape, split: Split) -> Array:
    return np.float64(np.ceil(shape.depth / split.pp) / shape.depth)
