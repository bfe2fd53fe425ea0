"""``python -m tests.fuzz [--count N] [--seed S] [--readers NAME...]``: damage for every reader.

Every case must be answered or end in one of the package's own errors, within :data:`LIMIT_S`
seconds, and the whole run in less than :data:`MOST_BYTES` of memory. A case is its reader, the seed
and its number: a failure prints the command that repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from perfmodel.errors import PerfModelError
from tests.fuzz.readers import READERS

LIMIT_S = 5.0
MOST_BYTES = 2**30


class Hang(BaseException):
    """Not an Exception: no handler of the code under test may swallow it."""


def main() -> int:
    """Run the cases; 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=900, help="cases over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of a reader")
    parser.add_argument("--readers", nargs="*", choices=list(READERS), default=list(READERS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    each = -(-options.count // len(options.readers))
    failed, slowest = Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as name:
        for reader in options.readers:
            start = time.monotonic()
            for number in range(options.first, options.first + each):
                seconds, trouble = attempt(reader, options.seed, number, Path(name))
                slowest = max(slowest, seconds)
                if trouble:
                    failed[reader] += 1
                    report(reader, options.seed, number, trouble)
            took = time.monotonic() - start
            print(f"{reader:12} {each} cases, {failed[reader]} failed, {took:.1f} s", flush=True)
    peak = peak_bytes()
    print(f"slowest case {slowest:.2f} s, peak memory {peak / 2**20:.0f} MiB")
    return 1 if failed or peak > MOST_BYTES else 0


def peak_bytes() -> int:
    """The most memory that this program has held. Linux's ru_maxrss would count what the process
    that started it held, too."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(reader: str, seed: int, number: int, folder: Path) -> tuple[float, str]:
    """Seconds that one case took, and what went wrong (empty: nothing)."""
    rng = random.Random(f"{seed}/{reader}/{number}")
    case = READERS[reader].make(rng)
    start, trouble = time.monotonic(), ""
    try:
        with limited():
            READERS[reader].use(case, folder)
    except PerfModelError as refused:
        trouble = "" if str(refused).strip() else "an error without a word"
    except Hang:
        trouble = f"still busy after {LIMIT_S:g} s"
    except Exception:  # noqa: BLE001 -- that is what is looked for
        trouble = traceback.format_exc()
    return time.monotonic() - start, trouble


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raises :class:`Hang` after :data:`LIMIT_S`."""

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def report(reader: str, seed: int, number: int, trouble: str) -> None:
    """What failed and how to see it again."""
    again = f"python -m tests.fuzz --readers {reader} --seed {seed} --first {number} --count 1"
    print(f"FAILED {again}\n{trouble}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
