"""What the benchmark times, and what is said of a timing.

Prefill is timed in ``beside``, decoding in ``beside_decode``. Rates are computed from the median.
FLOPs are counted as the literature does: 4 D per (query, key) pair that the mask lets through, half
of all pairs under a causal mask of equal lengths.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from perfmodel.workload import Attention
from refkernels._check import Gate
from refkernels._timing import Timing
from refkernels.attention.problem import size

TOKENS = 16384
HIDDEN = 2048
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
BUDGET_S = 0.06
"""Device time per timing, after as much warm-up."""

Row = dict[str, Any]


def prefill(head_dim: int) -> tuple[Attention, ...]:
    """16 Ki tokens in all at hidden size 2048, causal and not: the literature's grid."""
    return tuple(
        Attention(
            batch=TOKENS // length,
            q_len=length,
            kv_len=length,
            heads=HIDDEN // head_dim,
            head_dim=head_dim,
            causal=causal,
        )
        for causal in (False, True)
        for length in LENGTHS
    )


def grouped_prefills() -> tuple[Attention, ...]:
    """The grid at d = 128 with 4 KV heads for 16."""
    return tuple(dataclasses.replace(w, kv_heads=4) for w in prefill(128))


def other_prefills() -> tuple[Attention, ...]:
    """Windows, queries against a longer context, fp16."""
    base = Attention(batch=4, q_len=4096, kv_len=4096, heads=16, head_dim=128)
    long = dataclasses.replace(base, batch=1, q_len=16384, kv_len=16384)
    change = dataclasses.replace
    windows = [change(long, window=w) for w in (128, 1024, 4096)]
    chunks = [change(base, batch=1, q_len=512, kv_len=n) for n in (2048, 8192, 32768)]
    halves = [change(x, dtype="fp16", kv_dtype="fp16", out_dtype="fp16") for x in (base, long)]
    return (*windows, *chunks, *halves)


def decodes() -> tuple[Attention, ...]:
    """32 query and 8 KV heads of 128: batch 1 to 64, one query to 16, pages, bytes, windows."""
    base = Attention(batch=1, q_len=1, kv_len=8192, heads=32, kv_heads=8, head_dim=128)
    change = dataclasses.replace
    grid = [(1, 1024), (1, 4096), (1, 8192), (1, 16384), (1, 32768), (1, 65536), (1, 524288)]
    grid += [(8, 1024), (8, 4096), (8, 8192), (8, 32768), (32, 2048), (32, 8192), (64, 2048)]
    plain = [change(base, batch=b, kv_len=n) for b, n in grid]
    few = [change(base, batch=8, q_len=q) for q in (2, 4, 8, 16)]
    paged = [change(x, page_size=p) for x in (plain[5], plain[9], plain[12]) for p in (16, 64)]
    narrow = [change(x, kv_dtype=t) for x in plain[4:13:2] for t in ("fp8", "int8")]
    heads = [change(base, batch=8, heads=h, kv_heads=k) for h, k in ((32, 32), (64, 8), (16, 1))]
    widths = [
        Attention(batch=8, q_len=1, kv_len=8192, heads=16, kv_heads=4, head_dim=d)
        for d in (64, 256)
    ]
    return (*plain, *few, *paged, *narrow, *heads, *widths)


# ---------------------------------------------------------------- rows


def red_row(name: str, shape: str, gate: Gate) -> Row:
    """A kernel that gets no time."""
    line = f"{name:58} {shape:34} gate red: {gate}"
    print(line, flush=True)  # noqa: T201
    return {"ok": False, "line": line, "measurement": None}


def line_of(name: str, shape: str, timing: Timing, flops: float, moved: float) -> str:
    """One timing in words, printed as soon as it is there."""
    line = (
        f"{name:58} {shape:34} {timing.time_s * 1e6:9.2f} us"
        f"  {flops / timing.time_s / 1e12:6.1f} TFLOP/s  {moved / timing.time_s / 1e9:6.0f} GB/s"
        f"  spread {timing.spread:.3f}  {(timing.sm_clock_hz or 0) / 1e6:5.0f} MHz"
        f"  {timing.power_w or 0:4.0f} W"
    )
    print(line, flush=True)  # noqa: T201
    return line


def shape_of(w: Attention) -> str:
    """``"B4 4096x4096 H16/4 D128 bf16 c"``: c is a causal mask."""
    masks = ("c" if w.causal else "") + (f"w{size(w.window)}" if w.window is not None else "")
    pages = f" p{w.page_size}" if w.page_size else ""
    return (
        f"B{size(w.batch)} {size(w.q_len)}x{size(w.kv_len)} H{size(w.heads)}/{size(w.kv_heads)}"
        f" D{size(w.head_dim)} {w.kv_dtype}{pages} {masks}"
    )


def flops_of(w: Attention) -> float:
    """4 D per visible pair; half of all pairs under a causal mask of equal lengths."""
    q, kv, d = float(size(w.q_len)), float(size(w.kv_len)), float(size(w.head_dim))
    pairs = q * kv if not w.causal else q * (kv - q) + 0.5 * q * q
    if w.window is not None:
        width = min(float(size(w.window)), kv)
        ramp = max(0.0, width - (kv - q)) if w.causal else 0.0
        pairs = q * width - 0.5 * ramp * ramp
    return 4.0 * d * pairs * size(w.batch) * size(w.heads)


def kv_bytes(w: Attention) -> float:
    """Keys and values once."""
    each = 1.0 if w.kv_dtype in ("fp8", "int8") else 2.0
    tokens = float(size(w.batch)) * size(w.kv_len)
    return 2.0 * tokens * size(w.kv_heads) * size(w.head_dim) * each


def moved_bytes(w: Attention) -> float:
    """Compulsory bytes: every operand and the output once."""
    queries = float(size(w.batch)) * size(w.q_len) * size(w.heads) * size(w.head_dim)
    return kv_bytes(w) + 2.0 * 2.0 * queries
