"""Jobs of a bench module in processes of their own: one that faults or hangs costs only itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Part = dict[str, Any]
"""What a job gives: ``ok``, ``report``, ``measurements``."""

Given = TypeVar("Given")


def run_here(name: str, job: Callable[[], Part], out: Path) -> int:
    """Run a job in this process and leave what it gives in ``out``; returns the exit code."""
    part = or_exit(job)
    _left_in(out, name).write_text(json.dumps(part))
    return 0


def or_exit(job: Callable[[], Given]) -> Given:
    """What a job gives; one that raises shows its traceback and ends this process with 1."""
    try:
        return job()
    except Exception:  # noqa: BLE001 -- whatever it is, the other jobs go on
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        # After a fault on the device every destructor of the runtime would complain at length.
        os._exit(1)


def run_child(module: str, name: str, out: Path, limit_s: float) -> Part:
    """Run ``python -m module --out OUT --job NAME``; what it prints goes through, what it gives
    comes back as data. A child that fails, or is killed at the limit, gives a part that says so."""
    why = why_failed(module, name, out, limit_s)
    path = _left_in(out, name)
    if why or not path.is_file():
        return _failed(name, why or "exit code 0")
    part: Part = json.loads(path.read_text())
    path.unlink()
    return part


def why_failed(module: str, name: str, out: Path, limit_s: float, *more: str) -> str | None:
    """Run ``python -m module --out OUT --job NAME`` and ``more``; None if it ends with 0."""
    command = [sys.executable, "-m", module, "--out", str(out), "--job", name, *more]
    try:
        code = subprocess.run(command, timeout=limit_s, check=False).returncode  # noqa: S603 -- ourselves
    except subprocess.TimeoutExpired:
        return f"killed after {limit_s:g} s"
    return f"exit code {code}" if code else None


def _left_in(out: Path, name: str) -> Path:
    return out / f".{name}.json"


def _failed(name: str, why: str) -> Part:
    print(f"[{name}] {why}", flush=True)  # noqa: T201 -- bench modules are commands
    return {"ok": False, "measurements": [], "report": why}
