"""Which kernel class answers: by what an operator is, and by the kernel that runs it if one is
named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue
from perfmodel.hw.device import Device
from perfmodel.ops.gemm import is_weight_only
from perfmodel.roofline.parameters import class_of_kernel
from perfmodel.workload import (
    Attention,
    DeltaRule,
    Elementwise,
    Gemm,
    LinearAttention,
    Norm,
    SelectiveScan,
    Ssd,
    Workload,
    is_integer_dtype,
)

Mixer = Attention | LinearAttention | DeltaRule | SelectiveScan | Ssd
_FULL_WIDTH = ("fp32", "fp64")
_NARROW = ("fp8", "fp6", "fp4")
TILED = (
    "gemm", "gemm_narrow", "gemm_int8", "gemm_own_lanes", "gemm_own_warps", "gemm_own_square",
    "gemm_own_wide", "gemm_own_paired", "gemm_own_rows", "gemm_weight_only",
)  # fmt: skip
"""Classes whose tiles are a matrix unit's: vector units run a product of few rows as it is."""
FORMS = {
    "attention": ("attention_decode", "attention_prefill"),
    "attention_plain": ("attention_plain_decode", "attention_prefill"),
    "attention_flash": ("attention_flash_decode", "attention_flash_prefill"),
    "recurrent": ("recurrent_step", "recurrent_chunk"),
    **{
        f"recurrent_own_{kind}": ("recurrent_own_step", f"recurrent_own_{kind}")
        for kind in ("whole", "segments", "hopper", "prepared", "beside", "scan")
    },
}
"""Families of mixers, each with a class for single tokens and one for longer sequences."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The class of single tokens and that of longer sequences, and where tokens are single; an
    operator without sequences has one class for both."""

    step: str
    longer: str
    single: NDArray[np.bool_]

    @property
    def only(self) -> str | None:
        """The one class that answers; None where the two share an array."""
        if self.step == self.longer or bool(np.all(self.single)):
            return self.step
        return None if bool(np.any(self.single)) else self.longer


def choose(workload: Workload, kernel: str | None = None) -> Choice:
    """The kernel classes whose models predict ``workload``, run by ``kernel`` if one is named."""
    assigned = class_of_kernel(workload.op, kernel) if kernel else None
    if assigned is not None and assigned not in FORMS:
        return _one(assigned)
    if isinstance(workload, Mixer):
        family = assigned or ("attention" if isinstance(workload, Attention) else "recurrent")
        step, longer = FORMS[family]
        tokens = workload.q_len if isinstance(workload, Attention) else workload.seq_len
        return Choice(step=step, longer=longer, single=np.asarray(np.asarray(tokens) == 1))
    if isinstance(workload, Gemm):
        return _one(_product_class(workload))
    return _one("pointwise" if isinstance(workload, Norm | Elementwise) else workload.op)


def _one(name: str) -> Choice:
    return Choice(step=name, longer=name, single=np.asarray(True))


def kernel_class(workload: Workload, kernel: str | None = None) -> str:
    """The kernel class whose model predicts ``workload``, run by ``kernel`` if one is named.

    Raises:
        BadValue: an array mixes single tokens with longer sequences, which different kernels run.
    """
    found = choose(workload, kernel).only
    if found is None:
        msg = "mixes single tokens with longer sequences"
        raise BadValue(msg, field="q_len", fix="ask for them apart")
    return found


def _product_class(w: Gemm) -> str:
    if is_weight_only(w):
        return "gemm_weight_only"
    if w.dtype in _FULL_WIDTH:
        return "gemm_fp32"
    if is_integer_dtype(w.dtype):
        return "gemm_int8"
    return "gemm_narrow" if w.dtype in _NARROW else "gemm"


def runs_kernels(device: Device) -> bool:
    """Whether the device launches thread blocks over multiprocessors with special-function units,
    which is the structure that kernel classes describe."""
    return device.kind in ("gpu", "soc") and device.compute.special_per_s > 0.0


def has_matrix_unit(device: Device) -> bool:
    """Whether products have a unit of their own."""
    return any(unit == "tensor" for unit, _, _ in device.compute.peaks)
