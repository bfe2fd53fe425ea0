"""The shape of an answer, and how it becomes JSON."""

import dataclasses
import json

import numpy as np
import pytest

from perfmodel.answer import Estimate, Part, merge_sources


def an_estimate(**changes):
    fields = {
        "name": "gemm",
        "time_s": np.float64(2.0),
        "low_s": np.float64(1.5),
        "high_s": np.float64(3.0),
        "lower_bound_s": np.float64(1.0),
        "bound": np.asarray("memory"),
        "terms": {"memory": np.float64(2.0)},
        "formula": "memory",
        "source": "analytic",
    }
    return Estimate(**(fields | changes))


def test_json_has_the_keys_that_scripts_rely_on():
    """Times, bound, terms, source and assumptions survive a round trip through JSON."""
    answer = json.loads(json.dumps(an_estimate(assumptions=("x",)).to_dict()))

    assert answer["time_s"] == 2.0
    assert (answer["low_s"], answer["high_s"], answer["lower_bound_s"]) == (1.5, 3.0, 1.0)
    assert (answer["bound"], answer["source"]) == ("memory", "analytic")
    assert answer["terms"] == {"memory": 2.0}
    assert answer["assumptions"] == ["x"]


def test_arrays_become_lists():
    """A grid's answer is lists of the grid's shape."""
    grid = an_estimate(time_s=np.ones((2, 3)))

    assert grid.shape == (2, 3)
    assert grid.to_dict()["time_s"] == [[1.0] * 3] * 2
    assert an_estimate().shape == ()


def test_parts_carry_group_and_count():
    """A step's parts are estimates with how often they occur."""
    part = Part(group="attention", count=np.float64(32), estimate=an_estimate())
    (told,) = an_estimate(parts=(part,)).to_dict()["parts"]

    assert (told["group"], told["count"], told["time_s"]) == ("attention", 32.0, 2.0)


def test_frozen():
    """An answer does not change after it was given."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        an_estimate().time_s = 1.0


@pytest.mark.parametrize(
    ("parts", "total"),
    [
        (("analytic", "analytic"), "analytic"),
        (("calibrated",), "calibrated"),
        (("analytic", "calibrated"), "mixed"),
        (("measured", "mixed"), "mixed"),
    ],
)
def test_merge_sources(parts, total):
    """A total says whether any of its parts came from elsewhere."""
    assert merge_sources(parts) == total
