"""Correctness gates of the ladder on the device, shared by the tests and the benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refkernels._check import (
    AWKWARD_SIZES,
    Gate,
    generator,
    judge,
    narrow_bf16,
    poisoned,
    random_int8,
    random_normal,
    widen,
)
from refkernels._launch import STORAGE
from refkernels.int8_gemm import naive
from refkernels.int8_gemm.device import SKINNY_TILES, Operands, bind, prepare
from refkernels.int8_gemm.llm_int8 import prepare_llm_int8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Many shapes held to one tolerance."""

    shapes: int
    worst: float
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every shape passed."""
        return not self.failures


def random_shapes(count: int, seed: int, rung: str) -> Iterator[tuple[int, int, int]]:
    """Sizes log-uniform to a few thousand; a third awkward; a tenth of many tiles and short k.

    Many tiles give each block of a persistent kernel several turns. Few rows for rung 6.
    """
    rng = np.random.default_rng(seed)
    skinny = rung == "06_skinny"
    most_m = SKINNY_TILES[-1] if skinny else 1500
    for index in range(count):
        m, n, k = (int(np.exp(rng.uniform(0, np.log(top)))) for top in (most_m, 3000, 5000))
        if index % 3 == 0:
            m, n, k = (int(rng.choice(AWKWARD_SIZES)) for _ in range(3))
        if index % 10 == 1:
            low, high = (8000, 40000) if skinny else (2500, 6000)
            n, k = int(rng.integers(low, high)), int(rng.integers(200, 4200 if skinny else 700))
            m = int(rng.integers(1, most_m + 1) if skinny else rng.integers(low, high))
        yield min(m, most_m) if skinny else m, n, k


def random_operands(
    rng: Any, m: int, n: int, k: int, out_dtype: str, *, bias: bool = True
) -> Operands:
    """Uniform bytes (with -128) and, for scaled outputs, positive scales and a normal bias."""
    import cupy

    a, b = (random_int8(rng, shape) for shape in ((m, k), (n, k)))
    a[0, 0] = b[0, 0] = -128
    if out_dtype == "int32":
        return bind(a, b, out_dtype=out_dtype)
    scales = [cupy.abs(random_normal(rng, (size,), scale=0.01)) + 1e-4 for size in (m, n)]
    return bind(
        a,
        b,
        row_scale=scales[0].astype(cupy.float32),
        col_scale=scales[1].astype(cupy.float32),
        bias=random_normal(rng, (n,)) if bias else None,
        out_dtype=out_dtype,
    )


def gate_product(x: Operands, rung: str) -> Gate:
    """Run ``rung`` on poisoned outputs, twice for integers, and hold it to the oracle."""
    import cupy

    launch = prepare(x, rung)
    results = []
    for pattern in (0, 1) if x.out_dtype == "int32" else (0,):
        x.out[...] = poisoned(x.out.shape, STORAGE[x.out_dtype], cupy, pattern)
        launch()
        results.append(x.out.copy())
    a, b = x.a[:, : x.k], x.b[:, : x.k]
    if x.out_dtype == "int32":
        expected = naive.integer_product(a, b, cupy)
        gates = [judge("int8_gemm", "int32", result, expected) for result in results]
        return max(gates, key=lambda gate: gate.error)
    y, bound = naive.scaled_product(a, b, x.row_scale, x.col_scale, x.bias, cupy)
    bound += naive.OUTPUT_FLOOR.get(x.out_dtype, 0.0)
    return judge("int8_gemm", x.out_dtype, widen(results[0], x.out_dtype), y, bound=bound)


def sweep_products(rung: str, out_dtype: str, count: int, seed: int) -> Sweep:
    """``count`` random shapes of one rung and output type."""
    import cupy

    rng = generator(seed, cupy)
    worst, failures = 0.0, []
    for index, (m, n, k) in enumerate(random_shapes(count, seed, rung)):
        x = random_operands(rng, m, n, k, out_dtype, bias=index % 2 == 0)
        gate = gate_product(x, rung)
        worst = max(worst, gate.error)
        if not gate.passed:
            failures.append(f"{m}x{n}x{k}: {gate.error:.3g}")
    return Sweep(shapes=count, worst=worst, failures=tuple(failures))


def random_activations(rng: Any, m: int, k: int, outliers: int, dtype: str) -> Any:
    """Normal 16-bit activations, some columns of them with entries beyond the threshold."""
    import cupy

    x = cupy.clip(random_normal(rng, (m, k)), -5.5, 5.5)
    columns = cupy.asarray(np.random.default_rng(k + outliers).permutation(k)[:outliers])
    x[:, columns] *= 20.0
    if outliers:
        x[0, columns] = 30.0
    return narrow_bf16(x) if dtype == "bf16" else x.astype(cupy.float16)


def gate_llm_int8(
    rng: Any, m: int, n: int, k: int, outliers: int, dtype: str, out_dtype: str | None = None
) -> Gate:
    """LLM.int8() against its float64 definition; the quantised bytes must agree exactly."""
    import cupy

    x, b = random_activations(rng, m, k, outliers, dtype), random_int8(rng, (n, k))
    col_scale = cupy.abs(random_normal(rng, (n,), scale=0.01)) + cupy.float32(1e-4)
    bias = random_normal(rng, (n,))
    bound = prepare_llm_int8(x, b, col_scale, bias=bias, dtype=dtype, out_dtype=out_dtype)
    kind = out_dtype or dtype
    for _ in range(2):  # the second launch finds what the first left in the flags
        bound.out[...] = poisoned(bound.out.shape, STORAGE[kind], cupy)
        bound()
    exact = widen(x, dtype).astype(cupy.float32)
    parts = naive.quantise_rows(exact, naive.OUTLIER_THRESHOLD, cupy)
    bytes_gate = judge("int8_gemm", "int32", bound.quantise.q[:, :k], parts.q)
    if not bytes_gate.passed:
        return bytes_gate
    y, limit = naive.llm_int8(exact, b, col_scale, bias, xp=cupy)
    limit += naive.OUTPUT_FLOOR.get(kind, 0.0)
    return judge("int8_gemm", kind, widen(bound.out, kind), y, bound=limit)


def sweep_llm_int8(dtype: str, count: int, seed: int) -> Sweep:
    """Random shapes with none to a few hundred outlier columns."""
    import cupy

    rng, sizes = generator(seed, cupy), np.random.default_rng(seed)
    worst, failures = 0.0, []
    for m, n, k in random_shapes(count, seed, "05_cluster_multicast"):
        outliers = min(k, int(sizes.choice([0, 1, 3, 64, 65, 200])))
        gate = gate_llm_int8(rng, m, n, k, outliers, dtype)
        worst = max(worst, gate.error)
        if not gate.passed:
            failures.append(f"{m}x{n}x{k} outliers {outliers}: {gate.error:.3g} {gate.metric}")
    return Sweep(shapes=count, worst=worst, failures=tuple(failures))
