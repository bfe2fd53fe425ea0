"""What the benchmark times, and what is said of a timing.

Kernels that take turns under one load are in ``beside`` (prefill) and ``beside_decode``; here one
follows the other. Rates are computed from the median; a kernel is timed only behind its gate at
that very shape. FLOPs are counted as the literature does: 4 D per (query, key) pair that the mask
lets through, half of all pairs under a causal mask of equal lengths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from perfmodel.workload import Attention
from refkernels._check import Gate
from refkernels._record import kernel_time
from refkernels._timing import Timing, capture_cupy, rotation_sets, time_kernel
from refkernels.attention import peers
from refkernels.attention.device import RUNGS
from refkernels.attention.problem import PrefillProblem, size
from refkernels.int8_gemm.peers import capture_torch

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


# ---------------------------------------------------------------- jobs


def alone() -> list[Row]:
    """The last rung and the peers, one after another, each at the clock that it alone runs at."""
    grid = [w for d in (128, 64, 256) for w in prefill(d)]
    return [row for w in grid for row in (*ours(w, "05_persistent"), *theirs(w))]


def ladder() -> list[Row]:
    """The lower rungs, causal and not."""
    shapes = [w for w in prefill(128) if size(w.q_len) == 16384]
    return [row for w in shapes for name in list(RUNGS)[:-1] for row in ours(w, name)]


# ---------------------------------------------------------------- rows


def ours(w: Attention, rung: str) -> list[Row]:
    """One rung of the softmax ladder."""
    sets = rotation_sets(moved_bytes(w))
    problem = PrefillProblem(w, size(w.q_len), sets, rung)
    gate = problem.gate()
    return [_timed(f"refkernels.attention/{rung}", w, problem.run, sets, gate)]


def theirs(w: Attention) -> list[Row]:
    """The peers that know this workload."""
    rows = []
    for name, build in peers.peers_of(w).items():
        sets = rotation_sets(moved_bytes(w), most=64)
        rows.append(_timed(name, w, build(sets), sets, None, framework=peers.framework()))
    return rows


def _timed(
    name: str,
    w: Attention,
    call: Callable[[int], None],
    sets: int,
    gate: Gate | None,
    framework: str | None = None,
) -> Row:
    if gate is not None and not gate.passed:
        return red_row(name, shape_of(w), gate)
    capture = capture_cupy if framework is None else capture_torch
    timing = time_kernel(call, sets=sets, budget_s=BUDGET_S, capture=capture)
    flops, moved = flops_of(w), moved_bytes(w)
    line = line_of(name, shape_of(w), timing, flops, moved)
    measured = kernel_time(
        w, name, timing, flops=flops, moved_bytes=moved, gate=gate, framework=framework
    )
    return {"ok": True, "line": line, "measurement": measured}


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
