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

from perfmodel.workload import (
    Elementwise,
    Gemm,
    LinearAttention,
    SelectiveScan,
    Ssd,
    Workload,
)
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


def _scans(dtype: str, *sizes: tuple[int, int, int, int, int]) -> tuple[Workload, ...]:
    return tuple(
        SelectiveScan(batch=b, seq_len=t, channels=d, state=n, groups=g, dtype=dtype)
        for b, t, d, n, g in sizes
    )


def _linear(gate: str, *sizes: tuple[int, int, int, int, int]) -> tuple[Workload, ...]:
    return tuple(
        LinearAttention(batch=b, seq_len=t, heads=h, key_dim=dk, value_dim=dv, gate=gate)  # type: ignore[arg-type]
        for b, t, h, dk, dv in sizes
    )


def _ssds(*sizes: tuple[int, int, int, int]) -> tuple[Workload, ...]:
    return tuple(
        Ssd(batch=b, seq_len=t, heads=h, head_dim=64, state=n, groups=1) for b, t, h, n in sizes
    )


def _mixer(operator: str, problem: str, *rungs: str, host: str | None = None) -> Operator:
    """An operator of mixers: device rungs of ``problem``, the host class beside it."""
    module, _, name = problem.partition(":")
    label = operator.removesuffix("_step")
    kinds = [
        Variant(
            kernel=f"refkernels.{operator}/{rung}",
            where="device",
            problem=f"refkernels.{module}:{name}",
            arguments=() if name == "StepProblem" else (rung,),
        )
        for rung in rungs
    ]
    if host:
        kinds.append(
            Variant(
                kernel=f"refkernels.{label}/host",
                where="host",
                problem=f"refkernels.{module}:{host}",
            )
        )
    timed, small = _MIXER_SIZES[operator]
    return Operator(name=operator, variants=tuple(kinds), timed=timed, small=small)


_GLA_SHORT = tuple((1, t, 2, dk, dv) for t in (1, 16, 63, 65) for dk, dv in ((64, 64), (128, 128)))

_MIXER_SIZES: dict[str, tuple[tuple[Workload, ...], tuple[Workload, ...]]] = {
    "selective_scan": (
        _scans("bf16", (8, 2048, 4096, 16, 1), (8, 4096, 4096, 16, 1), (1, 65536, 4096, 16, 1)),
        (
            *_scans("bf16", *((1, t, 40, 16, 1) for t in (1, 2, 63, 64, 65, 257))),
            *_scans("fp32", (2, 65, 33, 8, 1), (1, 129, 20, 64, 2), (1, 63, 130, 16, 2)),
            *_scans("fp16", (2, 100, 24, 32, 2), (1, 1, 8, 64, 1)),
            SelectiveScan(batch=1, seq_len=70, channels=20, gated=False),
        ),
    ),
    "selective_scan_step": (
        _scans("bf16", (256, 1, 4096, 16, 1)),
        _scans("bf16", *((b, 1, d, n, 1) for b in (1, 3) for d in (5, 64) for n in (8, 16, 64))),
    ),
    "gla": (
        _linear(
            "vector", (2, 8192, 16, 128, 128), (1, 16384, 16, 128, 128), (1, 8192, 96, 128, 128)
        ),
        (
            *_linear("vector", *_GLA_SHORT, (2, 130, 3, 64, 128)),
            *_linear("scalar", (1, 65, 2, 64, 64), (1, 200, 2, 128, 256)),
            *_linear("none", (1, 65, 2, 64, 64)),
        ),
    ),
    "gla_step": (
        _linear("vector", (256, 1, 16, 128, 128)),
        _linear(
            "vector", *((b, 1, h, 64, dv) for b in (1, 3) for h in (1, 2) for dv in (64, 128, 192))
        ),
    ),
    "ssd": (
        _ssds((8, 4096, 80, 128)),
        _ssds(*((1, t, 4, n) for t in (1, 16, 63, 65, 130) for n in (64, 128))),
    ),
    "ssd_step": (
        _ssds((256, 1, 80, 128)),
        _ssds(*((b, 1, h, n) for b in (1, 3, 5) for h in (1, 4) for n in (64, 128))),
    ),
}
"""Operator -> workloads that are timed, workloads that are checked."""

_SCAN_RUNGS = ("01_channel_per_thread", "02_shared_groups", "03_state_lanes", "04_polynomial")
_CHUNK_RUNGS = ("02_chunk", "03_segments")

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
    _mixer(
        "selective_scan",
        "selective_scan.problem:ScanProblem",
        *_SCAN_RUNGS,
        host="HostScanProblem",
    ),
    _mixer("selective_scan_step", "selective_scan.problem:StepProblem", "step"),
    _mixer("gla", "gla.problem:GlaProblem", *_CHUNK_RUNGS, host="HostGlaProblem"),
    _mixer("gla_step", "gla.problem:GlaProblem", "01_recurrent"),
    _mixer("ssd", "ssd.problem:SsdProblem", *_CHUNK_RUNGS, host="HostSsdProblem"),
    _mixer("ssd_step", "ssd.problem:SsdProblem", "01_recurrent"),
)


def pairs(where: str, *, small: bool) -> Iterator[tuple[Variant, Workload]]:
    """Every (variant, workload) that runs on the ``host`` or the ``device``."""
    for operator in OPERATORS:
        for variant in operator.variants:
            if variant.where == where:
                for workload in operator.small if small else operator.timed:
                    yield variant, workload
