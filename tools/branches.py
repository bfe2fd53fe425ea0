"""``python tools/branches.py FILE``: branch coverage of formulas and readers, part by part.

FILE is what ``coverage json`` wrote. Exit code 1 where less than :data:`LEAST` of the branches of
formulas and readers together were taken.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

LEAST = 0.92
PARTS = (
    "workload", "units", "catalog", "measure", "hw", "ops", "roofline", "models", "mcu", "planning",
)  # fmt: skip
"""What counts, decides or reads; commands and pages are tested through a shell and a browser."""


def main(argv: list[str]) -> int:
    """Print the shares; 1 if they are too low."""
    taken, there = Counter[str](), Counter[str]()
    for name, entry in json.loads(Path(argv[0]).read_text())["files"].items():
        part = Path(name).parts[1].removesuffix(".py")
        taken[part] += entry["summary"]["covered_branches"]
        there[part] += entry["summary"]["num_branches"]
    for part in PARTS:
        print(f"{part:10} {taken[part]:5} of {there[part]:5} branches")
    share = sum(taken[p] for p in PARTS) / sum(there[p] for p in PARTS)
    print(f"together   {share:.1%}")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
