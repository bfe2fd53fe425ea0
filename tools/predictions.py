"""What the model predicts for 200 scenarios, and what a change of it changed.

``python tools/predictions.py`` prints how today's predictions differ from the recorded ones (exit
code 1 if they do); ``--write "WORDS"`` records today's, where WORDS must stand in CHANGELOG.md: a
change of predictions is news for those who rely on them.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import perfmodel as pm

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "tests" / "golden" / "predictions.json"
FIELDS = ("time_s", "low_s", "high_s", "lower_bound_s")
SAME = 1e-6
"""Relative difference that rounding in the file explains."""

GPUS = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm", "b200-sxm", "rtx-4090", "l40s")
OPERATORS: Mapping[str, Any] = {
    "gemm bf16 4096 cubed": pm.Gemm(m=4096, n=4096, k=4096),
    "gemm bf16 8 rows": pm.Gemm(m=8, n=28672, k=4096),
    "gemm fp8 8192 cubed": pm.Gemm(m=8192, n=8192, k=8192, dtype="fp8"),
    "gemm int8 odd": pm.Gemm(m=1000, n=4104, k=1032, dtype="int8"),
    "gemm fp32": pm.Gemm(m=2048, n=2048, k=2048, dtype="fp32"),
    "gemm w4a16": pm.Gemm(m=16, n=4096, k=4096, weight_dtype="int4", group_size=128),
    "prefill causal": pm.Attention(batch=1, q_len=8192, kv_len=8192, heads=32, head_dim=128),
    "prefill grouped 64": pm.Attention(
        batch=4, q_len=2048, kv_len=2048, heads=32, kv_heads=8, head_dim=64, causal=False
    ),
    "decode": pm.Attention(batch=16, q_len=1, kv_len=8192, heads=32, kv_heads=8, head_dim=128),
    "decode long": pm.Attention(
        batch=1, q_len=1, kv_len=131072, heads=64, kv_heads=8, head_dim=128
    ),
    "gated linear": pm.LinearAttention(batch=2, seq_len=8192, heads=16, key_dim=128, value_dim=128),
    "delta rule": pm.DeltaRule(
        batch=1, seq_len=8192, key_heads=8, value_heads=32, key_dim=128, value_dim=128
    ),
    "selective scan": pm.SelectiveScan(batch=8, seq_len=2048, channels=4096),
    "ssd": pm.Ssd(batch=8, seq_len=4096, heads=80),
    "rms norm": pm.Norm(rows=8192, cols=8192),
    "softmax": pm.Norm(rows=4096, cols=32768, kind="softmax"),
    "residual add": pm.Elementwise(elements=2**26, reads=2),
    "all-reduce": pm.Collective(bytes=2**25, ranks=8),
}
MODELS = (
    "llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "deepseek-v3", "gemma-2-27b", "nemotron-h-8b",
    "mamba2-2.7b", "qwen3.5-27b", "gpt-oss-120b",
)  # fmt: skip
STEPS: tuple[Mapping[str, Any], ...] = (
    {"phase": "decode", "batch": 16, "context": 4096, "tp": 8},
    {"phase": "prefill", "batch": 1, "prompt": 4096, "tp": 8},
    {"phase": "decode", "batch": 1, "context": 32768, "tp": 4},
)
STEP_GPUS = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm")
NETWORKS = ("resnet8", "ds-cnn", "mobilenet-v1-0.25-96", "autoencoder")
BOARDS = ("stm32l4r5", "stm32h7a3", "gap9", "rp2040")


def scenarios() -> Iterator[tuple[str, Callable[[], pm.Estimate]]]:
    """Name -> question, in a fixed order."""
    for (name, work), gpu in itertools.product(OPERATORS.items(), GPUS):
        yield f"{name} on {gpu}", lambda work=work, gpu=gpu: pm.estimate(work, gpu)
    for model, how, gpu in itertools.product(MODELS, STEPS, STEP_GPUS):
        told = " ".join(f"{k}={v}" for k, v in how.items())
        yield (
            f"{model} {told} on {gpu}",
            lambda model=model, how=how, gpu=gpu: pm.step(model, gpu, **how),
        )
    for network, board in itertools.product(NETWORKS, BOARDS):
        yield (
            f"{network} on {board}",
            lambda network=network, board=board: pm.latency(network, board),
        )


def predictions() -> dict[str, dict[str, Any]]:
    """Today's answers; a refusal is an answer too."""
    return {name: _answer(ask) for name, ask in scenarios()}


def _answer(ask: Callable[[], pm.Estimate]) -> dict[str, Any]:
    try:
        found = ask()
    except pm.PerfModelError as refused:
        return {"refused": type(refused).__name__}
    figures = {name: float(f"{float(getattr(found, name)):.9g}") for name in FIELDS}
    return figures | {"bound": str(found.bound), "source": found.source}


def recorded() -> dict[str, Any]:
    """What was recorded: ``because`` and ``predictions``."""
    content: dict[str, Any] = json.loads(FILE.read_text())
    return content


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each scenario that differs."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            lines.append(f"{name}: {'new' if was is None else 'gone'}")
        elif told := [part for key in now if (part := _change(key, was.get(key), now[key]))]:
            lines.append(f"{name}: {', '.join(told)}")
    return lines


def _change(key: str, was: Any, now: Any) -> str:
    if isinstance(was, float) and isinstance(now, float):
        ratio = now / was if was else float("inf")
        return "" if abs(ratio - 1) <= SAME else f"{key} {was:.4g} -> {now:.4g} (x {ratio:.3f})"
    return "" if was == now else f"{key} {was} -> {now}"


def write(because: str) -> None:
    """Record today's predictions; ``because`` must stand in the changelog.

    Raises:
        SystemExit: it does not.
    """
    if because not in (ROOT / "CHANGELOG.md").read_text():
        sys.exit(f"CHANGELOG.md does not say: {because!r}")
    content = {"because": because, "predictions": predictions()}
    FILE.write_text(json.dumps(content, indent=1) + "\n")


def main(argv: list[str]) -> int:
    """Print what changed, or record."""
    if argv[:1] == ["--write"]:
        write(argv[1])
        return 0
    found = changes(recorded()["predictions"], predictions())
    print("\n".join(found) if found else "no prediction changed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
