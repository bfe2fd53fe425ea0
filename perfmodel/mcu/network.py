"""A network as a microcontroller runs it: tensors, operators in order, who lives when.

Built from a file (:mod:`perfmodel.mcu.tflite`, :mod:`perfmodel.mcu.onnx`) or by name
(:mod:`perfmodel.mcu.networks`). Counts come from :func:`perfmodel.ops.count` on each operator's
workloads, so a network costs here what its operators cost anywhere else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from perfmodel.errors import BadValue, UnknownName
from perfmodel.ops import count
from perfmodel.workload import DTYPE_BYTES, Attention, Conv, Gemm, Workload

TensorKind: TypeAlias = Literal["input", "activation", "output", "state", "weight"]

STORED_BYTES: Mapping[str, float] = {
    **DTYPE_BYTES,
    "uint4": 0.5,
    "uint8": 1.0,
    "bool": 1.0,
    "uint16": 2.0,
    "uint32": 4.0,
    "int64": 8.0,
    "uint64": 8.0,
    "complex64": 8.0,
    "complex128": 16.0,
}
"""Bytes of one stored element: what the workloads compute with, and what files also hold."""

OpKind: TypeAlias = Literal[
    "conv",
    "depthwise",
    "conv_transpose",
    "dense",
    "matmul",
    "softmax",
    "norm",
    "elementwise",
    "pool",
    "mean",
    "reshape",
    "transpose",
    "concat",
    "slice",
    "pad",
    "resize",
    "embedding",
    "other",
    "fused",
]
"""What an operator is, in the words every reader uses. ``mean`` reduces axes, ``slice`` copies part
of its input (split, gather, strided slice), ``reshape`` moves no data, ``fused`` runs its members
slice by slice, ``other`` is an operator that is planned for but not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor. ``kind``: weights are constants; a ``state`` outlives the inference."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: TensorKind = "activation"

    def __post_init__(self) -> None:
        if self.dtype not in STORED_BYTES:
            raise UnknownName("dtype", self.dtype, STORED_BYTES)
        if self.kind not in get_args(TensorKind):
            raise UnknownName("tensor kind", self.kind, get_args(TensorKind))
        if any(not isinstance(n, int) or n < 1 for n in self.shape):
            msg = f"tensor {self.name!r} has the shape {list(self.shape)}"
            raise BadValue(msg, field="shape", fix="sizes of at least 1")

    @property
    def elements(self) -> int:
        """How many elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes as stored, rounded up to a whole byte."""
        return math.ceil(self.elements * STORED_BYTES[self.dtype])


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator. ``inputs`` and ``outputs`` are tensor names, weights among the inputs.

    ``attributes`` of ``conv``, ``depthwise`` and ``pool``: ``kernel`` and ``stride`` as
    ``(height, width)``, ``axes`` the positions of height and width in the input's shape; of
    ``concat`` and ``mean``: ``axis`` (a tuple for ``mean``); others as their reader found them.
    ``scratch_bytes`` is memory that lives while the operator runs. ``workloads`` is what it
    computes; operators that only move data have none.
    """

    name: str
    kind: OpKind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    workloads: tuple[Workload, ...] = ()
    scratch_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.outputs:
            msg = f"operator {self.name!r} writes nothing"
            raise BadValue(msg, field="outputs", fix="leave it out")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its products, exact."""
        products = [w for w in self.workloads if isinstance(w, Conv | Gemm | Attention)]
        return round(sum(float(count(w).flops_total) for w in products) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """Steps of a schedule, both included, during which a tensor must keep its bytes."""

    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether the two are alive at a common step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Tensors, and operators in an order in which they can run.

    Raises:
        BadValue: a name used twice, a tensor that is read before it is written, written twice, or
            unknown.
    """

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    assumptions: tuple[str, ...] = ()
    _by_name: Mapping[str, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {t.name: t for t in self.tensors})
        _refuse_twice("tensor", [t.name for t in self.tensors])
        _refuse_twice("operator", [op.name for op in self.ops])
        self.check_order(self.ops)

    def tensor(self, name: str) -> Tensor:
        """The tensor called ``name``; raises UnknownName."""
        if name not in self._by_name:
            raise UnknownName("tensor", name, self._by_name)
        return self._by_name[name]

    def of_kind(self, *kinds: TensorKind) -> tuple[Tensor, ...]:
        """The tensors of the given kinds, in order."""
        return tuple(t for t in self.tensors if t.kind in kinds)

    @property
    def arena_tensors(self) -> tuple[Tensor, ...]:
        """What working memory holds: everything but weights."""
        return tuple(t for t in self.tensors if t.kind != "weight")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(op.macs for op in self.ops)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(t.bytes for t in self.of_kind("weight"))

    def reads(self, op: Op) -> tuple[Tensor, ...]:
        """The inputs of ``op`` that lie in working memory, each once."""
        tensors = (self.tensor(n) for n in dict.fromkeys(op.inputs))
        return tuple(t for t in tensors if t.kind != "weight")

    def consumers(self, order: Sequence[Op] | None = None) -> dict[str, tuple[int, ...]]:
        """Steps at which each tensor is read, by name."""
        found: dict[str, list[int]] = {t.name: [] for t in self.tensors}
        for step, op in enumerate(self.ops if order is None else order):
            for name in dict.fromkeys(op.inputs):
                found[name].append(step)
        return {name: tuple(steps) for name, steps in found.items()}

    def lifetimes(self, order: Sequence[Op] | None = None) -> dict[str, Lifetime]:
        """When each tensor of the arena lives if the operators run in ``order``.

        A tensor lives from the step that writes it to the last that reads it; inputs from the
        first step, outputs to the last, states always. An input that nothing reads lives at step 0.
        """
        ops = self.ops if order is None else order
        end = max(len(ops) - 1, 0)
        written = {name: step for step, op in enumerate(ops) for name in op.outputs}
        read = self.consumers(ops)
        found = {}
        for t in self.arena_tensors:
            first = 0 if t.kind in ("input", "state") else written[t.name]
            last = max((first, *read[t.name]))
            found[t.name] = Lifetime(
                first=first, last=end if t.kind in ("output", "state") else last
            )
        return found

    def live_bytes(self, order: Sequence[Op] | None = None) -> list[int]:
        """Bytes of tensors and scratch alive at every step of ``order``."""
        ops = self.ops if order is None else order
        change = [0] * (len(ops) + 1)
        for name, life in self.lifetimes(ops).items():
            change[life.first] += self.tensor(name).bytes
            change[life.last + 1] -= self.tensor(name).bytes
        running = itertools.accumulate(change)
        return [alive + op.scratch_bytes for alive, op in zip(running, ops, strict=False)]

    def check_order(self, order: Iterable[Op]) -> None:
        """Refuse an order that reads a tensor before it is written (raises BadValue)."""
        ready = {t.name for t in self.of_kind("input", "state", "weight")}
        for op in order:
            for name in op.inputs:
                if self.tensor(name).name not in ready:
                    msg = f"operator {op.name!r} reads {name!r} before anything has written it"
                    raise BadValue(msg, field="order", fix="an order without cycles")
            for name in op.outputs:
                if self.tensor(name).name in ready and self.tensor(name).kind != "state":
                    msg = f"operator {op.name!r} writes {name!r}, which is there already"
                    raise BadValue(msg, field="outputs", fix="one writer for each tensor")
                ready.add(name)
        unwritten = [t.name for t in self.of_kind("activation", "output") if t.name not in ready]
        if unwritten:
            msg = f"no operator writes {unwritten[0]!r}"
            raise BadValue(msg, field="tensors", fix="leave out what is never used")


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for name in names:
        if name in seen:
            msg = f"two are called {name!r}"
            raise BadValue(msg, field=what, fix="a name for each")
        seen.add(name)
