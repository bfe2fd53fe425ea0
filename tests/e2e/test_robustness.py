"""Killed, crowded, read-only or offline: nothing is lost, and nothing but the answer changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTION = ("estimate", "gemm", "m=512", "n=512", "k=512", "--on", "h100-sxm-80gb", "--json")
WRITER = """
import sys, itertools
from pathlib import Path
{imports}
path = Path(sys.argv[1])
for i in itertools.count():
    {write}
"""
WRITERS = {
    "calibration": WRITER.format(
        imports="from perfmodel.files import write_atomically",
        write="write_atomically(path, str(i % 10) * 2_000_000)",
    ),
    "measurements": WRITER.format(
        imports="from refkernels._record import write_json",
        write="write_json(path, {'digits': str(i % 10) * 2_000_000})",
    ),
}


def run(*argv: str, **options: object) -> subprocess.Popen[str]:
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return subprocess.Popen(
        [sys.executable, *argv],
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("kind", WRITERS)
def test_a_killed_writer_leaves_a_whole_file(tmp_path, kind):
    """Whenever the process dies, the file is one of the versions written, never a part of one."""
    path = tmp_path / "out.json"
    for attempt in range(6):
        writer = run("-c", WRITERS[kind], str(path))
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.013 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        text = path.read_text()
        digits = text if kind == "calibration" else json.loads(text)["digits"]
        assert len(digits) == 2_000_000
        assert len(set(digits)) == 1


def test_crowded_commands_answer_alike():
    """Six at once give six equal answers."""
    crowd = [run("-m", "perfmodel", *QUESTION) for _ in range(6)]
    answers = {process.communicate()[0] for process in crowd}

    assert len(answers) == 1
    assert json.loads(answers.pop())["time_s"] > 0


def test_commands_leave_the_installation_alone():
    """No file of the package, the specs or the kernels is made, changed or removed by asking."""
    folders = [ROOT / name for name in ("perfmodel", "specs", "refkernels", "cuda", "dashboards")]

    def snapshot() -> dict[str, int]:
        files = (p for f in folders for p in f.rglob("*") if p.is_file())
        return {str(p): p.stat().st_mtime_ns for p in files if "__pycache__" not in p.parts}

    before = snapshot()
    for question in (QUESTION, ("doctor",), ("models",), ("show", "h200-sxm", "--measured")):
        process = run("-m", "perfmodel", *question)
        _, error = process.communicate()
        assert process.returncode == 0, error

    assert snapshot() == before


def test_commands_open_no_connection():
    """Asked where every connection fails, they answer all the same."""
    offline = """
import socket, sys
def refuse(*_, **__):
    raise AssertionError("a connection was opened")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from perfmodel.cli import main
sys.exit(main(sys.argv[1:]))
"""
    for question in (
        QUESTION,
        ("capacity", "yi-34b-200k", "--on", "a100-sxm-80gb", "--context", "9"),
    ):
        process = run("-c", offline, *question)
        _, error = process.communicate()
        assert process.returncode == 0, error
