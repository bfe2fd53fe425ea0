"""Run every device kernel over its small shapes: ``python -m refkernels.check [--sanitize]``.

Alone, a quick gate: one line per shape, exit code 1 if any gate is red. With ``--sanitize`` the
same runs go under compute-sanitizer's memcheck and racecheck; where the tool is absent or the
machine's runtime refuses it, that is said ("not run") and is no failure.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence

from perfmodel.errors import PerfModelError
from refkernels._compile import device_capability
from refkernels._registry import pairs

TOOLS = ("memcheck", "racecheck")
REFUSALS = ("Device not supported", "unable to initialize", "Target application terminated before")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check every device variant on its small shapes; returns the exit code."""
    options = list(sys.argv[1:] if arguments is None else arguments)
    if options not in ([], ["--sanitize"]):
        sys.stderr.write("usage: python -m refkernels.check [--sanitize]\n")
        return 2
    try:
        capability = int(device_capability())
    except PerfModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    if options:
        return max(_sanitize(tool) for tool in TOOLS)
    return 1 if sum(_failures(capability)) else 0


def _failures(capability: int) -> list[bool]:
    failed = []
    for seed, (variant, workload) in enumerate(pairs("device", small=True)):
        if not variant.runs_on(capability):
            continue
        gate = variant.build(workload, seed, 1).gate()
        verdict = "pass" if gate.passed else "FAIL"
        sizes = " ".join(f"{k}={v}" for k, v in workload.to_dict().items())
        sys.stdout.write(f"{verdict} {variant.kernel} {gate.metric}={gate.error:.3g} {sizes}\n")
        failed.append(not gate.passed)
    return failed


def _sanitize(tool: str) -> int:
    """One tool over all checks; 0 clean or not run, 1 otherwise."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        sys.stdout.write(f"{tool}: not run, compute-sanitizer is not installed\n")
        return 0
    command = [program, "--tool", tool, "--error-exitcode", "9"]
    run = subprocess.run(  # noqa: S603 -- our own module under a tool found on the path
        [*command, sys.executable, "-m", "refkernels.check"],
        capture_output=True,
        text=True,
        check=False,
    )
    refusal = next((r for r in REFUSALS if r in run.stdout + run.stderr), None)
    if run.returncode and refusal:
        sys.stdout.write(f"{tool}: not run, this machine refuses it: {refusal}\n")
        return 0
    if run.returncode:
        sys.stdout.write(run.stdout + run.stderr)
    sys.stdout.write(f"{tool}: {'clean' if run.returncode == 0 else 'FAILED'}\n")
    return 1 if run.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
