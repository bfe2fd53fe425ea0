"""What runs through the layers in one phase, and the counted operators that come out.

A :class:`Flow` is one kind of engine step: how many token rows every matrix sees, which
sequences its token mixers see (:class:`Segment`), and how often the step runs. A chunked prefill is
two flows, its whole chunks and what is left; attention alone tells the chunks apart, so its
operators carry one more trailing axis (``summed``) over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.hw.device import Device
from perfmodel.models.parallel import Split
from perfmodel.models.shape import ModelShape
from perfmodel.ops.numbers import f64
from perfmodel.workload import (
    BLOCK_FORMATS,
    DTYPE_BYTES,
    Array,
    Elementwise,
    Norm,
    Size,
    Workload,
    dtype_name,
)

Amount: TypeAlias = Array | float | int
"""A count or a number of bytes, per grid point."""

WIDE_DTYPES = ("bf16", "fp16", "fp32", "fp64")
"""Types that pointwise operators and attention compute in, the usual one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """Data types of activations, weights and cached keys and values.

    Activations of 8 bits or less feed matrix products only. Everything between them, the output
    head, the router and the embeddings are in ``wide``: the activations' type if it has 16 bits or
    more, else bf16 unless said otherwise.

    Raises:
        UnknownName: no such data type.
        BadValue: weights wider than activations, or a ``wide`` type that is not.
    """

    act: str = "bf16"
    weight: str = "bf16"
    kv: str = "bf16"
    wide: str = ""

    def __post_init__(self) -> None:
        for name, asked in (("act", "dtype"), ("weight", "weight_dtype"), ("kv", "kv_dtype")):
            object.__setattr__(self, name, dtype_name(getattr(self, name), asked))
        for name in ("act", "kv"):
            if getattr(self, name) in BLOCK_FORMATS:
                msg = f"{getattr(self, name)} is a format of stored weights"
                raise BadValue(msg, field=name, fix="fp16, with weights in this format")
        if DTYPE_BYTES[self.weight] > DTYPE_BYTES[self.act]:
            msg = f"{self.weight} weights are wider than {self.act} activations"
            raise BadValue(msg, field="weight", fix=f"{self.act}, or wider activations")
        wide = self.wide or (self.act if self.act in WIDE_DTYPES else "bf16")
        object.__setattr__(self, "wide", dtype_name(wide, "wide"))
        if self.wide not in WIDE_DTYPES:
            msg = f"{self.wide} is too narrow for what lies between products"
            raise BadValue(msg, field="wide", fix="one of " + ", ".join(WIDE_DTYPES))

    def on(self, device: Device) -> Dtypes:
        """The same, with a ``wide`` type that ``device`` has a rate for where narrow activations
        leave it open (fp16 on GPUs older than bf16)."""
        rates = device.compute.dtypes()
        fits = [name for name in (self.wide, *WIDE_DTYPES) if name in rates]
        open_choice = self.act not in WIDE_DTYPES and bool(fits)
        return replace(self, wide=fits[0]) if open_choice else self


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountedOp:
    """``count`` times ``workload`` on one device, under ``group``.

    ``resting_bytes``: per execution, bytes of the cache, the state or an embedding table that the
    operator must move because they rest in memory before or after the step; activations between
    operators do not count. ``reread``: its weights are those of another operator of the step, so
    they need not come from memory again. ``summed``: count and workload have one more trailing
    axis, over chunks.
    """

    group: str
    count: Amount
    workload: Workload
    name: str = ""
    resting_bytes: Amount = 0.0
    reread: bool = False
    summed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Sequences that a token mixer sees alike: ``batch`` of ``q_len`` new tokens each.

    ``kv_len`` counts the context, new tokens included. ``visits`` is how often it occurs in the
    whole phase, per layer. ``times`` is the same by context: with ``summed`` it and ``kv_len``
    have a trailing axis over chunks. ``fresh`` is the share of visits that begin a sequence.
    """

    batch: Size
    q_len: Size
    kv_len: Size
    times: Amount = 1
    visits: Amount = 1
    fresh: Amount = 0
    summed: bool = False
    decode: bool = False

    def widen(self, value: Any) -> Any:
        """A grid value as this segment's attention broadcasts it: with the trailing axis or not."""
        return np.expand_dims(value, -1) if self.summed and np.ndim(value) else value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flow:
    """One kind of step: ``rows`` tokens through every matrix, ``times`` over."""

    rows: Size
    segments: tuple[Segment, ...]
    times: Amount = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stays the same over a phase: the model, its split and its data types."""

    shape: ModelShape
    split: Split
    dtypes: Dtypes
    cached: bool
    """Whether keys and values are kept for later steps (not in an encoder)."""

    @property
    def tp(self) -> Size:
        """Tensor-parallel degree."""
        return self.split.tp


def product(*sizes: Any) -> Any:
    """The product of sizes in float64, which cannot wrap around; exact below 2**53."""
    total: Any = np.float64(1.0)
    for size in sizes:
        total = total * f64(size)
    return total


def pointwise(
    frame: Frame,
    elements: Any,
    times: Amount,
    *,
    group: str,
    name: str,
    reads: float = 1.0,
    flops: float = 1.0,
    special: float = 0.0,
) -> CountedOp:
    """One pass over ``elements`` in the type between matrix products."""
    work = Elementwise(
        elements=elements,
        reads=reads,
        flops=flops,
        special=special,
        dtype=frame.dtypes.wide,
        name=name,
    )
    return CountedOp(group=group, count=times, workload=work, name=name)


def gate(frame: Frame, elements: Any, times: Amount) -> Iterator[CountedOp]:
    """A sigmoid-weighted output: sigmoid (an exponential and a reciprocal), then the products."""
    yield pointwise(
        frame, elements, times, group="activation", name="gate", reads=2, flops=3, special=2
    )


def rms_norm(frame: Frame, rows: Size, cols: Any, times: Amount, name: str) -> CountedOp:
    """An RMS norm inside a mixer."""
    work = Norm(rows=rows, cols=cols, kind="rms", dtype=frame.dtypes.wide)
    return CountedOp(group="norm", count=times, workload=work, name=name)
