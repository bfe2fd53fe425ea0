"""What the screen says is what the command line and Python say."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shlex

import pytest

from perfmodel.cli import main
from perfmodel.report.shown import dollars, seconds
from perfmodel.report.tables import plain
from perfmodel.units import format_binary, format_si

MODELS = ("llama-3.1-70b", "llama-3.1-8b", "qwen3-8b", "mixtral-8x7b", "mamba2-2.7b", "deepseek-v3")
GPUS = ("h100-sxm-80gb", "h200-sxm", "a100-sxm-80gb", "b200-sxm", "l40s", "mi300x")
SCENARIOS = 20


def draw(seed: int) -> tuple[str, dict[str, object]]:
    """A page and inputs for it; the seeds go round the pages."""
    r = random.Random(seed)
    name = ("plan", "roofline", "compare", "crossover", "edge")[seed % 5]
    return name, DRAWN[name](r)


def draw_plan(r: random.Random) -> dict[str, object]:
    return {
        "model": r.choice(MODELS),
        "devices": r.sample(GPUS, r.choice([1, 2])),
        "users": r.choice([1, 16, 100]),
        "prompt": r.choice([512, 4096]),
        "output": r.choice([128, 700]),
        "tpot": r.choice(["", "30ms", "80ms"]),
        "rank": r.choice(["cost", "latency", "devices"]),
    }


def draw_crossover(r: random.Random) -> dict[str, object]:
    return {
        "device": r.choice(GPUS),
        "stage": r.choice(["decode", "prefill"]),
        "batch": r.choice([1, 4, 32]),
        "heads": 64,
        "kv_heads": r.choice([8, 64]),
    }


def draw_edge(r: random.Random) -> dict[str, object]:
    board = r.choice(["stm32l4r5", "stm32h7a3", "stm32u575", "nrf52840", "rp2040"])
    return {
        "network": r.choice(["resnet8", "ds-cnn", "autoencoder", "mobilenet-v1-0.25-96"]),
        "board": board,
        "clock": r.choice(["", "64 MHz"]),
        "fuse": r.choice(["yes", "no"]),
    }


def draw_subject(r: random.Random) -> dict[str, object]:
    if r.random() < 0.4:
        fields = f"m={r.choice([16, 4096])} n=8192 k=4096 dtype={r.choice(['bf16', 'int8'])}"
        return {"subject": "gemm", "gemm_fields": fields}
    return {
        "model": r.choice(MODELS),
        "phase": r.choice(["decode", "prefill", "mixed"]),
        "batch": r.choice([1, 8, 48]),
        "context": r.choice([512, 3000, 16384]),
        "prompt": r.choice([512, 4096]),
        "tp": r.choice([1, 2, 4, 8]),
        "dtype": r.choice(["auto", "bf16"]),
    }


DRAWN = {
    "plan": draw_plan,
    "roofline": lambda r: {"device": r.choice(GPUS)} | draw_subject(r),
    "compare": lambda r: {"devices": r.sample(GPUS, 3)} | draw_subject(r),
    "crossover": draw_crossover,
    "edge": draw_edge,
}


def answered(line: str) -> tuple[int, dict]:
    """The exit code and JSON of a command line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main([*shlex.split(line)[1:], "--json"])
    return code, json.loads(out.getvalue())


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_screen_equals_command_line(page, seed):
    """A page's figures are those that its own command line prints."""
    name, inputs = draw(seed)
    shown = page(name, **inputs)
    if shown.said("error"):
        pytest.fail(f"{name} {inputs}: {shown.said('error')}")
    for line in shown.shown_as("Command line").splitlines():
        code, answer = answered(line)
        assert code in (0, 1)
        CHECKS[name](shown, answer)


def check_plan(shown, answer):
    if not answer["plans"]:
        assert "NO PLAN" in shown.said("warning")[0]
        return
    best = answer["plans"][0]
    assert shown.metrics == {
        "Buy": f"{best['devices']} devices",
        "TTFT": seconds(best["ttft_s"]["value"]),
        "TPOT": seconds(best["tpot_s"]["value"]),
        "Levels hold": "-" if best["chance"] is None else f"{best['chance']:.0%}",
        "Tokens/s out": plain(best["tokens_per_s"]),
        "Cost per M out": dollars(best["cost"]["usd_per_million_output_tokens"]),
    }
    for relief in answer["relax"]:
        assert relief["change"] in shown.tables
        assert dollars(relief["usd_per_million_output_tokens"]) in shown.tables


def check_roofline(shown, answer):
    assert shown.metrics["Time"] == seconds(answer["time_s"])
    assert shown.metrics["Lower bound"] == seconds(answer["lower_bound_s"])
    assert shown.metrics["Bound by"] == answer["bound"]
    for part in answer["parts"]:
        assert seconds(part["count"] * part["time_s"]) in shown.tables


def check_compare(shown, answer):
    for row in answer["rows"]:
        assert row["device"] in shown.tables
        if row["estimate"] is not None:
            for key in ("time_s", "low_s", "high_s", "lower_bound_s"):
                assert seconds(row["estimate"][key]) in shown.tables


def check_crossover(shown, answer):
    for point in answer["break_evens"]:
        assert f"{point['context']:,.0f}" in shown.tables
    for mixer in answer["mixers"]:
        for time_s in mixer["estimate"]["time_s"] if mixer["estimate"] else []:
            assert seconds(time_s) in shown.tables


def check_edge(shown, answer):
    if "peak_bytes" in answer:
        assert shown.metrics["Arena"] == format_binary(answer["peak_bytes"])
        return
    assert shown.metrics["Latency"] == seconds(answer["time_s"])
    energy = answer.get("energy")
    assert shown.metrics["Energy"] == (format_si(energy["energy_j"], "J") if energy else "-")
    for part in answer["parts"]:
        assert seconds(part["time_s"]) in shown.tables


CHECKS = {
    "plan": check_plan,
    "roofline": check_roofline,
    "compare": check_compare,
    "crossover": check_crossover,
    "edge": check_edge,
}


@pytest.mark.parametrize("name", ["plan", "roofline", "compare", "crossover", "edge", "accuracy"])
def test_python_snippet_runs(page, name, root, monkeypatch):
    """The Python that a page offers runs and prints."""
    monkeypatch.chdir(root)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(page(name).shown_as("Python"), name, "exec"), {})

    assert out.getvalue().strip()


def test_python_of_an_operator(page):
    """An operator's snippet spells the workload as the public classes do."""
    shown = page("roofline", subject="gemm", gemm_fields="m=16 n=32 k=64 dtype=int8")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(shown.shown_as("Python"), "gemm", "exec"), {})

    printed = re.search(r": ([\d.]+) (\w+), bound by", out.getvalue())
    assert printed is not None
    assert shown.metrics["Time"] == f"{float(printed[1]):.3g} {printed[2]}"


@pytest.mark.parametrize("name", ["kernels", "accuracy"])
def test_measured_command_line(page, name, root, monkeypatch):
    """The pages of files name a command line that scores the same rows."""
    monkeypatch.chdir(root)
    shown = page(name)
    code, answer = answered(shown.shown_as("Command line"))

    assert code == 0
    if name == "accuracy":
        for file in answer["files"]:
            assert file["factor"] is None or plain(file["factor"]) in shown.tables
