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
from perfmodel.roofline.traffic import CACHE_FRACTION, CACHE_SHARE, memory_s
from perfmodel.workload import Gemm


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
    launch = launch_s(device, values, run)
    return Terms(
        time_s=launch + overlap(walk, memory, values["unhidden"]),
        terms={"launch": launch, "tiles": walk, "memory": memory},
        formula=f"launch + max+(tiles, memory; {values['unhidden']:.3g})",
        details={"tile_rows": rows, "tile_cols": cols, "turns": turns},
    )


def _rung(name: str, rows: float, cols: float) -> ClassModel:
    parameters = (
        replace(FIXED_CLK, prior=0.3),
        EAGER_S,
        replace(DRAM_FRACTION, prior=0.1),
        replace(TENSOR_FRACTION, low=0.02, start=0.6, prior=0.7),
        replace(UNHIDDEN, prior=1.0),
        CACHE_SHARE,
        CACHE_FRACTION,
        Parameter(
            name="tile_clk",
            unit="cycles",
            low=0.0,
            high=60_000.0,
            start=8_000.0,
            meaning="first loads and stores of a tile that no product hides",
            prior=0.7,
        ),
    )
    predict = partial(predict_tiles, rows=np.float64(rows), cols=np.float64(cols))
    return ClassModel(name=name, parameters=parameters, predict=predict)


GEMM_SQUARE = _rung("gemm_own_square", 128.0, 128.0)
"""Rung 3."""
GEMM_WIDE = _rung("gemm_own_wide", 128.0, 256.0)
"""Rungs 2, 4 and 5."""
