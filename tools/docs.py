"""Paste what the program really prints into the documents: ``python tools/docs.py [--check]``.

In a fenced ``console`` block each line ``$ perfmodel ...`` is run, and what follows it, up to the
next command or the end of the block, is replaced by its output. Between ``<!-- table: NAME -->``
and ``<!-- end -->`` stands a table of ``tools/tables.py``. With ``--check`` nothing is written:
exit code 1 and a diff where a document is out of date.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import dependencies  # noqa: E402 - of this tree, wherever it is run from
from tables import TABLES, measured_kernels  # noqa: E402 - of this tree, wherever it is run from

BLOCK = re.compile(r"(^```console\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"(^<!-- table: (\w+) -->\n).*?(^<!-- end -->$)", re.MULTILINE | re.DOTALL)
PROMPT = "$ perfmodel "
DEVICE = "h200-sxm"


def main(argv: list[str]) -> int:
    """Refresh, or check, every document."""
    stale = 0
    for path in [*documents(), *FIGURES]:
        old = path.read_text() if path.is_file() else ""
        new = FIGURES[path]() if path in FIGURES else refreshed(old)
        if new == old:
            continue
        stale += 1
        if "--check" in argv:
            show(path, old, new)
        else:
            path.write_text(new)
            print(f"refreshed {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in argv else 0


def figure() -> str:
    """Predicted against measured for our kernels on the H200, from committed files alone."""
    from perfmodel.report.accuracy import run_table
    from perfmodel.report.svg import of_ours, predicted_measured_svg

    mine = of_ours(measured_kernels(), DEVICE)
    files = {Path(r.file).stem for r in mine}
    runs = [r for r in run_table().rows if r["file"] in files]
    days, drivers = (sorted({str(r[key]) for r in runs}) for key in ("date", "driver"))
    when = f"{days[0]} .. {days[-1]}" if len(days) > 1 else days[0]
    caption = f"our kernels on H200s, {when}, driver {', '.join(drivers)}"
    return predicted_measured_svg(mine, caption)


FIGURES = {
    ROOT / "docs" / "predicted-measured.svg": figure,
    ROOT / "docs" / "dependencies.svg": dependencies.picture,
}
"""Pictures and what draws them."""


def documents() -> list[Path]:
    """Every Markdown file a user reads."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def refreshed(text: str) -> str:
    """``text`` with the output of every command in its console blocks, and every table."""
    filled = TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)
    return BLOCK.sub(lambda block: block[1] + answered(block[2]) + block[3], filled)


def answered(block: str) -> str:
    """The commands of one block, each with what it prints; lines before the first are kept."""
    lines = block.splitlines()
    commands = [line for line in lines if line.startswith(PROMPT)]
    if not commands:
        return block
    return "\n\n".join(f"{line}\n{output(line)}" for line in commands) + "\n"


def output(line: str) -> str:
    """What ``$ perfmodel ...`` prints, trailing blanks stripped.

    Raises:
        SystemExit: it ends in neither "answered" (0) nor "the answer is no" (1).
    """
    command = [sys.executable, "-m", "perfmodel", *shlex.split(line.removeprefix(PROMPT))]
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(  # noqa: S603 - the commands of our own documents
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        sys.exit(f"{line}\n{done.stderr}")
    shown = [text.rstrip() for text in done.stdout.splitlines()]
    return "\n".join(shown).strip("\n")


def show(path: Path, old: str, new: str) -> None:
    """Print how a document differs from what the program prints today."""
    name = str(path.relative_to(ROOT))
    was, now = old.splitlines(), new.splitlines()
    print(*difflib.unified_diff(was, now, name, "printed today", lineterm=""), sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
