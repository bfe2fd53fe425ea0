"""Cycles of one operator from the instructions of its inner loop, before anything is fitted.

A product of ``M`` positions, ``N`` filters and ``K`` taps runs over blocks of ``r x c`` outputs in
registers (Lai, Suda, Chandra, "CMSIS-NN", arXiv 1801.06601, section 3; Garofalo et al.,
"PULP-NN", arXiv 1908.11263, section 4). One step of ``L`` taps costs

    (r + c i) load + r widen + r c (L / macs) mac_cycles + branch,     r c L multiply-adds,

``i`` = 2 where inputs were widened to 16 bits when the patch was gathered, else 1. Around it: the
gathering of patches (im2col), taps left over by ``L``, and bringing each sum back to its type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from perfmodel.hw.device import Device
from perfmodel.mcu.cores import Core, CoreTable, Simd
from perfmodel.mcu.network import Op
from perfmodel.ops import count
from perfmodel.ops.conv import output_size
from perfmodel.workload import Attention, Conv, Elementwise, Gemm, Norm, Workload, dtype_bytes

Family: TypeAlias = Literal[
    "pointwise", "conv", "first", "depthwise", "dense", "attention", "other"
]
FAMILIES: tuple[Family, ...] = get_args(Family)
"""Operator classes whose loops differ. ``first``: a convolution of a few input channels."""

FEW_CHANNELS = 4
"""Input channels up to which a convolution counts as a first layer: a row of a patch is shorter
than the words it is copied by."""
STORE_CYCLES = 2.0
"""Cycles to store a floating-point sum: nothing is requantised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A product as loops see it. ``rows``: runs of consecutive bytes that make up one patch, 0
    where the input is used as it is; ``window``: kernel positions; ``weights``: bytes."""

    family: Family
    positions: float
    filters: float
    taps: float
    rows: float
    weights: float
    groups: float = 1.0
    window: float = 1.0

    @property
    def macs(self) -> float:
        """Multiply-accumulates."""
        return self.positions * self.filters * self.taps * self.groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycles:
    """Cycles of one operator: its loops (``work``), what the multiplier alone needs (``least``),
    and reading weights that are used once from flash (``flash``)."""

    family: Family
    macs: float
    work: float
    least: float = 0.0
    flash: float = 0.0


def operator_cycles(
    op: Op, moved: float, device: Device, core: Core, table: CoreTable, dtype: str
) -> Cycles:
    """Cycles of ``op`` as its core's instructions say, all cores of a cluster at work.

    ``moved`` is how many elements it copies where it computes nothing.

    Raises:
        UnsupportedDtype: the core has no kernels for ``dtype``.
    """
    simd = core.of(dtype)
    found = [_workload_cycles(w, device, core, simd, table, dtype) for w in op.workloads]
    if not found:
        elements = 0.0 if op.kind == "reshape" else moved
        work = elements * table.per_element("move", dtype) / core.issue
        return Cycles(family="other", macs=0.0, work=work)
    return Cycles(
        family=found[0].family,
        macs=sum(c.macs for c in found),
        work=sum(c.work for c in found),
        least=sum(c.least for c in found),
        flash=sum(c.flash for c in found),
    )


def product_shape(w: Conv | Gemm) -> Shape:
    """The loops of a convolution or matrix product."""
    if isinstance(w, Gemm):
        taps, filters, positions = float(w.k), float(w.n), float(w.m)
        family: Family = "dense" if positions == 1 else "pointwise"
        return Shape(
            family=family if w.batch == 1 else "attention",
            positions=positions,
            filters=filters,
            taps=taps,
            rows=0.0,
            weights=taps * filters * float(w.batch) * dtype_bytes(w.weight_dtype or w.dtype),
            groups=float(w.batch),
        )
    height, width = (float(x) for x in output_size(w))
    channels = float(w.in_channels) / float(w.groups)
    window = float(w.kernel_h) * float(w.kernel_w)
    filters = float(w.out_channels) / float(w.groups)
    return Shape(
        family=_family(float(w.in_channels), float(w.groups), window),
        positions=float(w.batch) * height * width,
        filters=filters,
        taps=channels * window,
        rows=float(w.kernel_h) if window > 1 else 0.0,
        weights=channels * window * float(w.out_channels) * dtype_bytes(w.weight_dtype or w.dtype),
        groups=float(w.groups),
        window=window,
    )


def _family(channels: float, groups: float, window: float) -> Family:
    if groups > 1 and groups == channels:
        return "depthwise"
    if window == 1:
        return "pointwise"
    return "first" if channels <= FEW_CHANNELS else "conv"


def _workload_cycles(
    w: Workload, device: Device, core: Core, simd: Simd, table: CoreTable, dtype: str
) -> Cycles:
    if isinstance(w, Conv | Gemm):
        return product_cycles(product_shape(w), device, core, simd, table, dtype)
    if isinstance(w, Norm):
        operator = "softmax" if w.kind == "softmax" else "norm"
        work = float(w.rows) * float(w.cols) * table.per_element(operator, dtype)
    elif isinstance(w, Elementwise):
        work = float(w.elements) * _per_element(w, table, dtype)
    else:
        macs = float(count(w).flops_total) / 2.0
        return Cycles(
            family="attention" if isinstance(w, Attention) else "other",
            macs=macs,
            work=macs * _step(core, simd, *simd.block) / core.issue / cluster_cores(device, core),
        )
    return Cycles(family="other", macs=0.0, work=work / core.issue / cluster_cores(device, core))


def _per_element(w: Elementwise, table: CoreTable, dtype: str) -> float:
    if float(w.special) > 0:
        return table.per_element("special", dtype) * float(w.special)
    if float(w.flops) > 1 and w.reads == w.flops:
        return table.per_element("reduce", dtype) * float(w.flops)
    return table.per_element("elementwise", dtype)


def product_cycles(
    s: Shape, device: Device, core: Core, simd: Simd, table: CoreTable, dtype: str
) -> Cycles:
    """Cycles of one product of shape ``s``."""
    loops = s.macs * (
        _depthwise_step(core, simd) if s.family == "depthwise" else _dense_step(s, core, simd)
    )
    gathered = _gathered(s, core, simd)
    requant = core.requant if dtype.startswith("int") else STORE_CYCLES
    outputs = s.positions * s.filters * s.groups * requant
    work = (loops + gathered + outputs) / core.issue
    multiplier = s.macs / simd.macs * simd.mac_cycles
    cores = cluster_cores(device, core)
    return Cycles(
        family=s.family,
        macs=s.macs,
        work=max(work, multiplier) / cores,
        least=multiplier / cores,
        flash=_flash(s, device, core, table),
    )


def _dense_step(s: Shape, core: Core, simd: Simd) -> float:
    """Cycles per multiply-add of the blocked loop; taps that do not fill a word go one by one."""
    r, c = simd.block
    r, c = min(r, max(int(s.filters), 1)), min(c, max(int(s.positions), 1))
    if s.positions == 1:
        return _vector_step(core, simd, r)
    full = s.taps - s.taps % simd.lanes if simd.lanes < 16 else s.taps
    alone = (r + c) * core.load / (r * c) + max(simd.mac_cycles, 1.0)
    padded = math.ceil(s.taps / simd.lanes) * simd.lanes / s.taps if simd.lanes >= 16 else 1.0
    blocked = _step(core, simd, r, c) * padded
    return (full * blocked + (s.taps - full) * alone) / s.taps


def _step(core: Core, simd: Simd, r: int, c: int) -> float:
    wide = 2.0 if simd.widen else 1.0
    loads = (r + c * wide) * core.load + r * simd.widen
    multiplies = r * c * (simd.lanes / simd.macs) * simd.mac_cycles
    return (loads + multiplies + core.branch) / (r * c * simd.lanes)


def _vector_step(core: Core, simd: Simd, r: int) -> float:
    """A matrix times one vector: weights are used once, the vector's word ``r`` times."""
    loads = (r + 1) * (core.load + simd.widen)
    multiplies = r * (simd.lanes / simd.macs) * simd.mac_cycles
    return (loads + multiplies + core.branch) / (r * simd.lanes)


def _depthwise_step(core: Core, simd: Simd) -> float:
    """One tap of ``lanes`` channels: both words loaded and widened, one accumulator a channel."""
    loads = 2.0 * (core.load + simd.widen) + core.branch
    return (loads + simd.lanes / simd.depthwise_macs * simd.mac_cycles) / simd.lanes


def _gathered(s: Shape, core: Core, simd: Simd) -> float:
    """Cycles to bring patches together: each row is a call, each element copied, and widened where
    the core must. In place, each output visits each kernel position instead."""
    if s.rows and core.in_place and s.family != "depthwise":
        return s.positions * s.filters * s.groups * s.window * core.row_call
    calls = s.positions * s.rows * core.row_call * (s.groups if s.family != "depthwise" else 1.0)
    if s.family in ("dense", "depthwise") or not (s.rows or simd.widen):
        return calls
    stores = 2.0 if simd.widen else 1.0
    copied = (core.load + simd.widen + stores * core.load + core.branch) / simd.lanes
    return calls + s.positions * s.taps * s.groups * copied


def _flash(s: Shape, device: Device, core: Core, table: CoreTable) -> float:
    """Cycles to bring a vector product's weights from flash, a line every wait states + 1.

    Products over several positions find theirs in caches and prefetch buffers; clusters hold them
    in their second-level memory.
    """
    board = device.board
    assert board is not None
    if s.family != "dense" or core.cluster > 1:
        return 0.0
    line = float(board.flash_line_bytes or table.flash_line_bytes)
    waits = board.flash_wait_states
    if waits is None:
        return s.weights / line * max(device.compute.clock_vector_hz / table.flash_array_hz, 1.0)
    return s.weights / line * (float(waits) + 1.0)


def cluster_cores(device: Device, core: Core) -> float:
    """Cores that share one operator."""
    return min(float(device.compute.units), core.cluster)
