"""The Hopper rung of linear attention and SSD, run on the host against the float64 oracles.

The emulator runs its TMA, mbarriers and wgmma as late as they may happen; the launches are the
launcher's own.
"""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.workload import LinearAttention, Ssd
from refkernels._check import generator, random_normal
from refkernels._matrix_state import empty_outputs
from refkernels.gla import device
from refkernels.gla import problem as gla
from refkernels.ssd import problem as ssd

from . import emulator

RUNG = "04_wgmma"


@pytest.fixture
def on_hopper(monkeypatch):
    """Segments short enough for a test."""
    emulator.install(monkeypatch)
    monkeypatch.setattr(device, "SEGMENT_TOKENS", 64)


def arrays(batch, length, heads, dk, dv, kind, gate):
    w = LinearAttention(
        batch=batch, seq_len=length, heads=heads, key_dim=dk, value_dim=dv, gate=kind
    )
    return gla.random_arrays(generator(length + dk), w, gate=gate)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((2, 65, 2, 64, 64), "scalar"),
        ((1, 300, 1, 128, 256), "scalar"),
        ((1, 63, 1, 128, 128), "none"),
        ((2, 65, 2, 64, 64), "vector"),
        ((1, 300, 1, 128, 128), "vector"),
        ((1, 130, 1, 64, 192), "vector"),
    ],
)
@pytest.mark.parametrize("strength", [0.05, 1.0, 20.0])
def test_chunks(on_hopper, shape, kind, strength):
    """From nearly no decay to e^-16 a step, from an initial state, lengths beside a chunk's."""
    batch, _, heads, dk, dv = shape
    initial = random_normal(generator(1), (batch, heads, dk, dv))

    gate = gla.gate_gla(arrays(*shape, kind, strength), RUNG, initial=initial, segment=320)

    assert gate.passed, gate


@pytest.mark.parametrize("kind", ["scalar", "vector"])
@pytest.mark.parametrize("dims", [(64, 64), (128, 128)])
def test_segments(on_hopper, kind, dims):
    """Segments of one and two chunks: the carried states are the walked ones."""
    drawn = arrays(1, 193, 1, *dims, kind, 0.2)
    initial = random_normal(generator(1), (1, 1, *dims))

    for segment in (64, 128):
        gate = gla.gate_gla(drawn, RUNG, initial=initial, segment=segment)
        assert gate.passed, gate


def test_segments_launched_again(on_hopper):
    """What blocks tell each other is counted from launch to launch: the bits stay the same."""
    x = device.bind(**arrays(1, 193, 2, 64, 64, "scalar", 0.2))
    out, final = empty_outputs(x)
    plan = device.prepare(x, out, final=final, rung=RUNG, segment=64)
    seen = []

    for _ in range(3):
        out[...], final[...] = 0x7FC0, np.nan
        plan()
        seen.append((out.copy(), final.copy()))

    assert not np.isnan(seen[0][1]).any()
    for later in seen[1:]:
        assert all((a == b).all() for a, b in zip(seen[0], later, strict=True))


@pytest.mark.parametrize(
    ("heads", "groups", "states", "length"),
    [(4, 1, 128, 330), (4, 2, 64, 130), (3, 1, 64, 70), (2, 2, 64, 70)],
)
@pytest.mark.parametrize("strong", [False, True])
def test_ssd(on_hopper, heads, groups, states, length, strong):
    """Two heads a block where they share B and C, one where they or none do; strong decays."""
    w = Ssd(batch=1, seq_len=length, heads=heads, state=states, groups=groups)
    s = ssd.random_inputs(generator(heads), w, strong=strong)
    initial = random_normal(generator(1), (1, heads, states, 64))

    gate = ssd.gate_ssd(s, RUNG, initial)

    assert gate.passed, gate


@pytest.mark.parametrize(("heads", "groups"), [(16, 2), (12, 1), (88, 1)])
def test_steps_of_many_heads_are_turned(on_hopper, heads, groups):
    """Whole vectors of 8 heads, a rest of 4, and more than all warps take in one turn."""
    w = Ssd(batch=2, seq_len=70, heads=heads, state=64, groups=groups)

    gate = ssd.gate_ssd(ssd.random_inputs(generator(heads), w), RUNG)

    assert gate.passed, gate


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_three_calls_are_one(on_hopper, kind):
    """States handed over at chunk boundaries give the one call's bits."""
    assert gla.gate_three_calls(arrays(1, 160, 1, 64, 64, kind, 1.0), RUNG).passed


@pytest.mark.parametrize("strong", [False, True])
def test_three_calls_of_ssd_are_one(on_hopper, strong):
    """The same, where the chunks of some heads or of all are strong."""
    w = Ssd(batch=1, seq_len=160, heads=2, state=64)

    assert ssd.gate_three_calls(ssd.random_inputs(generator(3), w, strong=strong), RUNG).passed


def test_zero_steps(on_hopper):
    """Tokens whose step is zero neither decay the state nor add to it."""
    w = Ssd(batch=1, seq_len=130, heads=2, state=64)
    s = ssd.with_zero_steps(ssd.random_inputs(generator(3), w))

    gate = ssd.gate_ssd(s, RUNG)

    assert gate.passed, gate


def test_blocks_share_the_chunks_of_more_heads_than_there_are(on_hopper):
    """6 pairs of heads, 6 chunks each, on 4 blocks of 9: what one begins, the next block ends."""
    w = Ssd(batch=1, seq_len=330, heads=12, state=64)
    s = ssd.random_inputs(generator(2), w)
    initial = random_normal(generator(1), (1, 12, 64, 64))

    gate = ssd.gate_ssd(s, RUNG, initial)

    assert gate.passed, gate


@pytest.mark.parametrize(("length", "heads"), [(300, 6), (65, 9), (64, 5)])
def test_shares_of_scalar_gates(on_hopper, monkeypatch, length, heads):
    """Shares that split sequences at a chunk, in the middle, or not at all."""
    monkeypatch.setattr(gla, "CHECKED_HEADS", heads)
    initial = random_normal(generator(1), (1, heads, 64, 64))
    drawn = arrays(1, length, heads, 64, 64, "scalar", 0.1)

    gate = gla.gate_gla(drawn, RUNG, initial=initial)

    assert gate.passed, gate


@pytest.mark.parametrize("sequences", [133, 160, 192, 264, 320, 512, 640, 5000])
def test_shares_repeat_where_few_blocks_are_lost(sequences):
    """Blocks get equal shares, few multiprocessors idle, and periods divide the sequences."""
    blocks, period = device.even_shares(sequences, 132)

    assert 0.95 * 132 <= blocks <= 132
    assert sequences % period == 0
    if period > 1:
        assert sequences // period * 6 % blocks == 0  # wholes, halves or thirds of a sequence
