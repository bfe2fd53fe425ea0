"""Chunked prefills of this repository: turns of blocks over the multiprocessors."""

from __future__ import annotations

from perfmodel.hw.load import load_device
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.model import Run
from perfmodel.workload import LinearAttention

H200 = load_device("h200-sxm")
UNITS = H200.compute.units
WHOLE = CLASS_MODELS["recurrent_own_whole"]


def turns(heads, crowd=0.25):
    """Times of a block that has a multiprocessor for itself, sequences in one piece."""
    w = LinearAttention(batch=1, seq_len=4096, heads=heads, key_dim=128, value_dim=128)
    values = WHOLE.start | {"crowd": crowd, "wave_clk": 0.0}
    return WHOLE.predict(w, H200, values, Run()).details["waves"]


def test_a_second_block_on_a_multiprocessor_adds_its_share():
    """As many blocks as multiprocessors, twice as many, one more than that."""
    assert (turns(UNITS), turns(2 * UNITS), turns(2 * UNITS + 1)) == (1.0, 1.25, 2.25)


def test_blocks_that_share_nothing_take_turns():
    """Where a second block adds all of its own time, it might as well come after."""
    assert turns(2 * UNITS, crowd=1.0) == 2.0 * turns(UNITS)
