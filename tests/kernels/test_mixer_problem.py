"""What the mixers' problems share turns red where a kernel is wrong."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from refkernels._check import judge, narrow_bf16
from refkernels._matrix_state import CHUNK
from refkernels._mixer_problem import (
    HostProblem,
    plan_each,
    poisoned_outputs,
    three_calls,
    unless_unwritten,
    worse,
)
from refkernels.gla.sequence import Sequence

PASSED = judge("gla", "state", np.ones(2), np.ones(2))


@pytest.fixture
def sequence(monkeypatch):
    """Arrays of one call, NumPy in CuPy's place."""
    monkeypatch.setitem(sys.modules, "cupy", np)
    empty = np.zeros((2, 5, 3, 64), np.uint16)
    return Sequence(q=empty, k=empty, v=empty, g=None, scale=1.0)


def test_what_no_kernel_wrote_is_nan_and_red(sequence):
    """Poisoned outputs are NaN to the last element; one that stays so turns a passed gate."""
    out, final = poisoned_outputs(sequence)

    assert out.shape == sequence.v.shape
    assert final.shape == (2, 3, 64, 64)
    assert np.isnan(final).all()
    assert not unless_unwritten(PASSED, out, np.zeros(1)).passed
    out[...] = narrow_bf16(np.ones(out.shape, np.float32))
    assert unless_unwritten(PASSED, out, np.zeros(1)) == PASSED
    out[-1, -1, -1, -1] = 0x7FC1
    assert not unless_unwritten(PASSED, out, np.zeros(1)).passed
    assert not unless_unwritten(PASSED, np.zeros(1), final).passed


def test_the_worse_of_output_and_state_counts():
    """A wrong state turns the gate red though every output is right, and the other way round."""
    good, bad = np.ones(8, np.float32), np.full(8, 1.5, np.float32)

    assert worse("gla", good, good, good, good).passed
    assert not worse("gla", good, good, good, bad).passed
    assert not worse("gla", good, bad, good, good).passed


@pytest.mark.parametrize("length", [2 * CHUNK + 1, 3 * CHUNK, 500, 4097])
@pytest.mark.parametrize("forgets", [False, True])
def test_three_calls_show_a_state_that_is_not_handed_on(length, forgets):
    """Sums from call to call; a call that begins from zero gives other bits."""
    x = np.arange(length, dtype=np.float64)[None]
    parts = []

    def run(tokens, state, segment):
        assert segment % CHUNK == 0
        parts.append(tokens)
        start = 0.0 if state is None or forgets else state
        sums = start + np.cumsum(x[:, tokens], axis=1)
        return sums, sums[:, -1:]

    assert three_calls("gla", length, run).passed is not forgets
    assert len(parts) == 4
    assert [part.start % CHUNK for part in parts] == [0, 0, 0, 0]


def test_a_step_writes_where_it_reads(sequence):
    """Each set has its own plan; that of a step has its start for its final state."""
    seen = []

    def plans(step):
        seen.clear()
        return plan_each(
            lambda arrays, start: (seen.append((arrays, start)), sequence)[1],
            lambda x, out, final: final,
            ["first", "second"],
            np.random.default_rng(1),
            (2, 3, 64, 64),
            step=step,
        )

    finals = plans(step=True)
    assert [arrays for arrays, _ in seen] == ["first", "second"]
    assert all(final is start for final, (_, start) in zip(finals, seen, strict=True))
    assert not np.array_equal(*finals)
    assert plans(step=False)[0].shape == (2, 3, 64, 64)
    assert [start for _, start in seen] == [None, None]


@pytest.mark.parametrize(("error", "passes"), [(0.0, True), (1e-2, False)])
def test_a_host_kernel_is_held_to_its_definition(error, passes):
    """The gate runs the first set; ``run`` any other."""
    problem = HostProblem("gla", [np.ones(4), np.full(4, 2.0)], lambda x: x + error, lambda x: x)

    assert problem.gate().passed is passes
    problem.run(1)
    assert problem.sets == 2
    assert (problem.out == 2.0 + error).all()
