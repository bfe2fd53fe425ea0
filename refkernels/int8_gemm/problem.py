"""The product as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.workload import Gemm
from refkernels._check import Gate, generator, judge, random_int8
from refkernels.int8_gemm import naive
from refkernels.int8_gemm.device import Operands, bind, prepare
from refkernels.int8_gemm.gates import (
    gate_llm_int8,
    gate_product,
    random_activations,
    random_operands,
)
from refkernels.int8_gemm.llm_int8 import prepare_llm_int8

OUTLIERS = (0, 4, 1, 65, 3, 200)
"""Outlier columns of LLM.int8() by seed, as far as k has so many: none, few, two steps, many."""


def sizes(workload: Gemm) -> tuple[int, int, int]:
    """``(m, n, k)`` of one product."""
    m, n, k = (int(np.asarray(size)) for size in (workload.m, workload.n, workload.k))
    return m, n, k


class ProductProblem:
    """One rung on ``sets`` copies of random operands, alike in power and cold in cache."""

    def __init__(self, workload: Gemm, seed: int, sets: int, rung: str) -> None:
        import cupy

        self.sets, self.rung = sets, rung
        out_dtype = str(workload.out_dtype)
        first = random_operands(generator(seed, cupy), *sizes(workload), out_dtype, bias=False)
        self.operands = [first, *(copied(first) for _ in range(sets - 1))]
        self.launches = [prepare(x, rung) for x in self.operands]

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.launches[i]()

    def gate(self) -> Gate:
        """The first set against the oracle; the others hold the same values."""
        return gate_product(self.operands[0], self.rung)


def copied(x: Operands) -> Operands:
    """The same operands elsewhere in memory, with an output of their own."""
    a, b = (operand[:, : x.k].copy() for operand in (x.a, x.b))
    return bind(
        a, b, row_scale=x.row_scale, col_scale=x.col_scale, bias=x.bias, out_dtype=x.out_dtype
    )


class LlmInt8Problem:
    """LLM.int8() from 16-bit activations: quantise, gather the outlier columns, multiply."""

    def __init__(self, workload: Gemm, seed: int, sets: int) -> None:
        import cupy

        self.sets, self.dtype = sets, str(workload.out_dtype)
        self.rng = generator(seed, cupy)
        m, n, k = self.sizes = sizes(workload)
        self.outliers = min(k, OUTLIERS[seed % len(OUTLIERS)])
        x = random_activations(self.rng, m, k, self.outliers, self.dtype)
        b, scale = random_int8(self.rng, (n, k)), cupy.full(n, 0.01, cupy.float32)
        self.launches = [
            prepare_llm_int8(x.copy(), b.copy(), scale, dtype=self.dtype) for _ in range(sets)
        ]

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.launches[i]()

    def gate(self) -> Gate:
        """Fresh operands of the same sizes, with scales and a bias, against the definition."""
        return gate_llm_int8(self.rng, *self.sizes, self.outliers, self.dtype)


class HostProductProblem:
    """The numba product, dequantised to fp32."""

    def __init__(self, workload: Gemm, seed: int, sets: int) -> None:
        rng = generator(seed)
        m, n, k = sizes(workload)
        self.sets = sets
        self.a = [random_int8(rng, (m, k)) for _ in range(sets)]
        self.b = [random_int8(rng, (n, k)) for _ in range(sets)]
        self.row_scale, self.col_scale = (
            rng.uniform(0.001, 0.02, size).astype(np.float32) for size in (m, n)
        )
        self.out: Any = None

    def run(self, i: int) -> None:
        """Compute set ``i``."""
        from refkernels.int8_gemm.host import scaled_product

        self.out = scaled_product(self.a[i], self.b[i], self.row_scale, self.col_scale)

    def gate(self) -> Gate:
        """The first set against the oracle."""
        self.run(0)
        y, bound = naive.scaled_product(self.a[0], self.b[0], self.row_scale, self.col_scale)
        return judge("int8_gemm", "fp32", self.out, y, bound=bound)
