"""``python -m refkernels.library --out DIR [--budget SECONDS] [--device NAME]``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from perfmodel.errors import PerfModelError
from refkernels.library.run import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the grid; returns the exit code."""
    parser = argparse.ArgumentParser(prog="refkernels.library", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the measurement files")
    parser.add_argument("--device", help="name of the device's spec, e.g. h200-sxm")
    parser.add_argument("--budget", type=float, default=330.0, help="seconds for all of it")
    options = parser.parse_args(arguments)
    try:
        grid = run(options.out, options.device, options.budget)
    except PerfModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    for family, rows in grid.entries.items():
        sys.stderr.write(f"{family}: {len(rows)} rows\n")
    reasons = Counter(f"{s['kernel']}: {str(s['reason'])[:80]}" for s in grid.skipped)
    for reason, count in reasons.most_common(20):
        sys.stderr.write(f"left out {count}: {reason}\n")
    return 0 if grid.rows else 1


if __name__ == "__main__":
    sys.exit(main())
