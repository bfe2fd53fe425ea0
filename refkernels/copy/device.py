"""Copying on the GPU with the roof's own kernel (``roofs/memory.cu``)."""

from __future__ import annotations

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.workload import Elementwise
from refkernels._check import Gate, generator, judge, poisoned, random_normal
from refkernels._compile import compile_kernel
from refkernels._launch import launch, load_kernel, params_struct
from refkernels._sources import kernel_source
from refkernels.copy.naive import copy

WORD_BYTES = 16
TILE_BYTES = 512 * 2 * WORD_BYTES


class CopyProblem:
    """Inputs drawn from ``seed`` for a copy of fp32 elements.

    Raises:
        BadValue: a size that is not whole 16-byte words.
    """

    def __init__(self, workload: Elementwise, seed: int, sets: int) -> None:
        import cupy

        self.sets = sets
        size = int(np.asarray(workload.elements))
        if size * 4 % WORD_BYTES:
            msg = f"must be a multiple of {WORD_BYTES // 4}, got {size}"
            raise BadValue(msg, field="elements")
        rng = generator(seed, cupy)
        self.sources = [random_normal(rng, (size,)) for _ in range(sets)]
        self.targets = [poisoned((size,), "float32", cupy) for _ in range(sets)]
        self.kernel = load_kernel(compile_kernel(kernel_source("roofs/memory.cu")), "copy")
        self.grid = (-(-size * 4 // TILE_BYTES),)
        self.params = [
            params_struct(
                source=source,
                target=target,
                words=np.uint64(size * 4 // WORD_BYTES),
                rounds=1,
                elapsed=np.uint64(0),
            )
            for source, target in zip(self.sources, self.targets, strict=True)
        ]

    def run(self, i: int) -> None:
        """Copy set ``i``."""
        launch(self.kernel, self.grid, (512,), self.params[i])

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
