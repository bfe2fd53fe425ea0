"""Network files: limits, one error for whatever is wrong, and the workloads of what was read.

Files are read, never run. Everything that a file claims (sizes, counts, offsets) is checked before
memory is spent on it, and whatever goes wrong ends in one :class:`~perfmodel.errors.MalformedFile`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perfmodel.errors import (
    BadInput,
    BadValue,
    MalformedFile,
    MissingExtra,
    PerfModelError,
)
from perfmodel.files import read_bytes
from perfmodel.mcu.counting import (
    conv_workload,
    pointwise_workload,
    product_workload,
    rows_workload,
)
from perfmodel.mcu.network import Network, Op, OpKind, Tensor
from perfmodel.workload import Workload

MAX_FILE_BYTES = 128 * 2**20
MAX_TENSORS = 8192
MAX_OPS = 2048
MAX_OPERANDS = 256
MAX_RANK = 8
MAX_ELEMENTS = 2**32
MAX_NAME = 120
"""What is larger is refused: no microcontroller runs it, and hostile files claim it."""

SUFFIXES = (".tflite", ".onnx")


def read_network(path: str | Path) -> Network:
    """The network in a ``.tflite`` or ``.onnx`` file.

    Raises:
        MissingFile: no such file.
        MissingExtra: the parser is not installed.
        MalformedFile: not such a file, or larger or stranger than a microcontroller's network.
        BadValue: the file's name has another ending.
    """
    where = Path(path)
    suffix = where.suffix.lower()
    if suffix == ".tflite":
        from perfmodel.mcu import tflite as parser
    elif suffix == ".onnx":
        from perfmodel.mcu import onnx as parser  # type: ignore[no-redef]
    else:
        msg = f"must end in {' or '.join(SUFFIXES)}, got {where.name[:80]!r}"
        raise BadValue(msg, field="model", fix="a built-in name, or such a file")
    data = read_bytes(where, max_bytes=MAX_FILE_BYTES)
    return parser.network_from_bytes(data, where.stem[:MAX_NAME], str(where))


def missing_extra(suffix: str, package: str) -> MissingExtra:
    """The error where a parser is not installed."""
    msg = f"reading {suffix} files needs the package {package!r}"
    return MissingExtra(msg, fix="pip install 'perfmodel[edge]'")


@contextmanager
def refusing(where: str, what: str) -> Iterator[None]:
    """Turn whatever a parser trips over into one MalformedFile that names the file."""
    try:
        yield
    except MalformedFile as error:
        raise MalformedFile(f"{where}: {error.message}", fix=error.fix) from None
    except BadInput as error:
        raise MalformedFile(f"{where}: {error.headline}", fix=f"a valid {what} file") from None
    except PerfModelError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        why = " ".join(str(error).split())[:160] or type(error).__name__
        msg = f"{where}: not a valid {what} file: {why}"
        raise MalformedFile(msg, fix="check that the file is complete") from None


def limited(count: int, most: int, what: str) -> int:
    """``count`` if a file may have so many; raises MalformedFile."""
    if not 0 <= count <= most:
        msg = f"claims {count} {what}, more than {most}"
        raise MalformedFile(msg, fix="a network for a microcontroller")
    return count


def checked_shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    """A tensor's shape within limits; raises MalformedFile."""
    limited(len(shape), MAX_RANK, f"dimensions of {name!r}")
    if any(n < 1 for n in shape):
        msg = f"tensor {name!r} has no known size: {list(shape)}"
        raise MalformedFile(msg, fix="export the model with fixed sizes")
    limited(math.prod(shape), MAX_ELEMENTS, f"elements of {name!r}")
    return tuple(int(n) for n in shape)


class Names:
    """Names that occur once: what a file repeats or leaves empty gets a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, name: str, fallback: str) -> str:
        """``name``, cut to a length, if nobody has it; otherwise a name made from it."""
        base = "".join(c if c.isprintable() else "?" for c in name[:MAX_NAME]).strip() or fallback
        found, number = base, 1
        while found in self._taken:
            number += 1
            found = f"{base}#{number}"
        self._taken.add(found)
        return found


def make_op(
    name: str,
    kind: OpKind,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    attributes: Mapping[str, Any],
) -> Op:
    """An operator with the workloads that its shapes say."""
    return Op(
        name=name,
        kind=kind,
        inputs=tuple(t.name for t in inputs),
        outputs=tuple(t.name for t in outputs),
        attributes=attributes,
        workloads=workloads_of(kind, inputs, outputs, attributes),
    )


def workloads_of(
    kind: OpKind, inputs: Sequence[Tensor], outputs: Sequence[Tensor], given: Mapping[str, Any]
) -> tuple[Workload, ...]:
    """What an operator computes; nothing for those that only move data.

    ``given`` has, beside the attributes of :class:`~perfmodel.mcu.network.Op`, the ``groups`` of a
    convolution, ``n`` and ``k`` of a product (its rows and batch follow from the output), and for
    elementwise operators ``special``: special functions for each element.
    """
    if not inputs or not outputs:
        return ()
    x, out = inputs[0], outputs[0]
    if kind in ("conv", "depthwise"):
        return (_convolution(x, out, _weight_dtype(inputs), given),)
    if kind in ("dense", "matmul", "conv_transpose"):
        n, k = given["n"], given["k"]
        rows = given.get("m", max(out.elements // n, 1))
        batch = given.get("batch", 1)
        work = product_workload(
            rows // batch, n, k, batch=batch, dtype=x.dtype, weight_dtype=_weight_dtype(inputs)
        )
        return (work,)
    if kind in ("softmax", "norm"):
        return (rows_workload(out.shape, kind, out.dtype),)
    if kind == "elementwise":
        reads = float(sum(t.elements >= out.elements for t in inputs) or 1)
        special = float(given.get("special", 0.0))
        return (pointwise_workload(out.elements, out.dtype, kind, reads=reads, special=special),)
    if kind in ("pool", "mean"):
        taps = x.elements / out.elements if kind == "mean" else float(math.prod(given["kernel"]))
        return (pointwise_workload(out.elements, out.dtype, kind, reads=taps, flops=taps),)
    return ()


def _weight_dtype(inputs: Sequence[Tensor]) -> str:
    return inputs[1].dtype if len(inputs) > 1 else inputs[0].dtype


def _convolution(x: Tensor, out: Tensor, weight_dtype: str, given: Mapping[str, Any]) -> Workload:
    axes = given["axes"]
    (channel,) = set(range(1, len(x.shape))) - set(axes)
    sides = [
        (t.shape[axes[0]], t.shape[axes[1]] if len(axes) > 1 else 1, t.shape[channel])
        for t in (x, out)
    ]
    return conv_workload(
        sides[0],
        sides[1],
        kernel=given["kernel"],
        stride=given["stride"],
        groups=given["groups"],
        dtype=x.dtype,
        weight_dtype=weight_dtype,
        batch=out.shape[0],
    )
