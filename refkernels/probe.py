"""Measure this machine's roofs and write them as a measurement file.

``python -m refkernels.probe --out FILE`` measures the CUDA device if one is visible, else the
processor; ``--host`` chooses the processor. ``--device NAME`` names the spec that the figures
belong to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from perfmodel.errors import MissingExtra, PerfModelError
from refkernels._record import gpu_device, host_device, measurement_file, write_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the probe; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        gpu = not options.host and _cuda_visible()
        device = gpu_device(options.device) if gpu else host_device(options.device)
        roofs = []
        for roof in _gpu_roofs(options.budget) if gpu else _host_roofs(options.budget):
            sys.stderr.write(line(roof) + "\n")
            roofs.append(roof)
        write_json(options.out, measurement_file(device, roofs, family="roofs"))
    except PerfModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def line(roof: dict[str, Any]) -> str:
    """One roof as a line of text."""
    condition = " ".join(f"{k}={_short(v)}" for k, v in roof["condition"].items())
    clock = f" at {roof['sm_clock_hz'] / 1e6:.0f} MHz" if roof["sm_clock_hz"] else ""
    power = f" {roof['power_w']:.0f} W" if roof["power_w"] else ""
    value = f"{roof['value']:.4g} {roof['unit']}"
    return f"{roof['quantity']}: {value} (spread {roof['spread']:.3f}){clock}{power} {condition}"


def _short(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="refkernels.probe", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--device", help="name of the device's spec, e.g. h200-sxm")
    parser.add_argument("--host", action="store_true", help="measure the processor")
    parser.add_argument(
        "--budget", type=float, default=0.1, help="seconds per timed point (default 0.1)"
    )
    return parser


def _cuda_visible() -> bool:
    try:
        import cupy
    except ImportError:
        return False
    return bool(cupy.cuda.is_available())


def _gpu_roofs(budget_s: float) -> Iterator[dict[str, Any]]:
    from refkernels.roofs.device import device_roofs

    return device_roofs(budget_s)


def _host_roofs(budget_s: float) -> Iterator[dict[str, Any]]:
    try:
        from refkernels.roofs.host import host_roofs
    except ImportError:
        msg = "numba is not installed"
        raise MissingExtra(msg, fix="pip install 'perfmodel[host]'") from None
    return host_roofs(budget_s)


if __name__ == "__main__":
    sys.exit(main())
