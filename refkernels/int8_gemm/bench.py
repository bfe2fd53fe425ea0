"""Checks and times the ladder beside its peers: ``python -m refkernels.int8_gemm.bench --out DIR``.

Each job runs in a child process under a time limit, so that a kernel that hangs costs its own job
only. A kernel whose gate is red gets no time. Peers (torch) are timed in the same process, right
beside the rungs, on the same shapes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refkernels._compile import compile_kernel
from refkernels._jobs import run_child, run_here
from refkernels._record import gpu_device, measurement_file, write_json
from refkernels._sources import kernel_source, read_spec
from refkernels.int8_gemm import timed
from refkernels.int8_gemm.device import OUT_CODES, RUNGS
from refkernels.int8_gemm.gates import sweep_llm_int8, sweep_products

SHAPES = 200
"""Random shapes per rung for the exact int32 gate."""

LIMIT_S = 240
"""Seconds a job may take before it is killed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all jobs, or the one named by ``--job`` in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--device-name", help="the spec that the device's figures belong to")
    parser.add_argument("--job", choices=list(JOBS), help="run this one here, in this process")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.job:
        return run_here(options.job, JOBS[options.job], options.out)
    _compile_all()
    results = {n: run_child(__spec__.name, n, options.out, LIMIT_S) for n in options.jobs}
    measurements = [m for part in results.values() for m in part.get("measurements", [])]
    write_json(
        options.out / "int8_gemm.json",
        measurement_file(gpu_device(options.device_name), measurements, family="int8_gemm"),
    )
    reports = {name: part["report"] for name, part in results.items()}
    write_json(options.out / "int8_gemm_report.json", reports)
    return 0 if all(part["ok"] for part in results.values()) else 1


def _compile_all() -> None:
    """Every variant that the jobs launch, at once: compilation is one child process each."""

    def compile_one(job: tuple[Path, dict[str, str]]) -> None:
        compile_kernel(job[0], defines=job[1])

    sources = [kernel_source(f"int8_gemm/{name}.cu") for name in (*RUNGS, "quantise")]
    jobs = [(s, dict(variant)) for s in sources for variant in read_spec(s).variants]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(compile_one, jobs))


def _check(rung: str) -> Callable[[], dict[str, Any]]:
    def job() -> dict[str, Any]:
        sweeps = {
            kind: sweep_products(rung, kind, SHAPES if kind == "int32" else 40, seed=index)
            for index, kind in enumerate(OUT_CODES)
        }
        return _swept(rung, sweeps)

    return job


def _check_llm() -> dict[str, Any]:
    sweeps = {kind: sweep_llm_int8(kind, 40, seed=9) for kind in ("bf16", "fp16")}
    return _swept("llm_int8", sweeps)


def _swept(name: str, sweeps: dict[str, Any]) -> dict[str, Any]:
    for kind, sweep in sweeps.items():
        verdict = "pass" if sweep.passed else f"FAIL {sweep.failures[:6]}"
        _say(
            f"check {name:22} {kind:6} {sweep.shapes:4} shapes, worst {sweep.worst:.3g}, {verdict}"
        )
    return {
        "ok": all(sweep.passed for sweep in sweeps.values()),
        "report": {kind: asdict(sweep) for kind, sweep in sweeps.items()},
    }


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- this module is a command


def _timed(run: Callable[[], list[dict[str, Any]]]) -> Callable[[], dict[str, Any]]:
    def job() -> dict[str, Any]:
        rows = run()
        return {
            "ok": all(r["ok"] for r in rows),
            "report": [r["line"] for r in rows],
            "measurements": [m for r in rows if (m := r["measurement"]) is not None],
        }

    return job


JOBS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"check_{rung}": _check(rung) for rung in RUNGS},
    "check_llm_int8": _check_llm,
    "time_large": _timed(timed.large),
    "time_skinny": _timed(timed.skinny),
    "time_llm_int8": _timed(timed.llm_int8),
}
"""Name -> what it does; each in a process of its own."""


if __name__ == "__main__":
    sys.exit(main())
