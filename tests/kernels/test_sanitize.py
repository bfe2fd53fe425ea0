"""The command that runs every kernel plain and under a sanitizer; what its answers mean."""

from __future__ import annotations

import json
import sys

import pytest

from refkernels import check
from refkernels._registry import OPERATORS
from refkernels._sources import all_sources, data_dir, entry_points


def test_entry_points_are_the_kernels_of_the_sources():
    """Every operator's source has its kernel among them, with launch bounds and clusters or not."""
    names = set(entry_points())

    assert {"int8_gemm", "attention_decode", "attention_forward", "gla", "read", "copy"} <= names
    for source in (s for s in all_sources() if s.parent.name != "roofs"):
        headers = source.parent.glob("*.cuh")
        texts = [source.read_text(), *(h.read_text() for h in headers)]
        assert any(f"{name}(" in text for name in names for text in texts), source


def test_a_tool_looks_at_our_kernels_only():
    """The command line names each kernel once, and runs one registered kernel below the tool."""
    words = check.command("refkernels.copy/memory", "racecheck", "tool")
    named = [w.removeprefix("kne=") for w in words if w.startswith("kne=")]

    assert sorted(named) == entry_points()
    assert words[:3] == ["tool", "--tool", "racecheck"]
    assert words[-5:] == check.command("refkernels.copy/memory", check.PLAIN, "tool")


@pytest.mark.parametrize(
    ("code", "text", "verdict"),
    [
        (0, "", "clean"),
        (1, "FAIL refkernels.copy/memory", "FAILED"),
        (check.ERROR_CODE, "ERROR SUMMARY: 3 errors", "FAILED"),
        (1, "Error: Device not supported", "not run"),
        (None, "", "not finished"),
    ],
)
def test_what_an_exit_code_says(code, text, verdict):
    """A refusal of the machine is no failure; a run that did not end is not clean."""
    assert check.verdict_of(code, text) == verdict


def test_one_operator_or_one_kernel_can_be_chosen():
    """By operator, by kernel, and all of them that run on a device."""
    every = [v.kernel for _, v in check._chosen([], None, 90)]
    decode = [v.kernel for _, v in check._chosen(["attention_decode"], None, 90)]
    plain = [v.kernel for _, v in check._chosen([], None, 80)]

    assert len(every) == sum(v.where == "device" for o in OPERATORS for v in o.variants)
    assert decode == ["refkernels.attention/decode_split_kv"]
    assert set(plain) < set(every)
    assert [v.kernel for _, v in check._chosen([], every[1], 90)] == [every[1]]


def test_a_process_is_ended_at_its_limit():
    """It counts as not finished; one that ends by itself gives its code and its output."""
    assert check._run([sys.executable, "-c", "import time; time.sleep(600)"], 0.2)[0] is None
    assert check._run([sys.executable, "-c", "print(1); exit(9)"], 600) == (9, "1\n")


def test_an_unknown_operator_is_refused(capsys):
    """The message lists those that there are."""
    with pytest.raises(SystemExit, match="2"):
        check.main(["unheard_of"])
    assert "attention_decode" in capsys.readouterr().err


def test_recorded_outcomes_say_what_came_out():
    """Each record names its device, tool and revision, and says of every kernel what came out."""
    records = sorted(data_dir("specs").glob("checks/*.json"))

    assert records
    for path in records:
        record = json.loads(path.read_text())
        assert record["device"]["product"]
        assert record["tool"]
        assert len(record["kernel_revision"]) == 12
        assert all(name.startswith("refkernels.") for name in record["kernels"])
        for outcomes in record["kernels"].values():
            for tool, outcome in outcomes.items():
                assert tool in (check.PLAIN, *check.TOOLS)
                assert outcome["verdict"] in ("clean", "FAILED", "not run", "not finished")
                assert outcome["verdict"] != "clean" or outcome["shapes"] > 0
