"""This repository's int8 products: one tile, as each rung's source states it (cuda/int8_gemm).

Where a library chooses among tiles, a rung has one: its time is turns of tiles over the
multiprocessors, each the steps of its inner dimension and a start and an end that a schedule of one
tile per thread block hides behind nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops import count
from perfmodel.ops.numbers import ceil_div, f64
from perfmodel.roofline.model import (
    OWN,
    TENSOR_FRACTION,
    UNHIDDEN,
    ClassModel,
    Run,
    Terms,
    Values,
    beside_memory,
    cycles,
    launch_s,
)
from perfmodel.roofline.traffic import CACHE, memory_s
from perfmodel.workload import Gemm

WEIGHT_ROWS = np.float64(64.0)
"""Rows of weights of a tile where activations are few."""


def predict_tiles(
    w: Gemm, device: Device, values: Values, run: Run, *, rows: np.float64, cols: np.float64
) -> Terms:
    """``launch + max+(tiles, memory; unhidden)``.

    ``tiles = turns (2 rows cols k / R + tile_clk)``: whole turns of ``rows x cols`` tiles over the
    multiprocessors, whose inner loops reach ``tensor_fraction`` of the peak, R of one of them.
    """
    cost, units = count(w), np.float64(device.compute.units)
    ((unit, dtype, acc),) = cost.flops
    peak = np.float64(device.compute.peak(unit, dtype, acc)) / units
    tiles = ceil_div(w.m, rows) * ceil_div(w.n, cols) * f64(w.batch)
    turns = ceil_div(tiles, units)
    steps = 2.0 * rows * cols * f64(w.k) / (peak * np.float64(values["tensor_fraction"]))
    ends = np.float64(values["tile_clk"]) / np.float64(device.compute.clock_vector_hz)
    walk = turns * (steps + ends)
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    return beside_memory(
        launch_s(device, values, run), "tiles", walk, memory, values["unhidden"],
        tile_rows=rows, tile_cols=cols, turns=turns,
    )  # fmt: skip


def predict_rows(w: Gemm, device: Device, values: Values, run: Run) -> Terms:
    """``launch + memory + rows``.

    Weights stream through pairs of thread blocks, a tile of :data:`WEIGHT_ROWS` to a pair: whole
    turns of them, each at its share of main memory. What a row of activations costs is added.
    """
    cost = count(w)
    pairs = np.maximum(np.floor(np.float64(device.compute.units) / 2.0), 1.0)
    tiles = ceil_div(w.n, WEIGHT_ROWS) * f64(w.batch)
    uneven = ceil_div(tiles, pairs) * pairs / tiles
    memory = memory_s(cost.bytes_total, cost.bytes_total, device, values, run)
    streamed = memory * np.where(tiles > pairs, uneven, 1.0)
    rows = f64(w.m) * np.float64(values["row_clk"]) / np.float64(device.compute.clock_vector_hz)
    launch = launch_s(device, values, run)
    return Terms(
        time_s=launch + streamed + rows,
        terms={"launch": launch, "memory": streamed, "rows": rows},
        formula="launch + memory + rows",
        details={"turns": ceil_div(tiles, pairs)},
    )


_COMMON = (
    *OWN,
    *CACHE,
)


def _rung(name: str, rows: float, cols: float) -> ClassModel:
    parameters = (
        *_COMMON,
        replace(TENSOR_FRACTION, low=0.02, start=0.6, prior=0.7),
        replace(UNHIDDEN, prior=1.0),
        cycles(
            "tile_clk", 60_000.0, 8_000.0, "first loads and stores of a tile that no product hides"
        ),
    )
    predict = partial(predict_tiles, rows=np.float64(rows), cols=np.float64(cols))
    return ClassModel(name=name, parameters=parameters, predict=predict)


GEMM_LANES = _rung("gemm_own_lanes", 128.0, 128.0)
"""Rung 1, without the matrix unit, of whose peak it reaches a share all the same."""
GEMM_WARPS = _rung("gemm_own_warps", 128.0, 256.0)
"""Rung 2, on instructions of single warps."""
GEMM_SQUARE = _rung("gemm_own_square", 128.0, 128.0)
"""Rung 3, from here on of warp groups."""
GEMM_WIDE = _rung("gemm_own_wide", 128.0, 256.0)
"""Rung 4."""
GEMM_PAIRED = _rung("gemm_own_paired", 128.0, 256.0)
"""Rung 5, whose blocks stay and share operands in pairs, and what quantises before it."""
GEMM_ROWS = ClassModel(
    name="gemm_own_rows",
    parameters=(
        *_COMMON,
        cycles(
            "row_clk",
            1_000.0,
            50.0,
            "bringing one row of activations to every multiprocessor, and its sums back",
        ),
    ),
    predict=predict_rows,
)
"""Rung 6: few rows, weights read once."""
