"""Damaged input for every reader: answered or refused, in time, in little memory."""

import pytest


def test_a_sample_of_damage(python):
    """A thousand cases over all readers: no traceback, none over 5 s, under 1 GiB."""
    done = python("-m", "tests.fuzz", "--count", "1000")

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_ten_thousand_damaged_inputs(python, seed):
    """Twice ten thousand cases."""
    done = python("-m", "tests.fuzz", "--count", "10000", "--seed", str(seed))

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
