"""Tiled matrix products: tile menu x waves x split-K (gemm, gemm_narrow, weight-only, fp32).

The structure of tiled GEMM on a multiprocessor (Kerr et al., CUTLASS, 2017; Osama et al.,
Stream-K, arXiv 2301.03598 for the waves): the library is taken to choose the best entry of its
menu, so the time is a minimum over tiles and splits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfmodel.hw.device import Device
from perfmodel.ops import Cost, count
from perfmodel.ops.numbers import f64, stored
from perfmodel.roofline.model import (
    DRAM_FRACTION,
    EAGER_S,
    FIXED_CLK,
    TENSOR_FRACTION,
    UNHIDDEN,
    ClassModel,
    Parameter,
    Run,
    Terms,
    Values,
    launch_s,
    overlap,
)
from perfmodel.roofline.power import ENERGY_PJ, POWER_EXPONENT, sustained_rate
from perfmodel.workload import Array, Gemm

TILES = (
    (256, 128),
    (128, 256),
    (128, 128),
    (128, 64),
    (64, 128),
    (64, 256),
    (64, 64),
    (64, 32),
    (32, 64),
    (32, 128),
    (16, 128),
    (16, 64),
)
"""Output tiles (rows, columns) that tensor-core libraries ship."""

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Into how many parts the inner dimension may be cut."""

_ROWS = np.repeat(np.array([t[0] for t in TILES], dtype=np.float64), len(SPLITS))
_COLS = np.repeat(np.array([t[1] for t in TILES], dtype=np.float64), len(SPLITS))
_PARTS = np.tile(np.array(SPLITS, dtype=np.float64), len(TILES))

TILE_EDGE = Parameter(
    name="tile_edge",
    unit="elements",
    low=0.0,
    high=256.0,
    start=48.0,
    meaning="tile edge at which bringing operands to a unit costs as much as the product, 2-byte "
    "operands",
)
TAIL = Parameter(
    name="tail",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.6,
    meaning="share of full wave quantisation that survives smaller tiles and stream-K",
)
SPLIT_CLK = Parameter(
    name="split_clk",
    unit="cycles",
    low=0.0,
    high=20_000.0,
    start=5_000.0,
    meaning="second pass that adds the parts of a split inner dimension",
)
SPLIT_FRACTION = Parameter(
    name="split_fraction",
    unit="1",
    low=0.1,
    high=4.0,
    start=1.0,
    meaning="bandwidth at which parts of a split are exchanged, in units of main memory's",
)
WIDEN_CLK = Parameter(
    name="widen_clk",
    unit="cycles",
    low=0.0,
    high=1.0,
    start=0.02,
    meaning="cycles of one unit to widen one narrow weight",
)

_TILED = (
    FIXED_CLK,
    EAGER_S,
    DRAM_FRACTION,
    TENSOR_FRACTION,
    ENERGY_PJ,
    POWER_EXPONENT,
    UNHIDDEN,
    TILE_EDGE,
    TAIL,
    SPLIT_CLK,
    SPLIT_FRACTION,
)


def predict_product(w: Gemm, device: Device, values: Values, run: Run) -> Terms:
    """``launch + min over menu of (max+(product, memory; unhidden) + split)``.

    product: ``waves * k / s * max+(mma, load)`` where, for a tile BM x BN on one unit of rate R,
    ``mma = 2 BM BN / R`` and ``load = edge (BM a + BN b) / R`` seconds per step of k (a, b: operand
    bytes), and ``waves`` lies between ``CTAs / units`` and its ceiling by ``tail``.
    """
    cost = count(w)
    traffic = cost.bytes_total / _main_bandwidth(device, values)
    product = _product_s(w, cost, device, values)
    split = _split_s(w, device, values)
    whole = overlap(product, np.asarray(traffic)[..., None], values["unhidden"]) + split
    best = np.asarray(np.argmin(whole, axis=-1))
    start = launch_s(device, values, run)
    terms = {
        "launch": start,
        "product": _pick(product, best),
        "memory": traffic,
        "split": _pick(split, best),
    }
    return Terms(
        time_s=start + _pick(whole, best),
        terms=terms,
        formula=f"launch + max+(product, memory; {values['unhidden']:.3g}) + split",
        details={"tile_rows": _ROWS[best], "tile_cols": _COLS[best], "splits": _PARTS[best]},
    )


def _product_s(w: Gemm, cost: Cost, device: Device, values: Values) -> Array:
    """Seconds of arithmetic and operand supply for every entry of the menu (trailing axis)."""
    m, n, k = (np.asarray(f64(x))[..., None] for x in (w.m, w.n, w.k))
    batch = np.asarray(f64(w.batch))[..., None]
    units = np.float64(device.compute.units)
    rate = _unit_rate(cost, device, values)
    mma = 2.0 * _ROWS * _COLS / rate + _widen_s(w, device, values) * _COLS
    assert w.weight_dtype is not None
    operands = _ROWS * stored(w.dtype) + _COLS * stored(w.weight_dtype)
    load = np.float64(values["tile_edge"]) * operands / rate
    step = overlap(mma, load, values["unhidden"])
    share = np.ceil(m / _ROWS) * np.ceil(n / _COLS) * batch * _PARTS / units
    waves = np.maximum(share + np.float64(values["tail"]) * (np.ceil(share) - share), 1.0)
    return waves * (np.ceil(k / _PARTS) * step)


def _split_s(w: Gemm, device: Device, values: Values) -> Array:
    """Cost of adding parts: a second pass, and writing and reading s fp32 outputs."""
    outputs = np.asarray(f64(w.batch) * f64(w.m) * f64(w.n))[..., None]
    bandwidth = values["split_fraction"] * np.float64(device.memory.bandwidth_bytes_per_s)
    pass_s = np.float64(values["split_clk"]) / np.float64(device.compute.clock_vector_hz)
    return np.where(_PARTS > 1.0, pass_s + outputs * (8.0 * _PARTS) / bandwidth, 0.0)


def _unit_rate(cost: Cost, device: Device, values: Values) -> np.float64:
    """FLOP/s that one unit sustains: its share of the peak, after power and the inner loop."""
    ((unit, dtype, acc),) = cost.flops
    peak = np.float64(device.compute.peak(unit, dtype, acc))
    return sustained_rate(peak, device, values) / np.float64(device.compute.units)


def _widen_s(w: Gemm, device: Device, values: Values) -> np.float64:
    """Seconds of one unit per narrow weight; 0 for classes that do not widen."""
    clk = np.float64(values.get("widen_clk", 0.0))
    return clk / np.float64(device.compute.clock_tensor_hz)


def _main_bandwidth(device: Device, values: Values) -> np.float64:
    peak = np.float64(device.memory.bandwidth_bytes_per_s)
    return np.float64(values["dram_fraction"]) * peak


def _pick(menu: Array, best: NDArray[np.intp]) -> Array:
    """The entries of the trailing axis that ``best`` names."""
    where = best[..., None]
    whole = np.broadcast_to(menu, (*best.shape, np.shape(menu)[-1]))
    chosen: Array = np.take_along_axis(whole, where, axis=-1)[..., 0][()]
    return chosen


GEMM = ClassModel(name="gemm", parameters=_TILED, predict=predict_product)
GEMM_NARROW = ClassModel(name="gemm_narrow", parameters=_TILED, predict=predict_product)
GEMM_FP32 = ClassModel(name="gemm_fp32", parameters=_TILED, predict=predict_product)
GEMM_WEIGHT_ONLY = ClassModel(
    name="gemm_weight_only", parameters=(*_TILED, WIDEN_CLK), predict=predict_product
)
