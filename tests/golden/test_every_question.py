"""What the open tables ask, asked of every device and model: an answer that can be, or a reason."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import pytest

from perfmodel.hw.load import device_names
from perfmodel.measure import Measurement, read_measurements
from perfmodel.models.hf import model_names
from perfmodel.validation import Scored, validate

pytestmark = [pytest.mark.data, pytest.mark.slow]

POSSIBLE_S = (1e-7, 1e5)
"""No launch is shorter, and nobody measures longer."""
COLUMNS = ("tp", "num_gpus", "gpus_per_node_used", "phase")
BOARDS = ("h200-sxm", "l40s", "b200-sxm", "a40", "rtx-4090", "gb200", "mi300x")


@pytest.fixture(scope="module")
def questions(data_dir):
    """Of every kind of row the middle one: source, operator, kernel, types, split, topology."""
    kinds: dict[tuple[object, ...], list[Measurement]] = defaultdict(list)
    for file in sorted(data_dir.glob("*.csv")):
        for m in read_measurements(file):
            told = tuple(m.question.get(c) for c in COLUMNS)
            kinds[m.source, m.scenario, m.kernel, m.framework, m.dtype, *told].append(m)
    return [sorted(rows, key=lambda m: m.value)[len(rows) // 2] for rows in kinds.values()]


def impossible(s: Scored) -> str | None:
    """What is wrong with an answer; None where nothing is."""
    if s.refusal is not None:
        return None if s.refusal.strip() else "refused without a reason"
    ends = s.low, s.predicted, s.high
    if not all(x is not None and math.isfinite(x) for x in ends):
        return f"not a number: {ends}"
    low, value, high = ends
    if not 0.0 < low <= value <= high:
        return f"not an interval: {ends}"
    if s.measurement.quantity != "latency":
        return None
    if not POSSIBLE_S[0] <= value <= POSSIBLE_S[1]:
        return f"no time that anything takes: {value}"
    if s.measurement.workload is not None and value < s.bound:
        return f"{value} below its lower bound {s.bound}"
    return None


def complaints(rows):
    """Everything wrong with the answers to ``rows``, each of which has one."""
    answers = validate(rows)
    assert len(answers) == len(rows)
    found = [(s.measurement.file, s.measurement.scenario, impossible(s)) for s in answers]
    return [c for c in found if c[-1] is not None]


@pytest.mark.parametrize("name", device_names())
def test_every_device_answers_or_says_why(name, questions):
    """The device column replaced."""
    asked = [replace(m, device=name, question=m.question | {"device": name}) for m in questions]
    assert complaints(asked) == []


@pytest.mark.parametrize(("at", "name"), list(enumerate(model_names())))
def test_every_model_answers_or_says_why(at, name, questions):
    """The model column replaced, each on a device that the tables do not serve."""
    board = BOARDS[at % len(BOARDS)]
    asked = [
        replace(m, model=name, device=board, question=m.question | {"model": name, "device": board})
        for m in questions
        if m.model and m.workload is None
    ]
    assert complaints(asked) == []


def test_one_rank_is_no_collective(data_dir):
    """No time to score: refused, as a factor of infinity is no answer."""
    rows = read_measurements(data_dir / "vidur_net_a100.csv")[:1]
    alone = replace(rows[0].workload, ranks=1, ranks_per_node=None)
    assert "one rank" in validate([replace(rows[0], workload=alone)])[0].refusal


def test_a_row_that_cannot_be_asked_refuses_no_other(data_dir):
    """Two nodes of a device without a network: those rows alone are refused."""
    rows = read_measurements(data_dir / "vidur_net_a100.csv")
    answers = validate([replace(m, device="l40s") for m in rows])
    apart = {id(s.measurement) for s in answers if s.refusal is not None}
    columns = ("num_gpus", "gpus_per_node_used")
    asked = [[int(m.measurement.question[c]) for c in columns] for m in answers]

    assert apart == {id(s.measurement) for s, (n, g) in zip(answers, asked, strict=True) if n > g}
