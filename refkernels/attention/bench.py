"""Checks and times attention beside its peers: ``python -m refkernels.attention.bench --out DIR``.

Each job runs in a child process under a time limit, so that a kernel that hangs costs its own job
only; a job that would start after the whole command's limit is skipped and reported so. A kernel
whose gate is red gets no time. Peers (torch) are timed in the same process, on the same shapes;
in prefill they and ours take turns under one load.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from refkernels._compile import compile_kernel
from refkernels._jobs import Part, run_child, run_here
from refkernels._record import gpu_device, measurement_file, write_json
from refkernels._sources import kernel_source
from refkernels.attention import beside, beside_decode, timed
from refkernels.attention.cases import random_cases, random_decodes
from refkernels.attention.decode import KV_CODES
from refkernels.attention.device import HEAD_DIMS, RUNGS, Operands, Prepared, tile_choices
from refkernels.attention.gates import Sweep, rung, sweep, sweep_decode

SHAPES = 300
"""Random shapes for the gates of the kernels that are used by default."""

FEWER = 60
"""The same for the lower rungs and the other types."""

LIMIT_S = 120
"""Seconds a job may take before it is killed."""

AT_ONCE = 6
"""Gates that run side by side; their time goes into the oracle's many small launches."""

WHOLE_S = 540
"""Seconds after which no further job starts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the jobs of a phase, or the one named by ``--job`` in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--phase", choices=("check", "time", "all"), default="all")
    parser.add_argument("--jobs", nargs="*", choices=list(JOBS), help="these instead of a phase")
    parser.add_argument("--device-name", help="the spec that the device's figures belong to")
    parser.add_argument("--whole-s", type=float, default=WHOLE_S, help="start no job after this")
    parser.add_argument("--job", choices=list(JOBS), help="run this one here, in this process")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.job:
        return run_here(options.job, JOBS[options.job], options.out)
    start = time.monotonic()
    names = options.jobs or _phase(options.phase)
    compile_launches(names)
    _say(f"compiled after {time.monotonic() - start:.0f} s")
    checks = [name for name in names if name.startswith("check")]
    with ThreadPoolExecutor(AT_ONCE) as pool:  # what is not timed may share the device
        parts = pool.map(partial(_child, options.out), checks)
        results = dict(zip(checks, parts, strict=True))
    for name in [name for name in names if name not in results]:
        if time.monotonic() - start > options.whole_s:
            results[name] = {"ok": False, "report": "skipped: no time left", "measurements": []}
            _say(f"[{name}] skipped: no time left")
        else:
            results[name] = _child(options.out, name)
        _write(options.out, results, options.device_name)
    _write(options.out, results, options.device_name)
    return 0 if all(part["ok"] for part in results.values()) else 1


def _child(out: Path, name: str) -> Part:
    return run_child(__spec__.name, name, out, LIMIT_S)


def _phase(phase: str) -> list[str]:
    return [name for name in JOBS if phase in ("all", name.split("_")[0])]


def _write(out: Path, results: dict[str, Part], device_name: str | None) -> None:
    """After every job, so that a killed command leaves what it has."""
    measurements = [m for part in results.values() for m in part.get("measurements", [])]
    content = measurement_file(gpu_device(device_name), measurements)
    write_json(out / "attention.json", content)
    reports = {name: part["report"] for name, part in results.items()}
    write_json(out / "attention_report.json", reports)


def compile_launches(names: Sequence[str]) -> None:
    """Every variant that the jobs launch, side by side: compilation is one child process each."""
    decoding = {"decode" in name for name in names}
    jobs = prefill_variants() if False in decoding else []
    jobs += decode_variants() if True in decoding else []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(compile_kernel, kernel_source(s), defines=d) for s, d in jobs]
        for job in waiting:
            job.result()


def prefill_variants() -> list[tuple[str, dict[str, int]]]:
    """Sources and defines of the ladders' launches, as ``device.base_defines`` makes them."""
    from refkernels.sigmoid_attention.device import FORMS
    from refkernels.sigmoid_attention.device import RUNGS as SIGMOID

    found: list[tuple[str, dict[str, int]]] = [
        (rung.source, {"HEAD_DIM": head_dim, "FP16": fp16} | tile | form)
        for ladder, forms in ((RUNGS, [{}]), (SIGMOID, [{"FORM": f} for f in FORMS.values()]))
        for rung in ladder.values()
        for head_dim in HEAD_DIMS
        for tile in tile_choices(rung, head_dim)
        for fp16 in (0, 1)
        for form in forms
    ]
    balanced = (FORMS["balanced"], FORMS["halved"])
    return [job for job in found if job[1].get("FORM") not in balanced or _balances(*job)]


def _balances(source: str, defines: dict[str, int]) -> bool:
    """Whether the launcher takes a balanced form there."""
    return "persistent" in source and not defines["FP16"]


def decode_variants() -> list[tuple[str, dict[str, int]]]:
    """Defines of decoding's launches, as ``decode.decode_defines`` makes them."""
    found: list[tuple[str, dict[str, int]]] = []
    for kind in ("bf16", "fp8", "int8"):
        for head_dim in HEAD_DIMS:
            codes = {"HEAD_DIM": head_dim, "KV": KV_CODES[kind]}
            found += [
                (
                    "attention/decode_split_kv.cu",
                    codes | {"STRIPS": strips, "FP16": fp16, "FIXED": fixed},
                )
                for strips in ((1, 2) if head_dim < 256 else (1,))
                for fp16 in (0, 1)
                for fixed in (0, 1)
            ]
    return found


# ---------------------------------------------------------------- jobs


def _check(name: str, run: Callable[[], Sweep]) -> Callable[[], Part]:
    def job() -> Part:
        result = run()
        verdict = "pass" if result.passed else f"FAIL {result.failures[:4]}"
        _say(
            f"check {name:34} {result.shapes:4} shapes, worst {result.worst:.3g} of the bound,"
            f" rms {result.rms_ratio:.3f} of plain, {verdict}"
        )
        return {"ok": result.passed, "report": result.report(), "measurements": []}

    return job


def _check_rung(name: str, count: int, dtype: str) -> Callable[[], Part]:
    return _check(
        f"{name} {dtype}", lambda: sweep(random_cases(count, 1, dtype=dtype), rung(name), 100)
    )


def _check_sigmoid(name: str, count: int, dtype: str) -> Callable[[], Part]:
    from refkernels.sigmoid_attention.device import RUNGS as SIGMOID
    from refkernels.sigmoid_attention.device import prepare_sigmoid

    def prepared(x: Operands) -> list[Prepared]:
        tiles = tile_choices(SIGMOID[name], x.head_dim)
        return [prepare_sigmoid(x, name, defines=tile) for tile in tiles]

    cases = random_cases(count, 2, score="sigmoid", dtype=dtype)
    return _check(f"sigmoid {name} {dtype}", lambda: sweep(cases, prepared, 200))


def _check_decode(count: int, dtype: str, kv_dtype: str) -> Callable[[], Part]:
    return _check(
        f"decode {dtype} with {kv_dtype}",
        lambda: sweep_decode(random_decodes(count, 3, dtype=dtype, kv_dtype=kv_dtype), 300),
    )


def _timed(run: Callable[[], list[timed.Row]]) -> Callable[[], Part]:
    def job() -> Part:
        rows = run()
        return {
            "ok": all(r["ok"] for r in rows),
            "report": [r["line"] for r in rows],
            "measurements": [m for r in rows if (m := r["measurement"]) is not None],
        }

    return job


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- this module is a command


JOBS: dict[str, Callable[[], Part]] = {
    "check_05": _check_rung("05_persistent", SHAPES, "bf16"),
    "check_decode": _check_decode(SHAPES, "bf16", "bf16"),
    "check_sigmoid": _check_sigmoid("02_persistent", SHAPES, "bf16"),
    "check_05_fp16": _check_rung("05_persistent", SHAPES, "fp16"),
    "check_decode_fp16": _check_decode(SHAPES, "fp16", "fp16"),
    "check_decode_fp8": _check_decode(SHAPES, "bf16", "fp8"),
    "check_decode_int8": _check_decode(SHAPES, "fp16", "int8"),
    "check_sigmoid_fp16": _check_sigmoid("02_persistent", SHAPES, "fp16"),
    "check_sigmoid_01": _check_sigmoid("01_mma_sync", FEWER, "bf16"),
    **{f"check_{name[:2]}": _check_rung(name, FEWER, "bf16") for name in list(RUNGS)[:4]},
    **{f"time_d{d}": _timed(partial(beside.grid, d)) for d in (128, 64, 256)},
    "time_grouped": _timed(beside.grouped),
    "time_decode": _timed(beside_decode.decode),
    "time_layouts": _timed(beside_decode.layouts),
    "time_rest": _timed(lambda: beside.packed() + beside.others() + timed.ladder()),
    "time_alone": _timed(timed.alone),
}
"""Name -> what it does, in order of importance; each in a process of its own."""


if __name__ == "__main__":
    sys.exit(main())
