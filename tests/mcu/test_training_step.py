"""Training steps on a cluster: tiles, products, memory."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.errors import BadValue, MissingFigure
from perfmodel.hw.load import load_device
from perfmodel.hw.memory import Memory
from perfmodel.mcu.networks import built_in
from perfmodel.mcu.tiling import best_tile
from perfmodel.mcu.training import memory_bytes, training_step


def test_macs_of_a_step():
    """Forward and weights' gradient take every multiply-add, the input's gradient all but the
    first layer's: ResNet8 3 x 12,501,632 - 442,368, DS-CNN 3 x 2,656,768 - 320,000.
    """
    board = load_device("gap9")

    assert training_step("resnet8", board).facts["macs"] == 3 * 12_501_632 - 442_368
    assert training_step("ds-cnn", board).facts["macs"] == 3 * 2_656_768 - 320_000


def test_half_precision_halves():
    """fp16 SIMD: twice the multiply-adds per cycle in products at best, half the memory."""
    full, half = (training_step("resnet8", load_device("gap9"), d) for d in ("fp32", "fp16"))

    assert half.facts["memory_bytes"] == full.facts["memory_bytes"] / 2
    assert 1.5 < float(full.time_s / half.time_s) < 2.0


@pytest.mark.parametrize(("network", "published_s"), [("resnet8", 17.1e-3), ("ds-cnn", 6.4e-3)])
@pytest.mark.parametrize("board", ["gap9", "vega"])
def test_published_step_lies_inside(network, published_s, board):
    """17.1 ms and 6.4 ms per step in reduced precision on an 8+1-core chip (Nadalini et al. 2023)
    lie inside the interval."""
    found = training_step(network, load_device(board), "fp16")

    assert found.low_s < published_s < found.high_s
    assert found.source == "analytic"


def test_memory_by_hand():
    """AutoEncoder in fp32: 264,192 weights and 1,672 biases, and as many gradients; the inputs of
    ten layers (640 + 8 x 128 + 8), and the two largest gradients (640 + 128).
    """
    biases = 8 * 128 + 8 + 640
    held = memory_bytes(built_in("autoencoder"), "fp32")

    assert held["weights"] == held["weight gradients"] == 4 * (264_192 + biases)
    assert held["activations"] == 4 * (640 + 8 * 128 + 8)
    assert held["activation gradients"] == 4 * (640 + 128)


def test_product_that_fits_moves_once():
    """16 x 16 x 16 in fp32 fits: each operand moves once, the result once."""
    tile = best_tile(16, 16, 16, 4.0, 64 * 1024.0)

    assert (tile.m, tile.n, tile.k, tile.tiles) == (16, 16, 16, 1)
    assert tile.moved_bytes == 4 * 3 * 256


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 600), n=st.integers(1, 600), k=st.integers(1, 600),
       l1=st.sampled_from([2048.0, 16384.0, 131072.0]))  # fmt: skip
def test_tiles_fit_and_more_memory_moves_less(m, n, k, l1):
    """Twice the tile fits; all data move at least once; more memory never moves more."""
    tile = best_tile(m, n, k, 4.0, l1)

    assert tile.held_bytes <= l1
    assert tile.moved_bytes >= 4 * (m * k + k * n + m * n)
    assert best_tile(m, n, k, 4.0, 2 * l1).moved_bytes <= tile.moved_bytes


def test_refusals():
    """A core alone, integers, and a cluster without first-level memory."""
    with pytest.raises(BadValue, match="cluster"):
        training_step("resnet8", load_device("stm32l4r5"))
    with pytest.raises(BadValue, match="floating"):
        training_step("resnet8", load_device("gap9"), "int8")
    board = load_device("gap9")
    flat = dataclasses.replace(board, memory=Memory(levels=board.memory.levels[-1:]))
    with pytest.raises(MissingFigure, match="first-level"):
        training_step("resnet8", flat)
