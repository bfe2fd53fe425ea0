"""Which part of its inputs an operator needs for one slice of its output.

That is all that fusion, streaming and overwriting ask. A *window* of an input says: slice ``i`` of
the output along one axis needs ``size`` slices of the input along ``axis``, starting ``stride``
slices further for each ``i``. No window: all of the input is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from perfmodel.errors import BadValue
from perfmodel.mcu.network import Network, Op, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Slices of an input along ``axis`` that one slice of the output needs."""

    axis: int
    size: int = 1
    stride: int = 1

    @property
    def single(self) -> bool:
        """Whether slice ``i`` needs slice ``i`` and nothing else."""
        return self.size == 1 and self.stride == 1

    def after(self, later: Window) -> Window:
        """The window of this input when its operator's slices are themselves read by ``later``."""
        return Window(
            axis=self.axis,
            size=self.size + (later.size - 1) * self.stride,
            stride=self.stride * later.stride,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What a plan may do beyond giving every tensor its own bytes.

    ``inplace``: pointwise results over their inputs. ``fuse``: neighbours run slice by slice as one
    (operator integration). ``stream``: the input arrives window by window. ``overwrite``: slices
    over the slices they came from (token overwriting). ``depthwise``: planes over planes.
    ``reorder``: operators in the order that keeps the fewest bytes alive. ``rows``: slices computed
    at a time in fused and streamed operators.
    """

    inplace: bool = True
    fuse: bool = True
    stream: bool = True
    overwrite: bool = True
    depthwise: bool = False
    reorder: bool = True
    rows: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1:
            msg = f"must be at least 1, got {self.rows}"
            raise BadValue(msg, field="rows", fix="1")


Windows: TypeAlias = Mapping[int, Window]
"""Windows of one input by axis of the output."""

POINTWISE = ("elementwise", "softmax", "norm")
"""Operators that can write each element over the one it came from."""


def windows(op: Op, name: str, network: Network) -> Windows:
    """The windows of the input ``name`` of ``op``; empty where all of it is needed."""
    given = op.attributes.get("windows")
    if given is not None:
        return {
            axis: Window(axis=at, size=size, stride=stride)
            for axis, (at, size, stride) in given.get(name, {}).items()
        }
    x, out = network.tensor(name), network.tensor(op.outputs[0])
    rule = _RULES.get(op.kind)
    if rule is None or not out.shape or len(x.shape) != len(out.shape):
        return {}
    return rule(op, name, x, out)


def _same_sizes(x: Tensor, out: Tensor, axes: range) -> dict[int, Window]:
    return {a: Window(axis=a) for a in axes if x.shape[a] == out.shape[a] > 1}


def _elementwise(op: Op, name: str, x: Tensor, out: Tensor) -> Windows:
    return _same_sizes(x, out, range(len(out.shape)))


def _along_rows(op: Op, name: str, x: Tensor, out: Tensor) -> Windows:
    """Softmax, norm, dense: everything along the last axis (or the one named), the rest apart."""
    axis = op.attributes.get("axis", -1)
    if axis % len(out.shape) != len(out.shape) - 1:
        return {}
    return _same_sizes(x, out, range(len(out.shape) - 1))


def _product(op: Op, name: str, x: Tensor, out: Tensor) -> Windows:
    """A matrix product: rows of the first factor give rows; batches of either give batches."""
    rank = len(out.shape)
    found = _same_sizes(x, out, range(rank - 2))
    if name == op.inputs[0] and op.inputs.count(name) == 1 and rank >= 2:
        rows = rank - 1 if op.attributes.get("transpose_first") else rank - 2
        found[rank - 2] = Window(axis=rows)
    return found


def _image(op: Op, name: str, x: Tensor, out: Tensor) -> Windows:
    """Convolution and pooling: ``kernel`` rows of the image for each row."""
    if name != op.inputs[0] or "kernel" not in op.attributes:
        return {}
    axis = op.attributes["axes"][0]
    reach = (op.attributes["kernel"][0] - 1) * op.attributes.get("dilation", (1, 1))[0] + 1
    return {axis: Window(axis=axis, size=reach, stride=op.attributes["stride"][0])}


_RULES: dict[str, Callable[[Op, str, Tensor, Tensor], Windows]] = {
    "elementwise": _elementwise,
    "softmax": _along_rows,
    "norm": _along_rows,
    "dense": _along_rows,
    "matmul": _product,
    "conv": _image,
    "depthwise": _image,
    "pool": _image,
}


def slice_bytes(tensor: Tensor, axis: int, slices: int = 1) -> int:
    """Bytes of ``slices`` slices of ``tensor`` along ``axis``, at most all of it."""
    length = tensor.shape[axis]
    return -(-tensor.bytes // length) * min(slices, length)


def scratch_by_axis(op: Op) -> Mapping[int, int] | None:
    """Scratch of a fused operator by the axis along which it runs; None for any other."""
    found: Mapping[int, int] | None = op.attributes["scratch"] if op.kind == "fused" else None
    return found


def overwritten(
    op: Op, network: Network, dies: Callable[[str], bool], moves: Moves
) -> tuple[str, int] | None:
    """The input whose bytes the output of ``op`` may take, and the scratch that takes; or None.

    The input must die here and have the output's shape and data type. Then, as ``moves`` allow:

    - in place: pointwise operators, whose element ``i`` is written after its last use, and softmax
      and norm, written once their row is known; and a reshape, which moves nothing;
    - token overwriting: operators whose output slice ``i`` needs slice ``i`` alone (a dense layer
      on tokens, an attention over its queries, a 1 x 1 convolution): a slice is made aside and
      copied over the input's (MCUFormer);
    - depthwise in place: at stride 1 a channel needs its own plane alone; it is made aside and
      copied over (Lin et al., MCUNetV2, arXiv 2110.15352).
    """
    if len(op.outputs) != 1:
        return None
    out = network.tensor(op.outputs[0])
    if out.kind == "state":
        return None
    if op.kind == "reshape":
        first = network.tensor(op.inputs[0]) if op.inputs else out
        free = moves.inplace and first in network.reads(op) and dies(first.name)
        return (first.name, 0) if free and first.bytes == out.bytes else None
    for x in network.reads(op):
        same = (x.shape, x.dtype) == (out.shape, out.dtype)
        if same and dies(x.name):
            scratch = _aside(op, x, out, network, moves)
            if scratch is not None:
                return x.name, scratch
    return None


def _aside(op: Op, x: Tensor, out: Tensor, network: Network, moves: Moves) -> int | None:
    """Scratch bytes with which ``out`` may be written over ``x``, or None if it may not."""
    if moves.inplace and op.kind in POINTWISE:
        return 0
    if op.inputs.count(x.name) > 1:
        return None
    single = [a for a, w in windows(op, x.name, network).items() if a == w.axis and w.single]
    if moves.overwrite and single:
        held = scratch_by_axis(op) or {}
        extra = {a: held.get(a, op.scratch_bytes) - op.scratch_bytes for a in single}
        return min(slice_bytes(out, a) + extra[a] for a in single)
    if moves.depthwise and op.kind == "depthwise" and op.attributes["stride"] == (1, 1):
        (channel,) = set(range(1, len(out.shape))) - set(op.attributes["axes"])
        return slice_bytes(out, channel)
    return None
