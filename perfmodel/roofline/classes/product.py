"""Tiled matrix products: tile menu x waves x split-K, and what odd sizes cost.

The structure of tiled GEMM on a multiprocessor (Kerr et al., CUTLASS, 2017; Osama et al.,
Stream-K, arXiv 2301.03598 for the waves): the library is taken to choose the best entry of its
menu, so the time is a minimum over tiles and splits. Sizes whose rows do not start at multiples of
16 bytes rule out bulk copies, and so the fast kernels (CUTLASS's alignment rules).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from perfmodel.hw.device import Device
from perfmodel.ops import Cost, count
from perfmodel.ops.numbers import f64, stored
from perfmodel.roofline.classes.menus import (
    INTEGER_MENU,
    TENSOR_MENU,
    THIN,
    VECTOR_MENU,
    Menu,
)
from perfmodel.roofline.classes.product_parameters import (
    BESIDE,
    COMMON,
    ODD_CLK,
    ODD_RATE,
    ODD_SUPPLY,
    SPLIT,
    SUPPLY_BYTES,
    SUPPLY_RATE,
    THIN_RATE,
    TILE_EDGE,
    WIDEN_CLK,
)
from perfmodel.roofline.model import (
    ALONE_S,
    CALLED_S,
    ClassModel,
    Parameter,
    Run,
    Terms,
    Values,
    launch_s,
    overlap,
    wave_count,
)
from perfmodel.roofline.power import REST_W, power_limited_rate
from perfmodel.workload import Array, Gemm, remembered

VECTOR_BYTES = 16.0
"""The widest access of a thread and the grain of bulk copies."""
ONE_TILE, FEW_ROWS, SMALL = 128.0, 16.0, 32_768.0
"""Columns, rows and elements of outputs whose inner dimension vector kernels always split."""
NEVER_S = np.float64(1e30)
ONE = np.ones(1)
ISSUE_LANES = np.float64(128.0)
"""Lanes that the four schedulers of a multiprocessor issue to in a cycle."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sizes:
    """Operands of a product with the menu's axis behind: sizes, widths of access, rates."""

    m: Array
    n: Array
    k: Array
    batch: Array
    narrow: Array
    """Wide accesses that one access becomes where rows are unaligned; 1 where they are not."""


def predict_product(w: Gemm, device: Device, values: Values, run: Run, menu: Menu) -> Terms:
    """``launch + min over menu of (max+(product, memory; unhidden) + split)``.

    product: ``max(waves (k / s step + store), FLOPs / power-limited rate)`` where, for a tile
    BM x BN on one unit of rate R, ``step = max(max+(2 BM BN / R, edge (BM a + BN b) / R), least)``
    seconds per step of k (a, b: operand bytes), and ``waves`` lies between ``CTAs / units`` and its
    ceiling by ``tail``. Classes with ``supply_bytes`` bring operands at so many bytes a cycle
    instead; vector units issue ``beside`` instructions with every multiply-add. Rows that are not
    16-byte aligned divide R and multiply supply and store.
    """
    cost = count(w)
    sizes = _sizes(w)
    odd = np.asarray(sizes.narrow)[..., 0] > 1.0
    traffic = np.asarray(_memory_s(cost, device, values))
    product = _product_s(w, sizes, cost, device, values, menu)
    split = _split_s(sizes, device, values, menu)
    whole = overlap(product, traffic[..., None], values["unhidden"]) + split
    best = np.asarray(np.argmin(whole, axis=-1))
    extra = np.where(odd, np.float64(values.get("odd_clk", 0.0)), 0.0)
    warm = values["fixed_clk"] * (1.0 - values["warm_start"]) if run.warm else 0.0
    clock = np.float64(device.compute.clock_vector_hz)
    start: Array = launch_s(device, values, run) + (extra - warm) / clock
    terms = {
        "launch": start,
        "product": _pick(product, best),
        "memory": traffic[()],
        "split": _pick(split, best),
    }
    time_s, called = start + _pick(whole, best), run.launch == "eager"
    return Terms(
        time_s=time_s,
        terms=terms,
        formula=f"launch + max+(product, memory; {values['unhidden']:.3g}) + split",
        details={
            "tile_rows": menu.rows[best],
            "tile_cols": menu.cols[best],
            "splits": menu.parts[best],
        },
        special=np.asarray(start >= 0.5 * time_s) if called else odd,
        regime="host" if called else "unaligned",
    )


def access_bytes(w: Gemm) -> Array:
    """The widest access that every row of operands and output is aligned to, at most 16 bytes.

    A product with a single row or column has no rows to step over: its vectors are contiguous.
    """
    assert w.weight_dtype is not None
    assert w.out_dtype is not None
    k, n = f64(w.k), f64(w.n)
    rows = (k * stored(w.dtype), k * stored(w.weight_dtype), n * stored(w.out_dtype))
    aligned = np.minimum(
        np.minimum(_power_of_two(rows[0]), _power_of_two(rows[1])), _power_of_two(rows[2])
    )
    vector = np.minimum(f64(w.m), n) == 1.0
    widest: Array = np.where(vector, VECTOR_BYTES, aligned)
    return widest


def _power_of_two(row_bytes: Array) -> Array:
    """The largest power of two up to 16 that divides ``row_bytes``; 1 for half bytes too."""
    found: Array = np.where(
        row_bytes % 16.0 == 0.0,
        16.0,
        np.where(
            row_bytes % 8.0 == 0.0,
            8.0,
            np.where(row_bytes % 4.0 == 0.0, 4.0, np.where(row_bytes % 2.0 == 0.0, 2.0, 1.0)),
        ),
    )
    return found


@remembered
def _sizes(w: Gemm) -> _Sizes:
    narrow = VECTOR_BYTES / np.asarray(access_bytes(w))
    m, n, k, batch = (np.asarray(f64(x))[..., None] for x in (w.m, w.n, w.k, w.batch))
    return _Sizes(m, n, k, batch, narrow[..., None] if bool(np.any(narrow > 1.0)) else ONE)


def _product_s(
    w: Gemm, at: _Sizes, cost: Cost, device: Device, values: Values, menu: Menu
) -> Array:
    """Seconds of arithmetic, operand supply and stores for every entry of the menu."""
    peak, rate = _rates(cost, device, values, menu)
    odd = at.narrow > 1.0
    burden = np.where(odd, 1.0 + np.float64(values.get("odd_supply", 0.0)) * at.narrow, 1.0)
    share = np.where(odd, np.float64(values.get("odd_rate", 1.0)), 1.0)
    step = _step_s(w, rate, burden, share, device, values, menu)
    assert w.out_dtype is not None
    clock = np.float64(device.compute.clock_vector_hz)
    outputs = np.where(menu.thin, 0.0, menu.rows * menu.cols * stored(w.out_dtype) / 2.0)
    store = np.float64(values["store_clk"]) / clock * outputs * burden
    units = np.float64(device.compute.units)
    tiles, steps, runs = _tiles(w, menu)
    tiled = wave_count(tiles / units, values["tail"]) * (steps * step + store)
    if "thin_rate" in values:
        chain = np.float64(values["step_clk"] / THIN) / clock * at.k
        spread = np.maximum(tiles / units * steps * step, chain)
        tiled = np.where(menu.thin, spread, tiled)
    powered = np.asarray(cost.flops_total)[..., None] / power_limited_rate(peak, device, values)
    product: Array = np.where(runs, np.maximum(tiled, powered), NEVER_S)
    return product


@remembered
def _tiles(w: Gemm, menu: Menu) -> tuple[Array, Array, NDArray[np.bool_]]:
    """For every entry of the menu: tiles, steps of each, and whether the entry takes the sizes."""
    at = _sizes(w)
    tiles = np.ceil(at.m / menu.rows) * np.ceil(at.n / menu.cols) * at.batch * menu.parts
    fits = np.where(menu.rows <= THIN, at.m <= menu.rows, at.n <= menu.cols)
    runs = np.where(menu.thin, fits, (menu.parts > 1.0) | ~(menu.splits_small & _small(at)))
    return tiles, np.ceil(at.k / menu.parts), runs


def _small(at: _Sizes) -> NDArray[np.bool_]:
    """Outputs that one column of tiles covers, more than a few rows of it."""
    outputs = at.m * at.n * at.batch
    few = (at.n <= ONE_TILE) & (at.m > FEW_ROWS) & (outputs <= SMALL)
    return np.asarray(few)


def _step_s(
    w: Gemm, rate: np.float64, burden: Array, share: Array, device: Device, values: Values,
    menu: Menu,
) -> Array:  # fmt: skip
    """Seconds of one unit per step of the inner dimension: product, supply, or latency."""
    assert w.weight_dtype is not None
    mma = 2.0 * menu.rows * menu.cols / (rate * share) + _widen_s(device, values) * menu.cols
    operands = menu.rows * stored(w.dtype) + menu.cols * stored(w.weight_dtype)
    thin = operands * 1e-9 / values["thin_rate"] if "thin_rate" in values else 0.0
    supply = np.where(menu.thin, thin, _supply_s(operands, rate, device, values))
    latency = np.float64(values["step_clk"]) / np.float64(device.compute.clock_vector_hz)
    least = np.where(menu.thin, 0.0, latency)
    step: Array = np.maximum(overlap(mma, supply * burden, values["unhidden"]), least)
    return step


def _supply_s(operand_bytes: Array, rate: np.float64, device: Device, values: Values) -> Array:
    """Seconds in which one unit gets the operands of a step.

    Where clusters of units share what they read, that keeps pace with the product (``tile_edge``);
    kernels of single warps read from the last-level cache, each unit for itself.
    """
    if "supply_rate" in values:
        flown: Array = operand_bytes * 1e-9 / np.float64(values["supply_rate"])
        return flown
    if "supply_bytes" not in values:
        paced: Array = np.float64(values["tile_edge"]) * operand_bytes / rate
        return paced
    port = np.float64(values["supply_bytes"]) * np.float64(device.compute.clock_vector_hz)
    seconds: Array = operand_bytes / port
    return seconds


def _split_s(at: _Sizes, device: Device, values: Values, menu: Menu) -> Array:
    """Cost of adding parts: a second pass, and writing and reading s fp32 outputs."""
    if not bool(np.any(menu.parts > 1.0)):
        return np.zeros(menu.parts.size)
    bandwidth = values["split_fraction"] * np.float64(device.memory.bandwidth_bytes_per_s)
    pass_s = np.float64(values["split_clk"]) / np.float64(device.compute.clock_vector_hz)
    moved = at.batch * at.m * at.n * (8.0 * menu.parts)
    split: Array = np.where((menu.parts > 1.0) & ~menu.thin, pass_s + moved / bandwidth, 0.0)
    return split


def _rates(cost: Cost, device: Device, values: Values, menu: Menu) -> tuple[np.float64, np.float64]:
    """The peak, and what one unit's inner loop reaches at the highest clock.

    A matrix unit's peak is rated at its own clock; short of the power limit it runs at the highest.
    Instructions of single warps reach a share of the peak where it takes warp groups. Vector units
    do products that the matrix unit has no rate for.
    """
    ((unit, dtype, acc),) = cost.flops
    compute = device.compute
    peak = np.float64(compute.peak(unit, dtype, acc))
    share = np.float64(values["tensor_fraction"])
    if any(u == "tensor" and d == dtype and acc in (None, a) for u, d, a in compute.peaks):
        share = share * np.float64(compute.clock_vector_hz / compute.clock_tensor_hz)
        share = share * np.float64(compute.warp_share if menu.single_warps else 1.0)
    else:
        share = share / _issue(peak, device, values)
    return peak, peak * share / np.float64(compute.units)


def _issue(peak: np.float64, device: Device, values: Values) -> np.float64:
    """By what instructions beside multiply-adds slow these down: not at all where a warp's takes
    its scheduler two cycles, all of them where it takes one."""
    compute = device.compute
    lanes = peak / np.float64(2.0 * compute.units * compute.clock_vector_hz)
    slots = (1.0 + np.float64(values.get("beside", 0.0))) * lanes / ISSUE_LANES
    return np.float64(np.maximum(slots, 1.0))


def _widen_s(device: Device, values: Values) -> np.float64:
    """Seconds of one unit per narrow weight; 0 for classes that do not widen."""
    clk = np.float64(values.get("widen_clk", 0.0))
    return clk / np.float64(device.compute.clock_tensor_hz)


def _memory_s(cost: Cost, device: Device, values: Values) -> Array:
    """Seconds of main memory: reads at the streaming share, writes dearer by ``write_cost``."""
    peak = np.float64(device.memory.bandwidth_bytes_per_s)
    moved = cost.read_bytes + np.float64(values["write_cost"]) * cost.write_bytes
    seconds: Array = moved / (np.float64(values["dram_fraction"]) * peak)
    return seconds


def _pick(menu: Array, best: NDArray[np.intp]) -> Array:
    """The entries of the trailing axis that ``best`` names."""
    whole = np.broadcast_to(menu, (*best.shape, np.shape(menu)[-1]))
    chosen: Array = whole[(*np.indices(best.shape, sparse=True), best)][()]
    return chosen


def _model(name: str, entries: Menu, *parameters: Parameter) -> ClassModel:
    predict = partial(predict_product, menu=entries)
    return ClassModel(name=name, parameters=(*COMMON, *parameters), predict=predict)


def _with(model: ClassModel, **changes: dict[str, float]) -> ClassModel:
    """``model`` with other starts, bounds or prior widths of some parameters."""
    changed = (replace(p, **changes.get(p.name, {})) for p in model.parameters)  # type: ignore[arg-type]  # floats all
    return replace(model, parameters=tuple(changed))


GEMM = _model("gemm", TENSOR_MENU, TILE_EDGE, *SPLIT, ODD_CLK, ODD_RATE, ODD_SUPPLY)
GEMM_NARROW = _model("gemm_narrow", TENSOR_MENU, TILE_EDGE, *SPLIT)
GEMM_INT8 = _with(
    _model("gemm_int8", INTEGER_MENU, SUPPLY_BYTES, ALONE_S), energy_pj_per_flop={"start": 1.0}
)
"""Half a 16-bit product's energy: half the bytes toggle. Tiles are written for single warps,
without the clusters that share operands, so the last-level cache's port decides: 5120 bytes a cycle
over 108 to 132 units, of which streams reach three quarters."""
GEMM_FP32 = _with(
    _model(
        "gemm_fp32", VECTOR_MENU, *SPLIT, ODD_CLK, BESIDE, SUPPLY_RATE, THIN_RATE, REST_W, CALLED_S
    ),
    energy_pj_per_flop={"start": 16.0, "prior": 0.1},
    power_exponent={"start": 0.5, "prior": 0.1},
    process_exponent={"start": 0.6, "prior": 0.15},
    store_clk={"start": 0.14, "prior": 0.15},
    tensor_fraction={"start": 0.95, "prior": 0.03},
    unhidden={"start": 0.05, "prior": 0.5},
    tail={"prior": 0.3},
    step_clk={"prior": 0.2},
    split_clk={"start": 10_000.0, "prior": 0.3},
)
"""On vector units an FLOP costs what fetching and scheduling its instruction costs, about ten times
a matrix unit's: loops of multiply-adds alone draw 10 pJ/FLOP in 7 nm (A100), 13 in 8 nm (A40) and 7
in 5 nm (L40, gpu-benches), products half as much again. What a small board has left falls further
than its power; clocks follow the square root of what is left (voltage falls with them), between the
cube law and the lowest voltage. Two stages of eight steps of a 128 x 32 tile, 10 KB, are on their
way for some 600 ns of a loaded memory (310 to 405 ns at rest from Volta to Hopper): 17 bytes a
nanosecond; simple read kernels get 21 to 29 on an H200 (gpu-benches). A tile costs a fill of its
stages and a drain of 64 KB at half the cache's port: 5000 cycles beyond its loop. cuBLAS 13 splits
small outputs of one column of tiles, two and more kernels of 2 to 9 microseconds where their work
takes less (its kernels' names on an H200). Hand-written loops reach 98 % of a
Maxwell's peak (Gray, maxas, 2014); where one warp's multiply-add takes its scheduler one cycle, a
loop of nothing else reaches 86 % (registers' banks) and the loads of an 8 x 8 tile take another
tenth. Few rows measure single terms, so priors are tighter than a matrix unit's."""
GEMM_WEIGHT_ONLY = _model("gemm_weight_only", TENSOR_MENU, TILE_EDGE, *SPLIT, WIDEN_CLK, ALONE_S)
