"""The one list of reference kernels: what tests check, benches time and sanitizers run.

An operator names its variants by dotted path, so that listing them imports neither numba nor
CuPy; a variant's ``problem`` is a class built from ``(workload, seed, sets)`` that satisfies
:class:`Problem`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from perfmodel.workload import Elementwise, Workload
from refkernels._check import Gate


class Problem(Protocol):
    """Inputs and outputs of one workload in one implementation."""

    sets: int
    """Independent input sets that ``run`` can be asked for."""

    def run(self, i: int) -> None:
        """Run on input set ``i``; on a device, launch on CuPy's current stream and return."""

    def gate(self) -> Gate:
        """Run on poisoned outputs and hold the result to the oracle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One implementation of an operator: a rung of its ladder, or the host kernel."""

    kernel: str
    """Its name in measurement files."""
    where: Literal["host", "device"]
    problem: str
    """``module:class``."""
    capability: int = 80
    """Least compute capability of the device."""

    def build(self, workload: Workload, seed: int, sets: int) -> Problem:
        """The problem of ``workload``, inputs drawn from ``seed``."""
        module, _, name = self.problem.partition(":")
        factory: Any = getattr(importlib.import_module(module), name)
        problem: Problem = factory(workload, seed, sets)
        return problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator: its variants, the workloads they are timed on, small ones to check."""

    name: str
    variants: tuple[Variant, ...]
    timed: tuple[Workload, ...]
    small: tuple[Workload, ...]


def _copies(*elements: int) -> tuple[Workload, ...]:
    return tuple(Elementwise(elements=n, flops=0.0, dtype="fp32", name="copy") for n in elements)


OPERATORS: tuple[Operator, ...] = (
    Operator(
        name="copy",
        variants=(
            Variant(
                kernel="refkernels.copy/host",
                where="host",
                problem="refkernels.copy.host:CopyProblem",
            ),
            Variant(
                kernel="refkernels.copy/memory",
                where="device",
                problem="refkernels.copy.device:CopyProblem",
            ),
        ),
        timed=_copies(2**20, 2**24, 2**26, 2**28),
        small=_copies(4, 12, 100, 1000, 4096, 16380, 16384, 16388, 65536, 100_000),
    ),
)


def pairs(where: str, *, small: bool) -> Iterator[tuple[Variant, Workload]]:
    """Every (variant, workload) that runs on the ``host`` or the ``device``."""
    for operator in OPERATORS:
        for variant in operator.variants:
            if variant.where == where:
                for workload in operator.small if small else operator.timed:
                    yield variant, workload
