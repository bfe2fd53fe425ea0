"""Jobs of bench modules: what a child gives comes back; one that fails or hangs says so."""

from __future__ import annotations

import json

import pytest

from refkernels import _jobs

CHILD = """
import json, pathlib, sys, time
out, name = pathlib.Path(sys.argv[2]), sys.argv[4]
if name == "hangs": time.sleep(600)
if name == "faults": sys.exit(7)
if name != "silent": (out / f".{name}.json").write_text(json.dumps({"ok": True, "report": name}))
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A module on the path of child processes that stands in for a bench module."""
    (tmp_path / "bench_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "bench_child"


def test_what_a_child_gives_comes_back_and_leaves_nothing(child, tmp_path):
    """The part as it was written; its file is gone."""
    assert _jobs.run_child(child, "works", tmp_path, 60.0) == {"ok": True, "report": "works"}
    assert not (tmp_path / ".works.json").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [("faults", "exit code 7"), ("silent", "exit code 0"), ("hangs", "killed after 0.5 s")],
)
def test_a_child_that_gives_nothing_says_why(child, tmp_path, capfd, name, why):
    """Not ok, no measurements, and the reason in the report and on the screen."""
    part = _jobs.run_child(child, name, tmp_path, 0.5 if name == "hangs" else 60.0)

    assert part == {"ok": False, "measurements": [], "report": why}
    assert f"[{name}] {why}" in capfd.readouterr().out


def test_a_job_here_leaves_its_part(tmp_path):
    """As JSON, under the name that the parent looks for."""
    assert _jobs.run_here("one", lambda: {"ok": True}, tmp_path) == 0
    assert json.loads((tmp_path / ".one.json").read_text()) == {"ok": True}
