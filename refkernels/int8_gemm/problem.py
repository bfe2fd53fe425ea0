"""The ladder's rungs as problems that the tests, the bench and the sanitizers share."""

from __future__ import annotations

import numpy as np

from perfmodel.workload import Gemm
from refkernels._check import Gate, generator
from refkernels.int8_gemm.device import prepare
from refkernels.int8_gemm.gates import gate_product, random_operands


class ProductProblem:
    """Operands drawn from ``seed`` for one rung of the ladder; the output type is the workload's.

    Raises:
        UnknownName: no such rung or output type.
        BadValue: more rows than the rung takes.
    """

    def __init__(self, workload: Gemm, seed: int, sets: int, rung: str) -> None:
        import cupy

        self.sets = sets
        self.rung = rung
        m, n, k = (int(np.asarray(size)) for size in (workload.m, workload.n, workload.k))
        rng = generator(seed, cupy)
        self.operands = [
            random_operands(rng, m, n, k, str(workload.out_dtype), bias=False) for _ in range(sets)
        ]
        self.bound = [prepare(each, rung) for each in self.operands]

    def run(self, i: int) -> None:
        """Launch on set ``i``."""
        self.bound[i]()

    def gate(self) -> Gate:
        """The first set against the float64 definition."""
        return gate_product(self.operands[0], self.rung)
