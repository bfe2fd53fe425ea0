"""Run device kernels over their small shapes: ``python -m refkernels.check [OPERATOR ...]``.

Alone, a quick gate: one line per shape, exit code 1 if any gate is red. With ``--sanitize`` each
kernel runs three times in processes of its own, side by side: plain (which also compiles what it
launches), then under compute-sanitizer's memcheck and racecheck, which look at this repository's
kernels only. Where the tool is absent or the machine's runtime refuses it, that is said ("not
run") and is no failure. ``--record FILE`` keeps the outcome as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from perfmodel.errors import PerfModelError
from refkernels._compile import device_capability
from refkernels._registry import OPERATORS, Operator, Variant
from refkernels._sources import entry_points

PLAIN = "plain"
TOOLS = ("memcheck", "racecheck")
REFUSALS = ("Device not supported", "unable to initialize", "Target application terminated before")
ERROR_CODE = 9
"""Exit code of the tool when it has found something."""

LIMIT_S = 600.0
"""Seconds that one kernel may take under one tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One kernel, plain or under one tool."""

    kernel: str
    tool: str
    verdict: str
    """``clean``, ``FAILED``, ``not run`` or ``not finished``."""
    shapes: int
    seconds: float
    text: str

    @property
    def bad(self) -> bool:
        """Whether this says that something is wrong, or does not say that all is well."""
        return self.verdict in ("FAILED", "not finished")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check device variants on their small shapes; returns the exit code."""
    names = [o.name for o in OPERATORS if any(v.where == "device" for v in o.variants)]
    parser = argparse.ArgumentParser(prog="python -m refkernels.check", description=__doc__)
    parser.add_argument("operators", nargs="*", metavar="OPERATOR", help=", ".join(names))
    parser.add_argument("--kernel", help="this one only, by its name in measurement files")
    parser.add_argument("--sanitize", action="store_true", help="also under compute-sanitizer")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for each process")
    parser.add_argument("--record", type=Path, help="JSON file for the outcome of --sanitize")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.operators) - set(names)):
        parser.error(f"no operator {', '.join(unknown)}: there are {', '.join(names)}")
    try:
        capability = int(device_capability())
    except PerfModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    chosen = [*_chosen(options.operators, options.kernel, capability)]
    if not options.sanitize:
        return 1 if sum(_failures(chosen)) else 0
    return _sanitize(chosen, options)


def _chosen(
    operators: Sequence[str], kernel: str | None, capability: int
) -> Iterator[tuple[Operator, Variant]]:
    for operator in OPERATORS:
        for variant in operator.variants:
            if variant.where == "device" and variant.runs_on(capability):
                wanted = not operators or operator.name in operators
                if wanted and kernel in (None, variant.kernel):
                    yield operator, variant


def _failures(chosen: Sequence[tuple[Operator, Variant]]) -> list[bool]:
    failed = []
    for operator, variant in chosen:
        for seed, workload in enumerate(operator.small):
            gate = variant.build(workload, seed, 1).gate()
            verdict = "pass" if gate.passed else "FAIL"
            sizes = " ".join(f"{k}={v}" for k, v in workload.to_dict().items())
            sys.stdout.write(f"{verdict} {variant.kernel} {gate.metric}={gate.error:.3g} {sizes}\n")
            sys.stdout.flush()
            failed.append(not gate.passed)
    return failed


# ---------------------------------------------------------------- under the tools


def _sanitize(chosen: Sequence[tuple[Operator, Variant]], options: argparse.Namespace) -> int:
    """All kernels plain, then all of them under the tools."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        sys.stdout.write("not run: compute-sanitizer is not installed\n")
        return 0
    kernels = [variant.kernel for _, variant in chosen]
    version = _run([program, "--version"], LIMIT_S)[1].strip().splitlines()[-1:]
    outcomes: list[Outcome] = []
    # Plain runs are first in the queue; no tool waits for a slow one among them.
    jobs = [(kernel, tool) for tool in (PLAIN, *options.tools) for kernel in kernels]
    for outcome in _side_by_side(jobs, program, options):
        _say(outcome)
        outcomes.append(outcome)
        if options.record:  # each time: what is known stays if the rest is cut short
            _record(options.record, outcomes, version)
    return 1 if any(outcome.bad for outcome in outcomes) else 0


def _side_by_side(
    jobs: Sequence[tuple[str, str]], program: str, options: argparse.Namespace
) -> Iterator[Outcome]:
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        waiting = [pool.submit(_outcome, k, t, program, options.limit) for k, t in jobs]
        for job in as_completed(waiting):
            yield job.result()


def _say(outcome: Outcome) -> None:
    words = f"{outcome.tool:9} {outcome.kernel:48} {outcome.verdict:12}"
    sys.stdout.write(f"{words} {outcome.shapes:3} shapes {outcome.seconds:5.0f} s\n")
    sys.stdout.write(outcome.text if outcome.bad else "")
    sys.stdout.flush()


def command(kernel: str, tool: str, program: str) -> list[str]:
    """The command line that checks one kernel, plain or under a tool."""
    check = [sys.executable, "-m", "refkernels.check", "--kernel", kernel]
    if tool == PLAIN:
        return check
    quick = ["--target-processes", "application-only", "--launch-timeout", "120"]
    brief = ["--show-backtrace", "device", "--print-limit", "20"]
    ours = [word for name in entry_points() for word in ("--kernel-name", f"kne={name}")]
    found = ["--error-exitcode", str(ERROR_CODE)]
    return [program, "--tool", tool, *found, *quick, *brief, *ours, *check]


def _outcome(kernel: str, tool: str, program: str, limit_s: float) -> Outcome:
    start = time.monotonic()
    code, text = _run(command(kernel, tool, program), limit_s)
    lines = text.splitlines()
    return Outcome(
        kernel=kernel,
        tool=tool,
        verdict=verdict_of(code, text),
        shapes=sum(line.startswith(("pass ", "FAIL ")) for line in lines),
        seconds=time.monotonic() - start,
        text="".join(f"{line}\n" for line in lines if not line.startswith("pass "))[-6000:],
    )


def verdict_of(code: int | None, text: str) -> str:
    """What an exit code (None: killed at the limit) and the output say."""
    if code is None:
        return "not finished"
    if code == 0:
        return "clean"
    return "not run" if any(refusal in text for refusal in REFUSALS) else "FAILED"


def _run(words: Sequence[str], limit_s: float) -> tuple[int | None, str]:
    """Exit code and output; at the limit the process goes, and those it has started."""
    with subprocess.Popen(  # noqa: S603 -- our own module, under a tool found on the path
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            text, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
    return process.returncode, text


def _record(path: Path, outcomes: Sequence[Outcome], version: Sequence[str]) -> None:
    """Device, software and date as in measurement files; then what each kernel came to."""
    from refkernels._record import gpu_device, measurement_file, write_json

    content = measurement_file(gpu_device(), [])
    del content["measurements"]
    content["tool"] = "".join(version)
    content["kernels"] = {
        kernel: {
            o.tool: {"verdict": o.verdict, "shapes": o.shapes, "seconds": round(o.seconds, 1)}
            for o in outcomes
            if o.kernel == kernel
        }
        for kernel in sorted({o.kernel for o in outcomes})
    }
    write_json(path, content)


if __name__ == "__main__":
    sys.exit(main())
