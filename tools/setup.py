"""Create .venv and install perfmodel into it, editable: ``python3 tools/setup.py [EXTRA ...]``.

Works on a machine with Python >= 3.11 and pip alone, also where the distribution marks its Python
as externally managed or ships it without ensurepip: the first way that works is taken. A stamp
makes the next run instant while pyproject.toml is unchanged.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python must be told so, not crash
    found = "{}.{}".format(*sys.version_info)
    sys.exit(f"perfmodel needs Python 3.11 or newer, this is {found}; try: make PYTHON=python3.12")

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "perfmodel-setup.json"
PRIVATE = ROOT / ".cache" / "virtualenv"
BASE = getattr(sys, "_base_executable", None) or sys.executable
"""The interpreter behind this one: inside an environment, the one that it was made from."""

PIP_OPTIONS = ["--disable-pip-version-check", "--quiet", "--root-user-action=ignore"]


class Failed(Exception):
    """One way of setting up did not work; the text says why."""


def main(extras: list[str]) -> int:
    """Set up with ``extras`` on top of what an unchanged environment already has."""
    had = installed_extras()
    if had is not None and set(extras) <= had and python_of(VENV).exists():
        return 0
    wanted = sorted(set(extras) | (had or set()))
    print(f"setting up .venv with {', '.join(wanted) or 'the core'} (once) ...", file=sys.stderr)
    try:
        create(VENV, "-e", requirement(wanted))
    except Failed as failed:
        print(f"cannot set up .venv:\n{failed}", file=sys.stderr)
        print("  try: apt-get install python3-pip python3-venv", file=sys.stderr)
        return 1
    STAMP.write_text(json.dumps({"for": fingerprint(), "extras": wanted}))
    return 0


def create(venv: Path, *packages: str) -> None:
    """A new environment with ``packages`` (arguments of pip install), the first way that works.

    Raises:
        Failed: none does; says why, way by way.
    """
    failures = []
    for way in (with_uv, with_bare_venv, with_venv, with_virtualenv):
        try:
            return way(venv, *packages)
        except Failed as failed:
            failures.append(f"  {way.__name__.replace('_', ' ')}: {failed}")
    raise Failed("\n".join(failures))


def python_of(venv: Path) -> Path:
    """The interpreter of an environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed_extras() -> "set[str] | None":
    """What the stamp says is installed; None where it is absent or for something else."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return None
    return set(stamp["extras"]) if stamp.get("for") == fingerprint() else None


def fingerprint() -> str:
    """Changes with pyproject.toml, with the Python that runs this, and when the tree is moved."""
    facts = ((ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(ROOT).encode())
    return hashlib.sha256(b"\0".join(facts)).hexdigest()


def requirement(extras: list[str]) -> str:
    """What pip installs: this tree with its extras."""
    return f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)


def with_uv(venv: Path, *packages: str) -> None:
    """Fastest, where the user has it."""
    uv = shutil.which("uv")
    if uv is None:
        raise Failed("not on PATH")
    run(uv, "venv", "--quiet", "--clear", "--python", BASE, str(venv))
    run(uv, "pip", "install", "--quiet", "--python", str(python_of(venv)), *packages)


def with_bare_venv(venv: Path, *packages: str) -> None:
    """No ensurepip needed: this Python's own pip installs into the new environment."""
    run(BASE, "-m", "venv", "--clear", "--without-pip", str(venv))
    outer = [BASE, "-m", "pip", "--python", str(python_of(venv))]
    run(*outer, "install", *PIP_OPTIONS, *packages)


def with_venv(venv: Path, *packages: str) -> None:
    """Where this Python has no pip, or one too old to install elsewhere, but has ensurepip."""
    run(BASE, "-m", "venv", "--clear", str(venv))
    run(str(python_of(venv)), "-m", "pip", "install", *PIP_OPTIONS, *packages)


def with_virtualenv(venv: Path, *packages: str) -> None:
    """Where the venv module itself is missing: virtualenv from a private folder."""
    target = ["--target", str(PRIVATE), "--upgrade", "virtualenv"]
    run(BASE, "-m", "pip", "install", *PIP_OPTIONS, *target)
    private = {**os.environ, "PYTHONPATH": str(PRIVATE)}
    run(BASE, "-m", "virtualenv", "--quiet", "--clear", str(venv), env=private)
    run(str(python_of(venv)), "-m", "pip", "install", *PIP_OPTIONS, *packages)


def run(*command: str, env: "dict[str, str] | None" = None) -> None:
    """Run one command quietly; its own last words become the reason where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - the command lines of this file
            command, env=env, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise Failed(str(error)) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed("; ".join(said[-3:]) or f"exit code {done.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
