"""Jobs of a bench module in processes of their own: one that faults or hangs costs only itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Part = dict[str, Any]
"""What a job gives: ``ok``, ``report``, ``measurements``."""


def run_here(name: str, job: Callable[[], Part], out: Path) -> int:
    """Run a job in this process and leave what it gives in ``out``; returns the exit code."""
    try:
        part = job()
    except Exception:  # noqa: BLE001 -- whatever it is, the other jobs go on
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        # After a fault on the device every destructor of the runtime would complain at length.
        os._exit(1)
    _left_in(out, name).write_text(json.dumps(part))
    return 0


def run_child(module: str, name: str, out: Path, limit_s: float) -> Part:
    """Run ``python -m module --out OUT --job NAME``; what it prints goes through, what it gives
    comes back as data. A child that fails, or is killed at the limit, gives a part that says so."""
    command = [sys.executable, "-m", module, "--out", str(out), "--job", name]
    try:
        code = subprocess.run(command, timeout=limit_s, check=False).returncode  # noqa: S603 -- ourselves
    except subprocess.TimeoutExpired:
        return _failed(name, f"killed after {limit_s:g} s")
    path = _left_in(out, name)
    if code != 0 or not path.is_file():
        return _failed(name, f"exit code {code}")
    part: Part = json.loads(path.read_text())
    path.unlink()
    return part


def _left_in(out: Path, name: str) -> Path:
    return out / f".{name}.json"


def _failed(name: str, why: str) -> Part:
    print(f"[{name}] {why}", flush=True)  # noqa: T201 -- bench modules are commands
    return {"ok": False, "measurements": [], "report": why}
