"""The grid: which library kernels are timed on which shapes. Pure, seeded, without torch.

Sizes are drawn log-uniformly, so that every decade weighs the same; shapes of well-known models
are added as they are. ``schedule`` orders all cases so that any prefix is balanced: a run that
its time limit cuts short has sampled every family alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from perfmodel.workload import (
    DTYPE_BYTES,
    Attention,
    DeltaRule,
    Elementwise,
    Gemm,
    LinearAttention,
    Norm,
    Ssd,
    Workload,
)

SEED = 20261123
LARGEST = 65_536
"""The largest matrix dimension."""
LONGEST = 262_144
"""The longest context."""
MOST_BYTES = 4 * 2**30
"""Bytes of one operand; what a pool of inputs holds."""
MOST_FLOPS = {"fp32": 2e11}
"""FLOP of one call by data type; 4e12 (5 ms at 800 TFLOP/s) for all others."""

Random = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel on one shape, launched one way."""

    family: str
    kernel: str
    workload: Workload
    launch: str = "graph"
    moved_bytes: float
    """Operands and result, once each."""
    flops: float

    @property
    def key(self) -> tuple[object, ...]:
        """What tells the case from all others."""
        return self.kernel, self.launch, self.workload.key()


DrawCase = Callable[[Random], Case | None]


ROWS: Mapping[str, int] = {
    "gemm": 400,
    "gemm_narrow": 360,
    "gemm_fp32": 120,
    "attention_prefill": 220,
    "attention_decode": 260,
    "pointwise": 280,
    "moving": 110,
    "recurrent": 110,
}
"""Rows by family: at most eight families, one file each."""

LAYERS = (
    (6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (10240, 8192), (8192, 8192),
    (57344, 8192), (8192, 28672), (2048, 2048), (16384, 2048), (128256, 4096), (11008, 4096),
)  # fmt: skip
"""Columns and inner dimensions of matrices of models with hidden widths of 2048 to 8192."""


def schedule(rows: Mapping[str, int] = ROWS, seed: int = SEED) -> list[Case]:
    """Every case, ordered so that any prefix holds the families in proportion."""
    placed = []
    for family, count in rows.items():
        cases = family_cases(family, count, seed)
        placed += [((i + 0.5) / len(cases), family, case) for i, case in enumerate(cases)]
    return [case for _, _, case in sorted(placed, key=lambda p: (p[0], p[1]))]


def family_cases(family: str, count: int, seed: int = SEED) -> list[Case]:
    """``count`` distinct cases of one family, in an order that is random but always the same."""
    rng = np.random.default_rng([seed, *family.encode()])
    found: dict[tuple[object, ...], Case] = {}
    draws = _DRAWS[family]
    for _ in range(200 * count):
        case = draws(rng)
        if case is not None:
            found.setdefault(case.key, case)
        if len(found) == count:
            break
    return list(found.values())


def size(rng: Random, low: int, high: int, multiple: int = 1) -> int:
    """Log-uniform over ``low .. high``, rounded to a multiple that lies inside."""
    drawn = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    rounded = round(drawn / multiple) * multiple
    return max(-(-low // multiple) * multiple, min(rounded, high // multiple * multiple))


def _pick(rng: Random, *choices: int) -> int:
    return int(rng.choice(choices))


def _dimension(rng: Random, multiple: int) -> int:
    """A matrix dimension: a power of two, a multiple of 64, or whatever the kernel takes."""
    kind = rng.random()
    if kind < 0.3:
        return 1 << int(rng.integers(max(0, multiple.bit_length() - 1), 17))
    return size(rng, multiple, LARGEST, 64 if kind < 0.75 else multiple)


def product(rng: Random, dtype: str, multiple: int, least_rows: int = 1) -> tuple[int, int, int]:
    """m, n, k of a product: a model's matrix for one draw in three, else all three random."""
    if rng.random() < 0.35:
        n, k = LAYERS[int(rng.integers(len(LAYERS)))]
        return max(least_rows, size(rng, 1, 16_384)), n, k
    m = _dimension(rng, 1)
    return max(least_rows, m), _dimension(rng, multiple), _dimension(rng, multiple)


_OUT = {"fp8": "bf16", "int8": "int32"}


def _gemm(family: str, kernel: str, dtype: str, multiple: int, least: int) -> DrawCase:
    def draw(rng: Random) -> Case | None:
        m, n, k = product(rng, dtype, multiple, least)
        out = _OUT.get(dtype, dtype)
        operands = np.array([m * k, n * k]) * DTYPE_BYTES[dtype]
        moved = float(operands.sum() + m * n * DTYPE_BYTES[out])
        flops = 2.0 * m * n * k
        too_large = max(*operands, m * n * DTYPE_BYTES[out]) > MOST_BYTES
        if too_large or flops > MOST_FLOPS.get(dtype, 4e12):
            return None
        work = Gemm(m=m, n=n, k=k, dtype=dtype, out_dtype=out)
        return Case(family=family, kernel=kernel, workload=work, moved_bytes=moved, flops=flops)

    return draw


def _one_of(*shares: tuple[float, DrawCase]) -> DrawCase:
    """One of several draws, each with its share."""
    weights = np.array([share for share, _ in shares])

    def draw(rng: Random) -> Case | None:
        return shares[int(rng.choice(len(shares), p=weights / weights.sum()))][1](rng)

    return draw


def _heads(rng: Random) -> tuple[int, int, int]:
    """Query heads, key heads (groups of 1 to 32) and head dimension."""
    group, kv = _pick(rng, 1, 1, 2, 4, 7, 8, 16, 32), _pick(rng, 1, 2, 4, 8, 16, 32)
    return group * kv, kv, _pick(rng, 64, 128, 128, 256)


def _attention(rng: Random, batch: int, q_len: int, kv_len: int) -> tuple[Attention, float, float]:
    heads, kv, dim = _heads(rng)
    dtype = "fp16" if rng.random() < 0.2 else "bf16"
    work = Attention(
        batch=batch, q_len=q_len, kv_len=kv_len, heads=heads, kv_heads=kv, head_dim=dim, dtype=dtype
    )
    cached = 4.0 * batch * kv * kv_len * dim
    pairs = q_len * (kv_len - (q_len - 1) / 2)
    return work, cached + 4.0 * batch * heads * q_len * dim, 4.0 * batch * heads * pairs * dim


def _prefill(kernel: str) -> DrawCase:
    def draw(rng: Random) -> Case | None:
        length = size(rng, 16, 65_536)
        work, moved, flops = _attention(rng, size(rng, 1, 64), length, length)
        if moved > MOST_BYTES or flops > 3e12:
            return None
        return Case(
            family="attention_prefill", kernel=kernel, workload=work, moved_bytes=moved, flops=flops
        )

    return draw


def _decode(kernel: str) -> DrawCase:
    def draw(rng: Random) -> Case | None:
        work, moved, flops = _attention(rng, size(rng, 1, 256), 1, size(rng, 1, LONGEST))
        if moved > MOST_BYTES:
            return None
        return Case(
            family="attention_decode", kernel=kernel, workload=work, moved_bytes=moved, flops=flops
        )

    return draw


def _rows_of(rng: Random) -> tuple[int, int]:
    return size(rng, 1, LARGEST), _pick(rng, 128, 1024, 2048, 4096, 5120, 8192, 12_288, 16_384)


def _norm(rng: Random) -> Case | None:
    rows, cols = _rows_of(rng)
    kind = str(rng.choice(["rms", "layer", "softmax"]))
    if kind == "softmax":
        cols = size(rng, 32, 131_072)
    dtype = "fp32" if rng.random() < 0.25 else "bf16"
    moved = 2.0 * rows * cols * DTYPE_BYTES[dtype]
    if moved > MOST_BYTES / 2:
        return None
    work = Norm(rows=rows, cols=cols, kind=kind, dtype=dtype)  # type: ignore[arg-type]  # drawn from its choices
    return Case(
        family="pointwise", kernel=f"aten/{kind}", workload=work, moved_bytes=moved,
        flops=5.0 * rows * cols,
    )  # fmt: skip


POINTWISE: Mapping[str, tuple[float, float, float, str]] = {
    # name: inputs, FLOP and special functions per element, kernel
    "gelu": (1.0, 8.0, 1.0, "aten"),
    "silu": (1.0, 3.0, 2.0, "aten"),
    "relu": (1.0, 1.0, 0.0, "aten"),
    "add": (2.0, 1.0, 0.0, "aten"),
    "mul": (2.0, 1.0, 0.0, "aten"),
    "silu_mul": (2.0, 5.0, 2.0, "inductor"),
    "rope": (1.0, 3.0, 0.0, "inductor"),
}


def _pointwise(launch: str) -> DrawCase:
    def draw(rng: Random) -> Case | None:
        name = str(rng.choice(list(POINTWISE)))
        rows, cols = _rows_of(rng)
        reads, flops, special, library = POINTWISE[name]
        dtype = "fp32" if rng.random() < 0.2 and library == "aten" else "bf16"
        moved = (reads + 1.0) * rows * cols * DTYPE_BYTES[dtype]
        if moved > MOST_BYTES / 2 or (launch == "eager" and library != "aten"):
            return None
        work = Elementwise(
            elements=rows * cols, reads=reads, flops=flops, special=special, dtype=dtype, name=name,
            cols=cols if library == "inductor" else None,
        )  # fmt: skip
        return Case(
            family="pointwise" if launch == "graph" else "moving", kernel=f"{library}/{name}",
            workload=work, launch=launch, moved_bytes=moved, flops=flops * rows * cols,
        )  # fmt: skip

    return draw


def _copy(launch: str) -> DrawCase:
    def draw(rng: Random) -> Case | None:
        dtype = "fp32" if rng.random() < 0.5 else "bf16"
        n = size(rng, 256, 2**29 if launch == "graph" else 2**16, 16)
        kind = str(rng.choice(["copy", "copy", "sum"])) if launch == "graph" else "copy"
        writes = 1.0 if kind == "copy" else 0.0
        work = Elementwise(elements=n, flops=1.0 - writes, writes=writes, dtype=dtype, name=kind)
        moved = (1.0 + writes) * n * DTYPE_BYTES[dtype]
        return Case(
            family="moving", kernel=f"aten/{kind}", workload=work, launch=launch,
            moved_bytes=moved, flops=(1.0 - writes) * n,
        )  # fmt: skip

    return draw


def _mixer(rng: Random) -> tuple[int, int, int, int]:
    """Batch, tokens, heads and head dimension of a linear mixer."""
    batch, tokens = size(rng, 1, 16), size(rng, 64, 32_768, 64)
    return batch, tokens, _pick(rng, 4, 8, 16, 32), _pick(rng, 64, 128)


def _linear(kernel: str, gate: str) -> DrawCase:
    def draw(rng: Random) -> Case | None:
        batch, tokens, heads, dim = _mixer(rng)
        if batch * tokens > 65_536:
            return None
        work = LinearAttention(
            batch=batch, seq_len=tokens, heads=heads, key_dim=dim, value_dim=dim,
            gate=gate,  # type: ignore[arg-type]  # one of its choices
        )  # fmt: skip
        return _recurrent(kernel, work, batch * tokens * heads, dim)

    return draw


def _delta(kernel: str, *, step: bool) -> DrawCase:
    def draw(rng: Random) -> Case | None:
        batch, tokens, heads, dim = _mixer(rng)
        if step:
            batch, tokens = size(rng, 1, 512), 1
        if batch * tokens > 65_536:
            return None
        work = DeltaRule(batch=batch, seq_len=tokens, key_heads=heads, key_dim=dim, value_dim=dim)
        return _recurrent(kernel, work, batch * tokens * heads, dim)

    return draw


def _ssd(rng: Random) -> Case | None:
    batch, tokens, heads, _ = _mixer(rng)
    if batch * tokens > 65_536:
        return None
    work = Ssd(batch=batch, seq_len=tokens, heads=4 * heads, head_dim=64, state=128, chunk=256)
    return _recurrent("mamba_ssm/mamba_chunk_scan_combined", work, batch * tokens * 4 * heads, 64)


def _recurrent(kernel: str, work: Workload, rows: int, dim: int) -> Case:
    return Case(
        family="recurrent", kernel=kernel, workload=work, moved_bytes=8.0 * rows * dim,
        flops=6.0 * rows * dim * dim,
    )  # fmt: skip


_DRAWS: dict[str, DrawCase] = {
    "gemm": _one_of(
        (0.7, _gemm("gemm", "cublas/matmul", "bf16", 1, 1)),
        (0.3, _gemm("gemm", "cublas/matmul", "fp16", 1, 1)),
    ),
    "gemm_narrow": _one_of(
        (0.3, _gemm("gemm_narrow", "cublas/scaled_mm", "fp8", 16, 1)),
        (0.25, _gemm("gemm_narrow", "cublas/scaled_mm_fast", "fp8", 16, 1)),
        (0.45, _gemm("gemm_narrow", "cublas/int_mm", "int8", 16, 17)),
    ),
    "gemm_fp32": _gemm("gemm_fp32", "cublas/matmul", "fp32", 1, 1),
    "attention_prefill": _one_of((0.5, _prefill("cudnn/sdpa")), (0.5, _prefill("flash/sdpa"))),
    "attention_decode": _one_of((0.5, _decode("cudnn/sdpa")), (0.5, _decode("flash/sdpa"))),
    "pointwise": _one_of((0.5, _norm), (0.5, _pointwise("graph"))),
    "moving": _one_of((0.5, _copy("graph")), (0.15, _copy("eager")), (0.35, _pointwise("eager"))),
    "recurrent": _one_of(
        (0.25, _linear("fla/chunk_gla", "vector")),
        (0.2, _linear("fla/chunk_simple_gla", "scalar")),
        (0.25, _delta("fla/chunk_gated_delta_rule", step=False)),
        (0.15, _delta("fla/fused_recurrent_gated_delta_rule", step=True)),
        (0.15, _ssd),
    ),
}


GATE_WORK = 1e6
"""FLOP and bytes that a gate's case has at least, so that it crosses tiles."""


def gate_cases(cases: Iterable[Case]) -> dict[tuple[str, str], Case]:
    """For every kernel and data type, the smallest of its cases that does some work."""
    found: dict[tuple[str, str], Case] = {}
    for case in sorted(cases, key=lambda c: c.flops + c.moved_bytes):
        if case.flops + case.moved_bytes >= GATE_WORK:
            found.setdefault(gate_key(case), case)
    return found


def gate_key(case: Case) -> tuple[str, str]:
    """What one gate stands for: a kernel in one data type."""
    return case.kernel, str(getattr(case.workload, "dtype", ""))
