"""How fast the program itself answers: run by ``make bench``, printed and never asserted."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = {
    "operator": "estimate gemm m=4096 n=4096 k=4096 dtype=int8 --on h200-sxm",
    "step": "estimate llama-2-70b --on a100-sxm-80gb --tp 4 --phase decode --context 2048 "
    "--batch 16",
    "capacity": "capacity yi-34b-200k --on a100-sxm-80gb --context 50000",
    "plan": "plan llama-3.1-70b --on h100-sxm-80gb --users 64 --prompt 8192 --output 512 "
    "--ttft 2s --tpot 50ms",
    "arena": "arena mobilenet-v1-0.25-96 --on stm32f746",
}


@pytest.mark.benchmark(group="warm command, wall time")
@pytest.mark.parametrize("question", QUESTIONS)
def test_command_wall_time(benchmark, question, capsys):
    """A warm command, process start included; the target for an estimate is under 0.5 s."""
    command = [sys.executable, "-m", "perfmodel", *QUESTIONS[question].split(), "--json"]
    warm = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    cpu = []

    def answer():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=ROOT, env=warm, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return done

    done = benchmark.pedantic(answer, rounds=11, warmup_rounds=2)

    assert done.returncode == 0, done.stderr
    wall, used = benchmark.stats["median"], statistics.median(cpu[2:])
    benchmark.extra_info["cpu_s"] = used
    report(capsys, f"perfmodel {question}: {wall:.3f} s wall, {used:.3f} s CPU, warm, median of 11")


@pytest.mark.benchmark(group="sweep")
def test_sweep_predictions_per_second(benchmark, capsys):
    """Full-model decode predictions per second; the target on two cores is a million."""
    import perfmodel as pm

    grid = {
        "phase": "decode",
        "batch": np.arange(1, 513),
        "context": np.linspace(256, 32768, 128, dtype=np.int64),
        "tp": [1, 2, 4, 8],
        "dtype": ["bf16", "fp8"],
    }
    models = ["llama-3-8b", "llama-3-70b"]

    def sweep():
        return pm.sweep(models, "h100-sxm-80gb", lean=True, **grid)

    found = benchmark.pedantic(sweep, rounds=5, warmup_rounds=1)

    assert np.isfinite(found.time_s).all()
    rate = found.size / benchmark.stats["median"]
    benchmark.extra_info["predictions"] = found.size
    benchmark.extra_info["predictions_per_s"] = rate
    report(capsys, f"pm.sweep: {found.size:,} predictions, {rate:,.0f} per second")


def report(capsys, line):
    with capsys.disabled():
        print(f"\n{line}")


@pytest.mark.benchmark(group="arena planning, in process")
@pytest.mark.parametrize("network", ["mobilenet-v1-0.25-96", "mcuformer"])
def test_arena_planning(benchmark, network):
    """A whole arena plan, every move tried; the target for MobileNetV1 is under 2 s."""
    from perfmodel import api

    plan = benchmark(api.arena, network, "stm32f746")

    assert plan.fits
