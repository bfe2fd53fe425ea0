"""A network written down operator by operator: shapes, workloads and names follow.

Images are ``(1, height, width, channels)``, token matrices ``(tokens, width)``. Every method
returns the name of what it wrote, to be read by the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perfmodel.mcu.counting import (
    conv_workload,
    pointwise_workload,
    product_workload,
    rows_workload,
)
from perfmodel.mcu.network import Network, Op, OpKind, Tensor, TensorKind
from perfmodel.workload import Workload

BIAS_DTYPE = {"int8": "int32", "int16": "int64"}
"""Biases of quantised networks are stored wider than the weights (TFLite quantisation spec)."""


class Builder:
    """Collects tensors and operators; :meth:`network` closes it."""

    def __init__(self, name: str, dtype: str = "int8") -> None:
        self.name = name
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []

    def input(self, *shape: int) -> str:
        """The network's input."""
        return self._tensor("input", shape, "input")

    def weight(self, name: str, *shape: int, dtype: str | None = None) -> str:
        """A constant."""
        return self._tensor(name, shape, "weight", dtype)

    def conv(
        self,
        x: str,
        filters: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        *,
        valid: bool = False,
        depthwise: bool = False,
    ) -> str:
        """A convolution with bias (and whatever activation is folded into it)."""
        _, height, width, channels = self.tensors[x].shape
        rows, columns = (
            (n - k) // s + 1 if valid else -(-n // s)
            for n, k, s in zip((height, width), kernel, stride, strict=True)
        )
        kind: OpKind = "depthwise" if depthwise else "conv"
        name = self._name(kind)
        taps = kernel if depthwise else (*kernel, channels)
        weights = self._weights(name, filters, taps)
        work = conv_workload(
            (height, width, channels),
            (rows, columns, filters),
            kernel=kernel,
            stride=stride,
            groups=channels if depthwise else 1,
            dtype=self.dtype,
        )
        window = {"kernel": kernel, "stride": stride, "axes": (1, 2)}
        return self._op(name, kind, (x, *weights), (1, rows, columns, filters), work, window)

    def dense(self, x: str, *widths: int, bias: bool = True) -> tuple[str, ...]:
        """A fully connected layer; several ``widths`` are outputs of one product, side by side."""
        rows, k = self.tensors[x].shape
        name = self._name("dense")
        weights = self._weights(name, sum(widths), (k,), bias=bias)
        outputs = tuple(
            self._tensor(f"{name}.{i}" if len(widths) > 1 else f"{name}.out", (rows, n))
            for i, n in enumerate(widths)
        )
        work = product_workload(rows, sum(widths), k, dtype=self.dtype)
        self.ops.append(
            Op(
                name=name,
                kind="dense",
                inputs=(x, *weights),
                outputs=outputs,
                workloads=(work,),
            )
        )
        return outputs

    def pool(self, x: str, kernel: tuple[int, int]) -> str:
        """Average pooling, kernel by kernel, without overlap."""
        _, height, width, channels = self.tensors[x].shape
        shape = (1, height // kernel[0], width // kernel[1], channels)
        taps = float(kernel[0] * kernel[1])
        elements = shape[1] * shape[2] * channels
        work = pointwise_workload(elements, self.dtype, "pool", reads=taps, flops=taps)
        window = {"kernel": kernel, "stride": kernel, "axes": (1, 2)}
        return self._op(self._name("pool"), "pool", (x,), shape, work, window)

    def reshape(self, x: str, *shape: int) -> str:
        """The same bytes under another shape."""
        return self._op(self._name("reshape"), "reshape", (x,), shape)

    def add(self, x: str, y: str) -> str:
        """The sum of two tensors; ``y`` may be a constant."""
        elements = self.tensors[x].elements
        work = pointwise_workload(elements, self.dtype, "add", reads=2.0)
        return self._op(self._name("add"), "elementwise", (x, y), self.tensors[x].shape, work)

    def activation(self, x: str, name: str) -> str:
        """A pointwise function that is not folded into the product before it."""
        work = pointwise_workload(self.tensors[x].elements, self.dtype, name, special=1.0)
        return self._op(self._name(name), "elementwise", (x,), self.tensors[x].shape, work)

    def rows(self, x: str, kind: OpKind) -> str:
        """A softmax or a layer norm over the last axis."""
        shape = self.tensors[x].shape
        name = self._name(kind)
        scale = () if kind == "softmax" else (self.weight(f"{name}.scale", 2, shape[-1]),)
        return self._op(name, kind, (x, *scale), shape, rows_workload(shape, kind, self.dtype))

    def concat_rows(self, first: str, second: str) -> str:
        """Two token matrices, one above the other."""
        rows = self.tensors[first].shape[0] + self.tensors[second].shape[0]
        shape = (rows, self.tensors[first].shape[1])
        return self._op(self._name("concat"), "concat", (first, second), shape, None, {"axis": 0})

    def first_row(self, x: str) -> str:
        """The first token alone."""
        return self._op(self._name("slice"), "slice", (x,), (1, self.tensors[x].shape[1]))

    def mean_rows(self, x: str) -> str:
        """The mean over all tokens."""
        rows, width = self.tensors[x].shape
        work = pointwise_workload(width, self.dtype, "mean", reads=float(rows), flops=float(rows))
        return self._op(self._name("mean"), "mean", (x,), (1, width), work, {"axis": (0,)})

    def attention(self, q: str, k: str, v: str, heads: int) -> str:
        """Softmax(Q K^T) V over ``heads``, each product and the softmax an operator of its own.

        A row of the scores needs one row of the queries and all of the keys; a row of the result
        needs one row of the scores and all of the values.
        """
        tokens, width = self.tensors[q].shape
        inner = self.tensors[v].shape[1]
        shape = (heads, tokens, tokens)
        scores = self._op(
            self._name("scores"),
            "matmul",
            (q, k),
            shape,
            product_workload(tokens, tokens, width // heads, batch=heads, dtype=self.dtype),
            {"windows": {q: {1: (0, 1, 1)}}},
        )
        shares = self.rows(scores, "softmax")
        return self._op(
            self._name("mix"),
            "matmul",
            (shares, v),
            (tokens, inner),
            product_workload(tokens, inner // heads, tokens, batch=heads, dtype=self.dtype),
            {"windows": {shares: {0: (1, 1, 1)}}},
        )

    def network(self, *outputs: str, assumptions: tuple[str, ...] = ()) -> Network:
        """What was written, with ``outputs`` as its results."""
        for name in outputs:
            self.tensors[name] = replace(self.tensors[name], kind="output")
        return Network(
            name=self.name,
            tensors=tuple(self.tensors.values()),
            ops=tuple(self.ops),
            assumptions=assumptions,
        )

    def _weights(
        self, name: str, filters: int, taps: tuple[int, ...], *, bias: bool = True
    ) -> tuple[str, ...]:
        weights = (self.weight(f"{name}.weight", filters, *taps),)
        if not bias:
            return weights
        wide = BIAS_DTYPE.get(self.dtype, self.dtype)
        return (*weights, self.weight(f"{name}.bias", filters, dtype=wide))

    def _op(
        self,
        name: str,
        kind: OpKind,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        work: Workload | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        out = self._tensor(f"{name}.out", shape)
        self.ops.append(
            Op(
                name=name,
                kind=kind,
                inputs=inputs,
                outputs=(out,),
                attributes=attributes or {},
                workloads=() if work is None else (work,),
            )
        )
        return out

    def _name(self, kind: str) -> str:
        return f"{kind}_{len(self.ops)}"

    def _tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: TensorKind = "activation",
        dtype: str | None = None,
    ) -> str:
        self.tensors[name] = Tensor(name=name, shape=shape, dtype=dtype or self.dtype, kind=kind)
        return name
