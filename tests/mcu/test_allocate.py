"""Offsets: no two live buffers share a byte, peaks are optimal and proven so."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.mcu import allocate as module
from perfmodel.mcu.access import Moves
from perfmodel.mcu.allocate import Buffer, allocate, live_bytes, overlap, search
from perfmodel.mcu.integer import program
from perfmodel.mcu.layout import NOTHING, buffers_of
from tests.mcu.graphs import random_network, tight_buffers

SPANS = st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 5))


def made(spans):
    return [
        Buffer(name=str(i), bytes=size, first=first, last=first + length)
        for i, (size, first, length) in enumerate(spans)
    ]


@given(st.lists(SPANS, max_size=14), st.sampled_from([1, 4, 16]))
def test_laws(spans, align):
    """Live buffers never overlap, offsets are aligned, live bytes <= proven bound <= peak."""
    buffers = made(spans)

    found = allocate(buffers, align=align)

    assert set(found.offsets) == {b.name for b in buffers}
    assert overlap(buffers, found.offsets) is None
    assert all(at >= 0 and at % align == 0 for at in found.offsets.values())
    assert max(live_bytes(buffers), default=0) <= found.live_bytes
    assert found.live_bytes <= found.bound_bytes <= found.peak_bytes
    ends = [found.offsets[b.name] + b.bytes for b in buffers]
    assert max(ends, default=0) <= found.peak_bytes <= max(ends, default=0) + align - 1


@given(st.lists(SPANS, min_size=1, max_size=6))
def test_equals_brute_force(spans):
    """The peak is the least over all orders of stacking, which some optimal plan comes from."""
    buffers = made(spans)

    def stacked(order):
        ends = {}
        for b in order:
            ends[b] = b.bytes + max((end for o, end in ends.items() if o.meets(b)), default=0)
        return max(ends.values())

    assert allocate(buffers).peak_bytes == min(map(stacked, itertools.permutations(buffers)))


@pytest.mark.parametrize("inplace", [False, True])
def test_random_graphs_are_proven_optimal(inplace):
    """For 500 random graphs of up to 40 tensors the peak is the optimum.

    A peak equal to the live bytes is optimal as it stands; any other must be the integer
    program's.
    """
    moves = Moves(fuse=False, stream=False, reorder=False) if inplace else NOTHING
    for seed in range(500):
        buffers, _ = buffers_of(random_network(seed), moves)
        found = allocate(buffers)
        assert overlap(buffers, found.offsets) is None
        assert found.optimal, seed
        if found.peak_bytes > found.live_bytes:
            _, peak, bound = program(buffers, found.live_bytes, found.peak_bytes)
            assert (peak, bound) == (found.peak_bytes, found.peak_bytes), seed


def test_live_bytes_that_do_not_pack():
    """Where no plan reaches the live bytes, branch and bound and the integer program agree on it.

    The nine buffers of seed 196 have four bytes alive at a step and need five.
    """
    gaps = 0
    for seed in range(400):
        buffers = tight_buffers(seed)
        found = allocate(buffers)
        assert found.optimal
        if found.peak_bytes > found.live_bytes:
            gaps += 1
            _, peak, bound = program(buffers, found.live_bytes, found.peak_bytes + 1)
            assert (peak, bound) == (found.peak_bytes, found.peak_bytes), seed
    known = allocate(tight_buffers(196))

    assert gaps >= 3
    assert (known.live_bytes, known.peak_bytes, known.method) == (4, 5, "branch and bound")


@pytest.mark.slow
def test_many_tight_packings():
    """As above for thousands of tight packings."""
    for seed in range(400, 4000):
        buffers = tight_buffers(seed)
        found = allocate(buffers)
        assert overlap(buffers, found.offsets) is None
        assert found.optimal
        if found.peak_bytes > found.live_bytes:
            _, peak, bound = program(buffers, found.live_bytes, found.peak_bytes)
            assert (peak, bound) == (found.peak_bytes, found.peak_bytes), seed


def test_integer_program_takes_over(monkeypatch):
    """Where branch and bound gives up, the integer program finds the plan and proves it."""
    monkeypatch.setattr(module, "SEARCH_EFFORTS", (1,))
    buffers = tight_buffers(196)

    found = allocate(buffers)

    assert overlap(buffers, found.offsets) is None
    assert (found.peak_bytes, found.bound_bytes) == (5, 5)


def test_gap_is_stated(monkeypatch):
    """Without any exact method the bound stays at the live bytes and the plan is not optimal."""
    monkeypatch.setattr(module, "SEARCH_EFFORTS", (1,))
    monkeypatch.setattr(module, "PROGRAM_BUFFERS", 0)

    found = allocate(tight_buffers(196))

    assert found.bound_bytes == 4 < found.peak_bytes
    assert not found.optimal


def test_search_refutes():
    """A target below the optimum is refuted, not just missed."""
    assert search(tight_buffers(196), 4) == (None, True)


def test_nothing():
    """No buffers need no bytes."""
    found = allocate([])

    assert (found.peak_bytes, found.offsets, found.optimal) == (0, {}, True)
