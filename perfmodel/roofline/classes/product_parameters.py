"""Parameters of matrix products: what every class has, and what some add."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.roofline.model import (
    DRAM_FRACTION,
    EAGER_S,
    FIXED_CLK,
    TENSOR_FRACTION,
    UNHIDDEN,
    Parameter,
)
from perfmodel.roofline.power import ENERGY_PJ, POWER_EXPONENT, PROCESS_EXPONENT

TILE_EDGE = Parameter(
    name="tile_edge",
    unit="elements",
    low=0.0,
    high=256.0,
    start=48.0,
    meaning="tile edge at which bringing operands to a unit costs as much as the product, 2-byte "
    "operands",
    prior=0.7,
)
SUPPLY_BYTES = Parameter(
    name="supply_bytes",
    unit="B",
    low=1.0,
    high=128.0,
    start=30.0,
    meaning="bytes of operands that reach a unit in a cycle where each unit reads for itself",
    prior=0.3,
)
WARM_START = Parameter(
    name="warm_start",
    unit="1",
    low=0.5,
    high=1.0,
    start=0.85,
    meaning="share of a kernel's fixed cycles that remains where operands rest in the last-level "
    "cache: a trip of some 600 cycles to main memory and one of the result are spared",
    prior=0.1,
)
SUPPLY_RATE = Parameter(
    name="supply_rate",
    unit="B/ns",
    low=2.0,
    high=200.0,
    start=17.0,
    meaning="bytes of operands that reach a unit in a nanosecond: what is in flight over the time "
    "that memory takes, which no clock of the unit's shortens",
    prior=0.15,
)
THIN_RATE = Parameter(
    name="thin_rate",
    unit="B/ns",
    low=2.0,
    high=200.0,
    start=25.0,
    meaning="the same in matrix-vector kernels, which hold few loads in flight",
    prior=0.15,
)
BESIDE = Parameter(
    name="beside",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.3,
    meaning="instructions issued beside each multiply-add of a vector unit: loads, addresses",
    prior=0.2,
)
TAIL = Parameter(
    name="tail",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.6,
    meaning="share of full wave quantisation that survives smaller tiles and stream-K",
    prior=0.5,
)
STEP_CLK = Parameter(
    name="step_clk",
    unit="cycles",
    low=0.0,
    high=30.0,
    start=4.0,
    meaning="least cycles per step of the inner dimension: latency of the operands in flight",
    prior=0.4,
)
STORE_CLK = Parameter(
    name="store_clk",
    unit="cycles",
    low=0.0,
    high=4.0,
    start=0.1,
    meaning="cycles of one unit to round and store 2 bytes of the output",
    prior=0.7,
)
WRITE_COST = Parameter(
    name="write_cost",
    unit="1",
    low=0.5,
    high=3.0,
    start=1.2,
    meaning="main-memory time of a written byte over that of a read one",
    prior=0.2,
)
SPLIT_CLK = Parameter(
    name="split_clk",
    unit="cycles",
    low=0.0,
    high=20_000.0,
    start=5_000.0,
    meaning="second pass that adds the parts of a split inner dimension",
    prior=0.7,
)
SPLIT_FRACTION = Parameter(
    name="split_fraction",
    unit="1",
    low=0.1,
    high=4.0,
    start=1.0,
    meaning="bandwidth at which parts of a split are exchanged, in units of main memory's",
    prior=0.7,
)
ODD_CLK = Parameter(
    name="odd_clk",
    unit="cycles",
    low=0.0,
    high=20_000.0,
    start=1_000.0,
    meaning="extra fixed cost of a kernel whose rows are not 16-byte aligned",
    prior=0.7,
)
ODD_RATE = Parameter(
    name="odd_rate",
    unit="1",
    low=0.1,
    high=1.0,
    start=0.6,
    meaning="share of the inner loop's rate that kernels for unaligned rows reach (instructions of "
    "single warps instead of warp groups)",
    prior=0.3,
)
ODD_SUPPLY = Parameter(
    name="odd_supply",
    unit="1",
    low=0.0,
    high=30.0,
    start=1.0,
    meaning="unaligned rows: extra supply and store time for each narrow access over a wide one "
    "(1: every byte passes the registers once more)",
    prior=0.5,
)
WIDEN_CLK = Parameter(
    name="widen_clk",
    unit="cycles",
    low=0.0,
    high=1.0,
    start=0.02,
    meaning="cycles of one unit to widen one narrow weight",
)

COMMON = (
    replace(FIXED_CLK, prior=0.2),
    EAGER_S,
    replace(DRAM_FRACTION, prior=0.1),
    replace(TENSOR_FRACTION, prior=0.1),
    replace(ENERGY_PJ, start=2.0, prior=0.4),
    replace(POWER_EXPONENT, start=0.33, prior=0.4),
    PROCESS_EXPONENT,
    replace(UNHIDDEN, prior=1.0),
    TAIL,
    STEP_CLK,
    STORE_CLK,
    WRITE_COST,
    WARM_START,
)
SPLIT = (SPLIT_CLK, SPLIT_FRACTION)
