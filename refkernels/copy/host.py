"""Copying on the CPU: one vectorised stream a core."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from perfmodel.workload import Elementwise
from refkernels._check import Gate, generator, judge, poisoned, random_normal
from refkernels.copy.naive import copy

CHUNK = 65536


@njit(parallel=True, cache=True)
def copy_chunks(source: Any, target: Any) -> None:
    """``target[:] = source``, in chunks of ``CHUNK`` elements spread over the cores."""
    chunks = (source.size + CHUNK - 1) // CHUNK
    for c in prange(chunks):
        start = c * CHUNK
        for i in range(start, min(start + CHUNK, source.size)):
            target[i] = source[i]


class CopyProblem:
    """Inputs drawn from ``seed`` for a copy of fp32 elements."""

    def __init__(self, workload: Elementwise, seed: int, sets: int) -> None:
        self.sets = sets
        rng = generator(seed)
        size = int(np.asarray(workload.elements))
        self.sources = [random_normal(rng, (size,)) for _ in range(sets)]
        self.targets = [poisoned((size,), "float32") for _ in range(sets)]

    def run(self, i: int) -> None:
        """Copy set ``i``."""
        copy_chunks(self.sources[i], self.targets[i])

    def gate(self) -> Gate:
        """Every element of every set arrives."""
        for i in range(self.sets):
            self.run(i)
        return max(
            (
                judge("copy", "fp32", target, copy(source))
                for source, target in zip(self.sources, self.targets, strict=True)
            ),
            key=lambda gate: gate.error,
        )
