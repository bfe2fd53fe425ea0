"""The one list of reference kernels: what tests check, benches time and sanitizers run.

An operator names its variants by dotted path, so that listing them imports neither numba nor
CuPy; a variant's ``problem`` is a class built from ``(workload, seed, sets, *arguments)`` that
satisfies :class:`Problem`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from perfmodel.workload import Elementwise, Gemm, Workload
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
    arguments: tuple[str, ...] = ()
    """What tells this variant from others of the same class."""
    capability: int = 80
    """Least compute capability of the device."""
    exact: bool = False
    """Architecture-specific code (sm_90a): runs on that capability only."""

    def runs_on(self, capability: int) -> bool:
        """Whether a device of this compute capability can run it."""
        return capability == self.capability if self.exact else capability >= self.capability

    def build(self, workload: Workload, seed: int, sets: int) -> Problem:
        """The problem of ``workload``, inputs drawn from ``seed``."""
        module, _, name = self.problem.partition(":")
        factory: Any = getattr(importlib.import_module(module), name)
        problem: Problem = factory(workload, seed, sets, *self.arguments)
        return problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator: its variants, the workloads they are timed on, small ones to check."""

    name: str
    variants: tuple[Variant, ...]
    timed: tuple[Workload, ...]
    small: tuple[Workload, ...]


HOPPER = 90


def _copies(*elements: int) -> tuple[Workload, ...]:
    return tuple(Elementwise(elements=n, flops=0.0, dtype="fp32", name="copy") for n in elements)


def _products(*sizes: tuple[int, int, int]) -> tuple[Workload, ...]:
    return tuple(Gemm(m=m, n=n, k=k, dtype="int8", out_dtype="bf16") for m, n, k in sizes)


def _rung(name: str, capability: int) -> Variant:
    return Variant(
        kernel=f"refkernels.int8_gemm/{name}",
        where="device",
        problem="refkernels.int8_gemm.problem:ProductProblem",
        arguments=(name,),
        capability=capability,
        exact=capability == HOPPER,
    )


_FEW_ROWS = (
    (1, 1, 1),
    (1, 8, 16),
    (3, 5, 7),
    (7, 1000, 31),
    (8, 64, 4096),
    (16, 64, 128),
    (17, 33, 65),
    (31, 31, 33),
    (33, 100, 127),
    (63, 65, 129),
    (64, 128, 256),
)

# More tiles than clusters fit on a device: each block of a persistent kernel gets several turns.
_FEW_ROWS_MANY_TILES = ((16, 9000, 300), (33, 20000, 600), (64, 9000, 4096))

_MANY_ROWS = (
    (65, 127, 255),
    (100, 257, 100),
    (127, 129, 257),
    (128, 256, 128),
    (129, 63, 1000),
    (255, 257, 255),
    (256, 256, 256),
    (257, 100, 333),
    (300, 520, 64),
    (1000, 31, 63),
    (2500, 2500, 300),
)

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
    Operator(
        name="int8_gemm",
        variants=(
            Variant(
                kernel="refkernels.int8_gemm/host",
                where="host",
                problem="refkernels.int8_gemm.problem:HostProductProblem",
            ),
            _rung("01_dp4a", 80),
            _rung("02_mma_sync", 80),
            _rung("03_wgmma_tma", HOPPER),
            _rung("04_warp_specialised", HOPPER),
            _rung("05_cluster_multicast", HOPPER),
        ),
        timed=_products(
            (8192, 8192, 8192), (4096, 11008, 4096), (2048, 28672, 4096), (8192, 4096, 14336)
        ),
        small=_products(*_FEW_ROWS, *_MANY_ROWS),
    ),
    Operator(
        name="int8_gemm_few_rows",
        variants=(_rung("06_skinny", HOPPER),),
        timed=_products(
            *((m, n, k) for n, k in ((28672, 4096), (4096, 14336)) for m in (16, 32, 64))
        ),
        small=_products(*_FEW_ROWS, *_FEW_ROWS_MANY_TILES),
    ),
)


def pairs(where: str, *, small: bool) -> Iterator[tuple[Variant, Workload]]:
    """Every (variant, workload) that runs on the ``host`` or the ``device``."""
    for operator in OPERATORS:
        for variant in operator.variants:
            if variant.where == where:
                for workload in operator.small if small else operator.timed:
                    yield variant, workload
