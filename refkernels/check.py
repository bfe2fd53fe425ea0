"""Run every device kernel once over its small shapes: ``python -m refkernels.check``.

What ``make sanitize`` puts under compute-sanitizer; alone, a quick gate. Prints a line per shape
and exits 1 if any gate is red.
"""

from __future__ import annotations

import sys

from perfmodel.errors import PerfModelError
from refkernels._compile import device_capability
from refkernels._registry import pairs


def main() -> int:
    """Check every device variant on its small shapes; returns the exit code."""
    try:
        capability = int(device_capability())
    except PerfModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    failed = 0
    for seed, (variant, workload) in enumerate(pairs("device", small=True)):
        if variant.capability > capability:
            continue
        gate = variant.build(workload, seed, 1).gate()
        verdict = "pass" if gate.passed else "FAIL"
        sizes = " ".join(f"{k}={v}" for k, v in workload.to_dict().items())
        sys.stdout.write(f"{verdict} {variant.kernel} {gate.metric}={gate.error:.3g} {sizes}\n")
        failed += not gate.passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
