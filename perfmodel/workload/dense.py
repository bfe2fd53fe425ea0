"""Products, convolutions, reductions, pointwise operators and collectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.workload.base import Real, Size, Workload, check_divides, check_real
from perfmodel.workload.dtypes import is_integer_dtype


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gemm(Workload):
    """``out[b, m, n] = act[b, m, k] @ weight[b, k, n]``, summed in ``acc_dtype``.

    ``weight_dtype`` narrower than ``dtype`` (W8A16, W4A16) is dequantised on the way to a product
    in ``dtype``. ``group_size`` is the number of weights along k that share one 16-bit scale
    (None: one scale per output column). ``batch`` independent products have their own weights.
    """

    op: ClassVar[str] = "gemm"
    SIZES: ClassVar[dict[str, int]] = {"m": 1, "n": 1, "k": 1, "batch": 1, "group_size": 1}
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype", "weight_dtype", "out_dtype", "acc_dtype")

    m: Size
    n: Size
    k: Size
    batch: Size = 1
    dtype: str = "bf16"
    weight_dtype: str | None = None
    out_dtype: str | None = None
    acc_dtype: str | None = None
    group_size: int | None = None

    def _complete(self) -> None:
        if self.weight_dtype is None:
            self._set("weight_dtype", self.dtype)
        if self.out_dtype is None:
            wide = self.dtype in ("fp16", "bf16", "fp32", "fp64", "tf32")
            self._set("out_dtype", self.dtype if wide else "bf16")
        if self.acc_dtype is None:
            acc = {"fp64": "fp64"}.get(
                self.dtype, "int32" if is_integer_dtype(self.dtype) else "fp32"
            )
            self._set("acc_dtype", acc)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm(Workload):
    """A reduction over ``cols`` in each of ``rows`` rows: RMSNorm, LayerNorm or softmax.

    ``residual`` adds a second input and writes the sum back.
    """

    op: ClassVar[str] = "norm"
    SIZES: ClassVar[dict[str, int]] = {"rows": 1, "cols": 1}
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype",)
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"kind": ("rms", "layer", "softmax")}
    FLAGS: ClassVar[tuple[str, ...]] = ("residual",)

    rows: Size
    cols: Size
    kind: Literal["rms", "layer", "softmax"] = "rms"
    residual: bool = False
    dtype: str = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elementwise(Workload):
    """``elements`` outputs, each from ``reads`` inputs: residual add, activation, RoPE, copy.

    ``flops`` and ``special`` are arithmetic and special-function operations per output element;
    ``writes`` is outputs per element (0 for a pure reduction read). ``cols`` is the length of the
    rows that a kernel keeps together, one token's worth (None: elements without rows). ``name`` is
    for people.
    """

    op: ClassVar[str] = "elementwise"
    SIZES: ClassVar[dict[str, int]] = {"elements": 1, "cols": 1}
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype",)

    elements: Size
    reads: Real = 1.0
    writes: Real = 1.0
    flops: Real = 1.0
    special: Real = 0.0
    cols: Size | None = None
    dtype: str = "bf16"
    name: str = "elementwise"

    def _complete(self) -> None:
        for name in ("reads", "writes", "flops", "special"):
            self._set(name, check_real(getattr(self, name), name))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv(Workload):
    """2-D convolution (1-D: ``height`` = ``kernel_h`` = 1), output spatial size by ``padding``.

    ``groups`` = ``in_channels`` is depthwise. ``padding``: ``"same"`` gives ceil(size / stride),
    ``"valid"`` floor((size - kernel) / stride) + 1, ``"causal"`` keeps the length (1-D, stride 1).
    """

    op: ClassVar[str] = "conv"
    SIZES: ClassVar[dict[str, int]] = {
        "batch": 1,
        "in_channels": 1,
        "out_channels": 1,
        "height": 1,
        "width": 1,
        "kernel_h": 1,
        "kernel_w": 1,
        "stride": 1,
        "groups": 1,
    }
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype", "weight_dtype", "out_dtype")
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"padding": ("same", "valid", "causal")}

    batch: Size = 1
    in_channels: Size
    out_channels: Size
    width: Size
    height: Size = 1
    kernel_w: Size = 1
    kernel_h: Size = 1
    stride: Size = 1
    groups: Size = 1
    padding: Literal["same", "valid", "causal"] = "same"
    dtype: str = "bf16"
    weight_dtype: str | None = None
    out_dtype: str | None = None

    def _complete(self) -> None:
        for name in ("weight_dtype", "out_dtype"):
            if getattr(self, name) is None:
                self._set(name, self.dtype)
        check_divides(self.groups, self.in_channels, "groups", "in_channels")
        check_divides(self.groups, self.out_channels, "groups", "out_channels")
        small = (np.asarray(self.kernel_h) > np.asarray(self.height)) | (
            np.asarray(self.kernel_w) > np.asarray(self.width)
        )
        if self.padding == "valid" and bool(np.any(small)):
            msg = "must not exceed the input when padding is valid"
            raise BadValue(
                msg, field="kernel_h" if np.any(self.kernel_h > self.height) else "kernel_w"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collective(Workload):
    """A collective over ``ranks`` devices. ``bytes`` is the buffer per rank as NCCL counts it:
    the full vector of an all-reduce, the gathered output, the scattered input.
    """

    op: ClassVar[str] = "collective"
    SIZES: ClassVar[dict[str, int]] = {"bytes": 1, "ranks": 1, "ranks_per_node": 1}
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "kind": ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
    }

    bytes: Size
    ranks: Size
    kind: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"] = (
        "all_reduce"
    )
    ranks_per_node: Size | None = None
