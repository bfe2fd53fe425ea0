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
from refkernels._attention_sizes import (
    HOST_ATTENTIONS,
    SMALL_ATTENTIONS,
    SMALL_DECODES,
    attentions,
    decodes,
    prefills,
)
from refkernels._check import Gate
from refkernels._mixer_sizes import MIXER_SIZES


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


_LENGTHS = (4, 12, 100, 1000, 4096, 16380, 16384, 16388, 65536, 100_000)


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
_FEW_ROWS_MANY_TILES = (
    (16, 9000, 300),
    (33, 20000, 600),
    (64, 9000, 4096),
    (1, 17000, 64),
    (2, 129, 1000),
    (5, 777, 1234),
    (24, 500, 2049),
    (40, 8448, 32),
    (48, 256, 511),
)

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


def _mixer(operator: str, problem: str, *rungs: str, host: str | None = None) -> Operator:
    """An operator of mixers: device rungs of ``problem``, the host class beside it."""
    module, _, name = problem.partition(":")
    label = module.removesuffix(".problem")
    kinds = [
        Variant(
            kernel=f"refkernels.{label}/{rung}",
            where="device",
            problem=f"refkernels.{module}:{name}",
            arguments=() if name == "StepProblem" else (rung,),
            capability=HOPPER if "wgmma" in rung else 80,
            exact="wgmma" in rung,
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
    timed, small = MIXER_SIZES[operator]
    return Operator(name=operator, variants=tuple(kinds), timed=timed, small=small)


_SCAN_RUNGS = ("01_channel_per_thread", "02_shared_groups", "03_state_lanes")
_CHUNK_RUNGS = ("02_chunk", "03_segments", "04_wgmma")


def _attention_variant(package: str, name: str, capability: int) -> Variant:
    return Variant(
        kernel=f"refkernels.{package}/{name}",
        where="device",
        problem="refkernels.attention.problem:PrefillProblem",
        arguments=(name,),
        capability=capability,
        exact=capability == HOPPER,
    )


def _attention_host(package: str) -> Variant:
    return Variant(
        kernel=f"refkernels.{package}/host",
        where="host",
        problem="refkernels.attention.problem:HostProblem",
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
        small=_copies(*_LENGTHS, *(4 * n for n in _LENGTHS)),
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
    Operator(
        name="llm_int8",
        variants=(
            Variant(
                kernel="refkernels.int8_gemm/llm_int8",
                where="device",
                problem="refkernels.int8_gemm.problem:LlmInt8Problem",
                capability=HOPPER,
                exact=True,
            ),
        ),
        timed=_products((4096, 16384, 4096)),
        small=_products(*_FEW_ROWS, *_MANY_ROWS, (20, 64, 8200), (300, 64, 5000)),
    ),
    _mixer(
        "selective_scan",
        "selective_scan.problem:ScanProblem",
        *_SCAN_RUNGS,
        host="HostScanProblem",
    ),
    _mixer("selective_scan_16_bits", "selective_scan.problem:ScanProblem", "04_outer_products"),
    _mixer("selective_scan_step", "selective_scan.problem:StepProblem", "step"),
    _mixer("gla", "gla.problem:GlaProblem", *_CHUNK_RUNGS, host="HostGlaProblem"),
    _mixer("gla_step", "gla.problem:GlaProblem", "01_recurrent"),
    _mixer(
        "delta_rule",
        "delta_rule.problem:DeltaProblem",
        "02_chunk",
        "03_wgmma",
        "04_wgmma_concurrent",
        host="HostDeltaProblem",
    ),
    _mixer("delta_rule_step", "delta_rule.problem:DeltaProblem", "01_recurrent"),
    _mixer("ssd", "ssd.problem:SsdProblem", *_CHUNK_RUNGS, host="HostSsdProblem"),
    _mixer("ssd_step", "ssd.problem:SsdProblem", "01_recurrent"),
    Operator(
        name="attention_prefill",
        variants=(
            _attention_variant("attention", "01_mma_sync", 80),
            _attention_variant("attention", "02_wgmma_tma", HOPPER),
            _attention_variant("attention", "03_warp_specialised", HOPPER),
            _attention_variant("attention", "04_overlap", HOPPER),
            _attention_variant("attention", "05_persistent", HOPPER),
        ),
        timed=attentions(prefills(1024, 4096, 16384)),
        small=attentions(SMALL_ATTENTIONS),
    ),
    Operator(
        name="sigmoid_attention_prefill",
        variants=(
            _attention_variant("sigmoid_attention", "01_mma_sync", 80),
            _attention_variant("sigmoid_attention", "02_persistent", HOPPER),
        ),
        timed=attentions(prefills(1024, 4096, 16384), score="sigmoid"),
        small=attentions(SMALL_ATTENTIONS, score="sigmoid"),
    ),
    Operator(
        name="attention_decode",
        variants=(
            Variant(
                kernel="refkernels.attention/decode_split_kv",
                where="device",
                problem="refkernels.attention.problem:DecodeProblem",
            ),
        ),
        timed=decodes(
            *((b, 1, n, 32, 8, 128, None, "bf16") for b, n in ((1, 8192), (1, 65536), (8, 8192))),
            (32, 1, 8192, 32, 8, 128, None, "bf16"),
            (32, 1, 8192, 32, 8, 128, 16, "bf16"),
            (32, 1, 8192, 32, 8, 128, None, "fp8"),
        ),
        small=SMALL_DECODES,
    ),
    Operator(
        name="attention_host",
        variants=(_attention_host("attention"),),
        timed=attentions(HOST_ATTENTIONS, "fp32"),
        small=attentions(SMALL_ATTENTIONS, "fp32"),
    ),
    Operator(
        name="sigmoid_attention_host",
        variants=(_attention_host("sigmoid_attention"),),
        timed=attentions(HOST_ATTENTIONS, "fp32", "sigmoid"),
        small=attentions(SMALL_ATTENTIONS, "fp32", "sigmoid"),
    ),
)


def pairs(where: str, *, small: bool) -> Iterator[tuple[Variant, Workload]]:
    """Every (variant, workload) that runs on the ``host`` or the ``device``."""
    for operator in OPERATORS:
        for variant in operator.variants:
            if variant.where == where:
                for workload in operator.small if small else operator.timed:
                    yield variant, workload
