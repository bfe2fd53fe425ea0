"""Checks and times the mixers beside peers: ``python -m refkernels.recurrent_bench --out DIR``.

Jobs run one after another, each in a child process under a time limit, so that a kernel that hangs
costs its own job only; a variant whose gate is red at a shape gets no time there. Results land in
DIR as each job ends: ``recurrent_<job>.json`` (measurements) and a line per timing on the terminal.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.errors import PerfModelError
from perfmodel.workload import (
    DeltaRule,
    Elementwise,
    LinearAttention,
    SelectiveScan,
    Ssd,
    Workload,
)
from refkernels._check import Gate
from refkernels._jobs import or_exit, why_failed
from refkernels._mixer_peers import peers
from refkernels._mixer_sizes import GRIDS
from refkernels._mixer_sources import compile_variants
from refkernels._mixer_sweeps import SWEEPS
from refkernels._mixer_work import work
from refkernels._record import gpu_device, kernel_time, measurement_file, write_json
from refkernels._registry import OPERATORS, Operator, Problem, Variant
from refkernels._timing import Timing, rotation_sets, time_kernel

LIMIT_S = 110
"""Seconds a job may take before it is killed."""

MEMORY_BYTES = 40e9
"""Most device memory for rotating input sets."""

TIMED_S, GRID_S = 0.25, 0.04
"""Device seconds spent on a timing of a ladder or a peer, and of a grid's shape."""

FOLDERS = {
    "selective_scan": "selective_scan",
    "gla": "gla",
    "delta_rule": "delta_rule",
    "ssd": "gla",
}
"""Operator (or what its name begins with) -> its folder below ``cuda/``."""

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the jobs (default: all), or the one named by ``--job`` in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--device-name", help="the spec that the device's figures belong to")
    parser.add_argument("--job", choices=list(JOBS), help="run this one here, in this process")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.job:
        return _run_here(options.job, options.out, options.device_name)
    for (source, defines), spilled in compile_variants():
        if spilled:
            _say(f"{source} {defines} spills {spilled} bytes")
    return max(_run_child(name, options.out, options.device_name) for name in options.jobs)


def _run_child(name: str, out: Path, device: str | None) -> int:
    start = time.perf_counter()
    more = ("--device-name", device) if device else ()
    why = why_failed(__spec__.name, name, out, LIMIT_S, *more)
    _say(f"[{name}] {why or 'done'} ({time.perf_counter() - start:.0f} s)")
    return int(why is not None)


def _run_here(name: str, out: Path, device: str | None) -> int:
    path = out / f"recurrent_{name}.json"

    def job() -> bool:
        rows: list[Row] = []
        failed = False
        for row in JOBS[name]():
            failed |= not row["ok"]
            if row["measurement"] is not None:
                rows.append(row["measurement"])
                # Written as they come: what was measured before a hang is not lost.
                content = measurement_file(gpu_device(device), rows, family=_folder(name))
                write_json(path, content)
        return failed

    return int(or_exit(job))


def _folder(job: str) -> str:
    """The folder below ``cuda/`` that a job's kernels are in: their revision is the file's."""
    operator = job.partition("_")[2]
    return next(f for name, f in FOLDERS.items() if operator.startswith(name))


def _checked(operator: str) -> Callable[[], Iterator[Row]]:
    """The random shapes and hard inputs of an operator's sweep, over all of its rungs."""

    def job() -> Iterator[Row]:
        worst, failures, count = 0.0, [], 0
        for label, gate in SWEEPS[operator]():
            count += 1
            # What must be equal to the bit has no limit to be a share of.
            worst = max(worst, gate.error / gate.tolerance if gate.tolerance else gate.error)
            if not gate.passed:
                failures.append(f"{label} {gate.error:.3g}")
        verdict = "pass" if not failures else f"FAIL {failures[:8]}"
        _say(f"check {operator:16} {count:4} cases, worst {worst:.2f} of the limit, {verdict}")
        yield {"ok": not failures, "measurement": None}

    return job


def _timed(operator: str) -> Callable[[], Iterator[Row]]:
    """Every rung of an operator on its timed workloads, beside our copy where bytes are the bar."""

    def job() -> Iterator[Row]:
        found = _operator(operator)
        for workload in found.timed:
            for variant in found.variants:
                if variant.where == "device":
                    yield _rung(variant, workload, TIMED_S)
            if _length(workload) == 1 or isinstance(workload, Ssd):
                yield from _copy(workload)

    return job


def _peered(operator: str) -> Callable[[], Iterator[Row]]:
    """What others offer, on an operator's timed workloads; Triton kernels tune themselves first."""

    def job() -> Iterator[Row]:
        for workload in _operator(operator).timed:
            yield from _peers(workload)

    return job


def _grid(operator: str) -> Callable[[], Iterator[Row]]:
    """Many shapes, each by the rung that the launcher chooses, timed shortly."""

    def job() -> Iterator[Row]:
        for workload in GRIDS[operator]:
            yield _rung(_chosen(operator, workload), workload, GRID_S)

    return job


def _operator(name: str) -> Operator:
    return next(o for o in OPERATORS if o.name == name)


def _chosen(operator: str, workload: Workload) -> Variant:
    """The variant that a caller who names no rung gets."""
    wide = isinstance(workload, SelectiveScan) and workload.dtype == "fp32"
    if operator == "selective_scan" and not wide:
        return _operator("selective_scan_16_bits").variants[-1]
    return [v for v in _operator(operator).variants if v.where == "device"][-1]


def _sets(workload: Workload) -> int:
    moved = work(workload).moved_bytes
    return max(1, min(rotation_sets(moved), int(MEMORY_BYTES / moved)))


def _rung(variant: Variant, workload: Workload, budget_s: float) -> Row:
    sets = _sets(workload)
    problem: Problem = variant.build(workload, 1, sets)
    gate = problem.gate()
    timing = time_kernel(problem.run, sets=sets, budget_s=budget_s) if gate.passed else None
    return _row(variant.kernel, workload, timing, gate)


def _copy(workload: Workload) -> Iterator[Row]:
    """Our copy kernel on as many bytes as the workload moves: what it is measured against."""
    elements = int(work(workload).moved_bytes / 8) // 4 * 4
    same = Elementwise(elements=elements, flops=0.0, dtype="fp32", name="copy")
    variant = _operator("copy").variants[-1]
    problem = variant.build(same, 1, 3)
    timing = time_kernel(problem.run, sets=3, budget_s=TIMED_S)
    measured = kernel_time(
        same, variant.kernel, timing, flops=0.0, moved_bytes=8.0 * elements, gate=problem.gate()
    )
    rate = 8e-9 * elements / timing.time_s
    _say(f"{variant.kernel:44} as many bytes {timing.time_s * 1e6:21.2f} us {rate:6.0f} GB/s")
    yield {"ok": True, "measurement": measured}


def _peers(workload: Workload) -> Iterator[Row]:
    from refkernels.int8_gemm.peers import capture_torch, framework

    for peer in peers(workload):
        try:
            sets = min(_sets(workload), 3)
            call = peer.build(sets)
            timing = time_kernel(call, sets=sets, budget_s=TIMED_S, capture=capture_torch)
        except Exception as error:  # noqa: BLE001 -- a peer that does not run here is not our failure
            _say(f"{peer.kernel:38} does not run here: {type(error).__name__}: {error!s:.120}")
            continue
        yield _row(peer.kernel, workload, timing, None, framework=framework())


def _length(workload: Workload) -> int:
    assert isinstance(workload, SelectiveScan | LinearAttention | DeltaRule | Ssd)
    return int(np.asarray(workload.seq_len))


def _row(
    name: str,
    workload: Workload,
    timing: Timing | None,
    gate: Gate | None,
    framework: str | None = None,
) -> Row:
    shape = "x".join(str(v) for v in workload.to_dict().values() if isinstance(v, int))
    if timing is None:
        _say(f"{name:44} {shape:26} gate red: {gate}")
        return {"ok": False, "measurement": None}
    done = work(workload)
    _say(
        f"{name:44} {shape:26} {timing.time_s * 1e6:9.2f} us"
        f" {done.moved_bytes / timing.time_s / 1e9:6.0f} GB/s"
        f" {done.flops / timing.time_s / 1e12:6.1f} TFLOP/s  spread {timing.spread:.3f}"
        f" {(timing.sm_clock_hz or 0) / 1e6:5.0f} MHz {timing.power_w or 0:4.0f} W"
    )
    measured = kernel_time(
        workload,
        name,
        timing,
        flops=done.flops,
        moved_bytes=done.moved_bytes,
        gate=gate,
        framework=framework,
    )
    return {"ok": True, "measurement": measured}


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- this module is a command


JOBS: dict[str, Callable[[], Iterator[Row]]] = {
    **{f"check_{name}": _checked(name) for name in SWEEPS},
    **{
        f"time_{name}": _timed(name)
        for name in (
            "selective_scan_16_bits",
            "selective_scan",
            "gla",
            "delta_rule",
            "ssd",
            "selective_scan_step",
            "gla_step",
            "delta_rule_step",
            "ssd_step",
        )
    },
    **{f"grid_{name}": _grid(name) for name in GRIDS},
    **{
        f"peers_{name}": _peered(name)
        for name in ("selective_scan_16_bits", "gla", "delta_rule", "ssd")
    },
}
"""Name -> what it does; each in a process of its own."""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PerfModelError as refused:
        sys.stderr.write(f"error: {refused}\n")
        sys.exit(refused.exit_code)
