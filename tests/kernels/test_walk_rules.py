"""The model cuts sequences as the launchers do: the same segments, blocks and preparers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.hw.load import load_device
from perfmodel.roofline.classes import CLASS_MODELS, scans
from perfmodel.roofline.classes import walks as rules
from perfmodel.roofline.model import Run
from perfmodel.workload import DeltaRule, LinearAttention, SelectiveScan, Ssd
from refkernels._matrix_state import CHUNK
from refkernels.delta_rule import device as delta
from refkernels.gla import device as gla
from refkernels.selective_scan import device as scan

H200 = load_device("h200-sxm")
UNITS = H200.compute.units
lengths, few = st.integers(1, 40_000), st.integers(1, 24)
gated = st.builds(
    LinearAttention,
    batch=few,
    seq_len=lengths,
    heads=few,
    key_dim=st.sampled_from([64, 128]),
    value_dim=st.sampled_from([64, 128, 192, 256]),
    gate=st.sampled_from(["vector", "scalar", "none"]),
)


@st.composite
def duals(draw):
    """SSD with heads in whole groups."""
    groups = draw(st.integers(1, 4))
    return Ssd(
        batch=draw(few), seq_len=draw(lengths), heads=groups * draw(st.integers(1, 12)),
        head_dim=draw(st.sampled_from([64, 128])), state=draw(st.sampled_from([64, 128])),
        groups=groups,
    )  # fmt: skip


def sequence(w):
    """Arrays of the shapes that the launcher would see."""
    dual = isinstance(w, Ssd)
    keys, width = (w.state, w.head_dim) if dual else (w.key_dim, w.value_dim)
    key_heads = w.groups if dual else w.heads
    return SimpleNamespace(
        q=SimpleNamespace(shape=(w.batch, w.seq_len, key_heads, keys)),
        v=SimpleNamespace(shape=(w.batch, w.seq_len, w.heads, width)),
        a=object() if dual else None,
        vector=not dual and w.gate == "vector",
    )


@given(w=st.one_of(gated, duals()))
def test_segments_on_warp_groups(w):
    """hopper_blocks and hopper_segment."""
    x, found = sequence(w), rules.hopper(w, H200)
    _, columns, others = gla.hopper_blocks(x)
    assert found.blocks == columns * others
    assert found.tokens == gla.hopper_segment(x, UNITS)
    assert found.segments == -(-w.seq_len // gla.hopper_segment(x, UNITS))
    shared = found.segments == 1 and not x.vector
    assert bool(found.even) == shared
    first = x.vector and found.segments > 1
    assert bool(found.apart) == (first or gla.shares_scores(x))


@given(w=st.one_of(gated, duals()))
def test_segments_on_single_warps(w):
    """blocks and segment_tokens; without segments the whole of a sequence."""
    x, found, whole = sequence(w), rules.segments(w, H200), rules.whole(w, H200)
    assert found.blocks == whole.blocks == np.prod(gla.blocks(x))
    assert found.tokens == gla.segment_tokens(x, UNITS)
    assert whole.segments == 1
    assert whole.tokens == -(-w.seq_len // CHUNK) * CHUNK
    assert found.places == gla.BLOCKS_PER_SM * UNITS


@given(batch=few, heads=few, width=st.sampled_from([64, 128, 256]))
def test_chunks_are_prepared_beside_walks_where_multiprocessors_are_left(batch, heads, width):
    """walks and preparers: in one launch the longer of the two counts, behind the first chunks'
    preparation; else they add up."""
    w = DeltaRule(batch=batch, seq_len=8192, key_heads=heads, key_dim=128, value_dim=width)
    x = SimpleNamespace(v=SimpleNamespace(shape=(batch, 8192, heads, width)))
    left = UNITS - delta.walks(x)
    model = CLASS_MODELS["recurrent_own_beside"]
    start = model.start | {"unhidden": 0.0, "chunk_clk": 0.0, "wave_clk": 0.0}
    spent, spared = (
        model.predict(w, H200, start | more, Run()).terms["chunks"]
        for more in ({}, {"prepare_clk": 0.0})
    )
    jobs = -(-8192 // CHUNK) * batch * heads
    among = left if left >= delta.LEAST_PREPARERS else UNITS
    turns = jobs / among + (rules.WORKERS if among == left else 0.0)
    expected = turns * model.start["prepare_clk"] / H200.compute.clock_vector_hz
    assert spent - spared == pytest.approx(expected)


@st.composite
def scanned(draw):
    """Scans with channels in whole groups."""
    groups = draw(st.integers(1, 4))
    return SelectiveScan(
        batch=draw(few), seq_len=draw(lengths), channels=groups * draw(st.integers(1, 3000)),
        state=draw(st.sampled_from([8, 16, 32, 64])), groups=groups,
        dtype=draw(st.sampled_from(["bf16", "fp16", "fp32"])),
    )  # fmt: skip


@given(w=scanned())
def test_turns_and_segments_of_scans(w):
    """turns_of_warps, warps_of_block and segment_tokens for units; lanes_per_channel in fp32."""
    found, group = scans.layout(w, H200), w.channels // w.groups
    if w.dtype == "fp32":
        lanes = scan.lanes_per_channel(w.batch, w.channels, w.state, w.dtype, UNITS)
        turns, threads = 1, w.batch * w.channels * lanes
        blocks = w.batch * w.groups * -(-group // (scan.THREADS // lanes))
    else:
        across = -(-group // scan.unit_channels(w.state))
        units = w.batch * w.groups * across
        turns = scan.turns_of_warps(units, w.state, UNITS)
        threads = units * turns * scan.BUSY_THREADS // scan.BUSY_WARPS
        tokens = scan.segment_tokens(threads, w.seq_len, UNITS)
        cut = -(-w.seq_len // tokens)
        warps = scan.warps_of_block(units * cut, turns, UNITS)
        blocks = w.batch * w.groups * -(-across // (warps // turns))
    tokens = scan.segment_tokens(threads, w.seq_len, UNITS)
    assert found.turns == turns
    assert found.tokens == tokens
    assert found.segments == -(-w.seq_len // tokens)
    assert found.blocks == blocks
    assert found.uneven >= 1 - 1e-9


def test_scans_with_more_states_take_longer():
    """So do longer ones, and fewer channels do not take less time per channel."""
    model = scans.SCAN

    def time(channels=4096, states=16, tokens=8192):
        w = SelectiveScan(batch=1, seq_len=tokens, channels=channels, state=states, dtype="bf16")
        return model.predict(w, H200, model.start, Run()).time_s

    assert time(states=64) > time(states=32) > time() > time(tokens=4096)
    assert time(channels=256) / 256 >= time() / 4096


@given(w=gated.filter(lambda w: w.seq_len >= 64), longer=st.integers(1, 8))
def test_more_chunks_never_take_less(w, longer):
    """In one piece, a longer sequence walks more chunks."""
    more = replace(w, seq_len=w.seq_len * longer)
    model = CLASS_MODELS["recurrent_own_whole"]
    one, other = (model.predict(x, H200, model.start, Run()).time_s for x in (w, more))
    assert other >= one


def test_gates_of_every_key_dimension_cost_more():
    """And states of half the width less."""
    model = CLASS_MODELS["recurrent_own_hopper"]

    def time(gate="vector", width=128):
        w = LinearAttention(
            batch=1, seq_len=8192, heads=16, key_dim=128, value_dim=width, gate=gate
        )
        return model.predict(w, H200, model.start, Run()).time_s

    assert time() > time("scalar") >= time("none")
    assert time(width=64) < time()
