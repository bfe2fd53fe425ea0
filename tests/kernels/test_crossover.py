"""The measured crossover page: which rungs it times, where a mixer overtakes, what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refkernels import crossover
from refkernels._registry import OPERATORS

MEASURED = sorted(Path("specs/measured").glob("*-crossover-*.json"))


def row(mixer, kernel, tokens, micros):
    _, workload = crossover.MIXERS[mixer]
    return {
        "workload": workload(tokens).to_dict(),
        "kernel": kernel,
        "time_s": micros * 1e-6,
    }


CONTENT = {
    "device": {"product": "a device"},
    "software": {"driver": "1.2"},
    "date": "2026-01-01",
    "kernel_revision": "abc",
    "measurements": [
        row("softmax attention", "flash", 1024, 10.0),
        row("softmax attention", "flash", 2048, 40.0),
        row("gated delta rule", "delta", 1024, 15.0),
        row("gated delta rule", "delta", 2048, 30.0),
        row("SSD", "dual", 1024, 9.0),
        row("SSD", "dual", 2048, 41.0),
    ],
}


def test_every_mixer_names_a_rung_of_the_registry():
    """Six mixers of one width, each by the last rung of its operator that runs on a device."""
    for operator, workload in crossover.MIXERS.values():
        found = next(o for o in OPERATORS if o.name == operator)
        last = crossover.last_rung(operator)
        after = found.variants[found.variants.index(last) + 1 :]
        assert last.where == "device"
        assert not any(v.where == "device" for v in after)
        assert workload(1024).op == found.timed[0].op


def test_a_mixer_overtakes_where_it_stays_ahead():
    """The delta rule from 2048 on; SSD, ahead at 1024 only, nowhere."""
    found = crossover.by_length(CONTENT["measurements"])
    reference = found["softmax attention"]

    assert crossover.overtakes(found["gated delta rule"], reference) == 2048
    assert crossover.overtakes(found["SSD"], reference) is None
    assert crossover.overtakes(reference, reference) is None


def test_the_page_states_times_and_conditions(tmp_path):
    """Written by the command from a file, on a machine without a device."""
    source, page = tmp_path / "m.json", tmp_path / "page.md"
    source.write_text(json.dumps(CONTENT))

    assert crossover.main(["table", str(source), "--out", str(page)]) == 0
    text = page.read_text()
    assert "| 1,024 | 10.0 | 15.0 | 9.0 |" in text
    assert "| gated delta rule | 2,048 tokens | `delta` |" in text
    assert "| SSD | nowhere up to here | `dual` |" in text
    assert "driver 1.2" in " ".join(text.split())


@pytest.mark.parametrize("source", MEASURED, ids=lambda p: p.name)
def test_the_page_in_the_docs_is_the_measured_one(source):
    """docs/crossover.md says what the newest file says, word for word."""
    if source != MEASURED[-1]:
        pytest.skip("an older measurement")
    page = crossover.table(json.loads(source.read_text()))

    assert Path("docs/crossover.md").read_text() == page
