"""This repository's int8 products: laws of one tile's schedule, not figures of a fit."""

from __future__ import annotations

import pytest

from perfmodel.hw.load import load_device
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.model import Run
from perfmodel.workload import Gemm

H200 = load_device("h200-sxm")
WIDE = CLASS_MODELS["gemm_own_wide"]


def tiles_s(**sizes):
    """Seconds of the tiles, parameters at their starts."""
    w = Gemm(**{"m": 128, "n": 256, "k": 4096} | sizes, dtype="int8")
    return WIDE.predict(w, H200, WIDE.start, Run()).terms["tiles"]


def test_a_rung_takes_whole_turns_of_its_one_tile():
    """One tile more than multiprocessors is a second turn."""
    units = H200.compute.units
    assert tiles_s(n=256 * (units + 1)) == pytest.approx(2.0 * tiles_s(n=256 * units))
    assert tiles_s(n=256 * units) == tiles_s()


def test_every_turn_starts_and_ends():
    """Half the steps take half the time but for the ends."""
    ends = WIDE.start["tile_clk"] / H200.compute.clock_vector_hz
    assert 2.0 * tiles_s(k=2048) - tiles_s() == pytest.approx(ends)


def test_few_rows_read_weights_in_whole_turns():
    """Pairs of blocks: a tile more than pairs is a second turn at main memory's pace; rows of
    activations cost the same each."""
    rows = CLASS_MODELS["gemm_own_rows"]

    def terms(m, n):
        w = Gemm(m=m, n=n, k=4096, dtype="int8")
        return rows.predict(w, H200, rows.start, Run()).terms

    pairs = H200.compute.units // 2
    one, more, two = (terms(1, 64 * tiles)["memory"] for tiles in (pairs, pairs + 1, 2 * pairs))
    assert more == pytest.approx(two, rel=0.01)
    assert two == pytest.approx(2.0 * one, rel=0.01)
    assert terms(64, 4096)["rows"] == 64.0 * terms(1, 4096)["rows"]
