"""This repository's attention: laws of its schedule, not figures of a fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.hw.load import load_device
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.model import Run
from perfmodel.workload import Attention

H200 = load_device("h200-sxm")
UNITS = H200.compute.units
PREFILL, SIGMOID, DECODE = (
    CLASS_MODELS[f"attention_own_{kind}"] for kind in ("prefill", "sigmoid", "decode")
)


def prompt(**changes):
    """One head whose queries make one tile."""
    shape = {"batch": 1, "q_len": 128, "kv_len": 4096, "heads": 1, "head_dim": 128}
    return Attention(**shape | {"causal": False} | changes)


def tiles_s(w, model=PREFILL, **values):
    """Seconds of the tiles, parameters at their starts but for ``values``."""
    return model.predict(w, H200, model.start | values, Run()).terms["tiles"]


def test_whole_turns_without_a_mask():
    """One tile more than multiprocessors takes twice as long, if power allows all the same."""
    full, more = (tiles_s(prompt(heads=n), tensor_fraction=1.0) for n in (UNITS, UNITS + 1))
    assert more == pytest.approx(2.0 * full)


def test_a_mask_lets_all_end_together():
    """Long tiles first: one head more costs its share and, at the end, no more than its shortest
    tile; a turn of its own would cost the longest.
    """
    w = prompt(heads=UNITS, q_len=4096, causal=True)
    one_more = replace(w, heads=UNITS + 1, kv_heads=UNITS + 1)
    share, added = tiles_s(w) / UNITS, tiles_s(one_more) - tiles_s(w)
    shortest, longest = (tiles_s(prompt(heads=UNITS, kv_len=n)) for n in (128, 4096))
    assert share < added < share + shortest < longest


def test_power_leaves_more_to_each_where_some_are_idle():
    """Half of the multiprocessors multiply faster than all of them, the same tile each."""

    def product_s(heads, tensor_fraction):
        w = prompt(heads=heads)
        return tiles_s(w, tensor_fraction=tensor_fraction, exp_unhidden=0.0, prologue_clk=0.0)

    assert product_s(UNITS // 2, 0.6) == product_s(UNITS // 2, 1.0)
    assert product_s(UNITS, 0.6) == pytest.approx(product_s(UNITS, 1.0) / 0.6)


@given(kv_len=st.integers(128, 30_000), shorter=st.integers(1, 127))
def test_more_keys_never_take_less(kv_len, shorter):
    """Where the tile stays the same: below the width from which it grows."""
    w, less = (prompt(kv_len=n, head_dim=64, v_head_dim=64) for n in (kv_len, kv_len - shorter))
    assert tiles_s(w) >= tiles_s(less)


def test_weights_of_any_size_take_more_special_functions():
    """A sigmoid's bias at 400 and 416 keys: 1.5 of them a score, and one."""
    general, small = (
        tiles_s(prompt(kv_len=n, score="sigmoid"), SIGMOID, tensor_fraction=1.0, prologue_clk=0.0)
        for n in (400, 416)
    )
    assert small < general


def test_shares_of_decoding():
    """Bytes are widened, a second strip of rows costs as much as the first, rows are joined."""

    def keys(name="keys", **changes):
        shape = {"batch": 8, "q_len": 1, "kv_len": 8192, "heads": 32, "kv_heads": 8}
        w = Attention(**shape | {"head_dim": 128} | changes)
        return DECODE.predict(w, H200, DECODE.start, Run()).terms[name]

    assert keys(kv_dtype="fp8") > keys()
    assert keys(q_len=8) == pytest.approx(2.0 * keys())
    assert keys("join", q_len=4) == pytest.approx(4.0 * keys("join"))
