"""Every reader of the package, with sound input to damage: a name, samples, and a call."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from perfmodel import api, catalog
from perfmodel.cli import main
from perfmodel.mcu.networks import built_in
from perfmodel.measure.readers import read_roofs
from perfmodel.report.scenario import read_scenario
from perfmodel.validation import validate_files
from perfmodel.workload import Gemm
from tests.fuzz.mutate import damaged_bytes, damaged_json, damaged_text, damaged_words

NETWORKS = ("ds-cnn", "resnet8", "autoencoder")
DEVICES = (
    "h100-sxm-80gb",
    "a100-sxm-80gb",
    "stm32f746",
    "epyc-9654",
    "jetson-orin-nx-16gb",
    "gap9",
)
MODELS = (
    "llama-3-8b", "mixtral-8x7b", "deepseek-v3", "gemma-2-9b", "jamba-v0.1", "mamba2-2.7b",
    "qwen3.5-27b", "bert-base", "deit-s", "nemotron-h-8b", "falcon-7b", "gpt-oss-20b",
)  # fmt: skip
PAGES = ("plan", "roofline", "kernels", "crossover", "compare", "edge", "accuracy")
GEMM = Gemm(m=64, n=128, k=256, dtype="bf16")

TABLE = """\
source,device,op,framework,dtype,m,n,k,flops,bytes,measured,unit,roofline,ratio,flag
mine,H100-SXM-80GB,gemm,torch,bf16,4096,4096,4096,137438953472,100663296,0.2,ms,0.139,1.44,
mine,A100-SXM-80GB,gemm,torch,fp16,1,4096,4096,33554432,33570816,25,us,0.016,1.5,
mine,H100-SXM-80GB,allreduce,nccl,bf16,,,,0,1048576,30,us,,,
"""
SCENARIO = """\
page = "plan"

[inputs]
model = "llama-3.1-70b"
device = ["h100-sxm-80gb"]
users = "64"
prompt = "8192"
output = "512"
ttft = "2 s"
"""
COMMANDS = tuple(
    shlex.split(line)
    for line in """\
devices --kind gpu
show h100-sxm-80gb --measured
models llama-3-8b
estimate gemm m=4096 n=4096 k=4096 dtype=int8 --on h200-sxm
estimate attention batch=1 q_len=64 kv_len=64 heads=8 kv_heads=2 head_dim=64 --on a100-sxm-80gb
estimate llama-2-70b --on a100-sxm-80gb --tp 4 --phase prefill --prompt 2048 --batch 1 --dtype fp16
estimate llama-3-8b --on h100-sxm-80gb --phase decode --context 2048 --batch 16 --explain
estimate resnet8 --on stm32l4r5 --runtime hale --battery '1000 mAh' --every 10s
capacity yi-34b-200k --on a100-sxm-80gb --context 50000 --memory '80 GB'
capacity mixtral-8x7b --on h100-sxm-80gb --context 4096 --tp 2 --kv-dtype fp8
plan llama-3-8b --on h100-sxm-80gb --users 8 --prompt 512 --output 64 --ttft 2s --tpot 50ms
plan llama-3-8b --on h100-sxm-80gb --rate 2 --prompt 512 --output 64 --price 2.5
arena ds-cnn --on stm32f746 --no-fuse --reserve '24 KiB'
compare gemm m=64 n=64 k=64 --on h100-sxm-80gb --on a100-sxm-80gb
crossover --on h200-sxm --phase decode --batch 16
sweep gemm m=1,16,256 n=4096 k=4096 --on h100-sxm-80gb
doctor""".splitlines()
)


@dataclass(frozen=True, slots=True)
class Reader:
    """``make(rng)`` damages a sample; ``use(case, folder)`` gives it to the reader.

    ``use`` returns nothing where input was answered or refused as it must be; it may raise.
    """

    make: Callable[[random.Random], Any]
    use: Callable[[Any, Path], None]


def _file(suffix: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], None]:
    """Write the damaged bytes into a file of a new name, read it, remove it."""

    def use(data: bytes, folder: Path) -> None:
        path = folder / f"case-{_serial()}{suffix}"
        path.write_bytes(data)
        try:
            read(path)
        finally:
            path.unlink()

    return use


_COUNT = iter(range(10**9))


def _serial() -> int:
    return next(_COUNT)


@cache
def _texts(kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(catalog.find(kind, name).read_text() for name in names)  # type: ignore[arg-type]


def _device(path: Path) -> None:
    api.estimate(GEMM, api.device(path))


def _model(path: Path) -> None:
    api.step(api.model(path), "h100-sxm-80gb", phase="decode", batch=2, context=128)


def _arena(path: Path) -> None:
    api.arena(path, "stm32f746", reorder=False)


@cache
def _measured() -> Any:
    whole = json.loads(catalog.find("measured", "h200-sxm-elementwise-2026-11-23").read_text())
    return whole | {"measurements": whole["measurements"][:3]}


@cache
def _roofs() -> Any:
    whole = json.loads(catalog.find("measured", "h200-sxm-roofs-2026-11-23").read_text())
    return whole | {"measurements": whole["measurements"][:6]}


def _benchmark() -> Any:
    info = {
        "kernel": "refkernels.int8_gemm/host", "device": "epyc-9654", "launch": "eager",
        "workload": {"op": "gemm", "m": 64, "n": 64, "k": 64, "dtype": "int8"},
        "gate": {"passed": True, "error": 0.0, "tolerance": 0.0, "metric": "mismatches"},
    }  # fmt: skip
    stats = {"median": 1e-5, "q1": 9e-6, "q3": 2e-5, "mean": 1e-5, "rounds": 5}
    return {
        "version": "5",
        "machine_info": {},
        "benchmarks": [{"name": "a", "extra_info": info, "stats": stats}] * 2,
    }


@cache
def _network(suffix: str, name: str) -> bytes:
    from tests.mcu.files import to_onnx, to_tflite

    network = built_in(name)
    return to_tflite(network) if suffix == ".tflite" else _onnx(to_onnx(network))


def _onnx(model: Any) -> bytes:
    return model if isinstance(model, bytes) else bytes(model.SerializeToString())


def ask(words: Sequence[str], folder: Path) -> None:
    """One command line in this process; its exit code and words are those of an answer or a
    refusal, never of a crash."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    said = err.getvalue()
    assert code in (0, 1, 2, 3), (code, said)
    assert "Traceback" not in said + out.getvalue()
    assert code in (0, 1) or said.startswith("error: "), (code, said)


def _command(rng: random.Random) -> list[str]:
    words = damaged_words(list(rng.choice(COMMANDS)), rng)
    # These serve, measure or fit for as long as they are let: they read nothing of a stranger's.
    return words if not {"dash", "probe", "calibrate"} & set(words) else ["doctor"]


READERS: dict[str, Reader] = {
    "device": Reader(
        lambda rng: damaged_text(rng.choice(_texts("hw", DEVICES)), rng), _file(".toml", _device)
    ),
    "config": Reader(
        lambda rng: damaged_json(json.loads(rng.choice(_texts("models", MODELS))), rng),
        _file(".json", _model),
    ),
    "table": Reader(
        lambda rng: damaged_text(TABLE, rng), _file(".csv", lambda path: validate_files([path]))
    ),
    "benchmark": Reader(
        lambda rng: damaged_json(_benchmark(), rng),
        _file(".json", lambda path: validate_files([path])),
    ),
    "measurement": Reader(
        lambda rng: damaged_json(_measured(), rng),
        _file(".json", lambda path: validate_files([path])),
    ),
    "roofs": Reader(lambda rng: damaged_json(_roofs(), rng), _file(".json", read_roofs)),
    "scenario": Reader(
        lambda rng: damaged_text(SCENARIO, rng),
        lambda data, folder: (read_scenario(data, PAGES), None)[1],
    ),
    "tflite": Reader(
        lambda rng: damaged_bytes(_network(".tflite", rng.choice(NETWORKS)), rng),
        _file(".tflite", _arena),
    ),
    "onnx": Reader(
        lambda rng: damaged_bytes(_network(".onnx", rng.choice(NETWORKS)), rng),
        _file(".onnx", _arena),
    ),
    "command": Reader(_command, ask),
}
"""What reads something of a stranger's."""
