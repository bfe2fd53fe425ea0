"""The form of ``specs/hw/<device>.toml``: what a device file may say, checked field by field.

A figure without a ``source`` of its own takes the file's (:mod:`perfmodel.hw.figures` says how it
is written). Per-clock constants and clocks are stored and peaks derived from them; a quoted peak
beside them must agree within 0.5 % or say why not, and a figure twice the derived one is refused as
a 2:4-sparse one.

``python -m perfmodel.hw.spec`` prints the JSON Schema (kept as ``specs/hw.schema.json``).
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from perfmodel.hw.device import Kind
from perfmodel.hw.figures import (
    Bandwidth,
    Bytes,
    BytesPerClock,
    Count,
    CountOrNone,
    Fraction,
    Frequency,
    HourlyPrice,
    Length,
    NamedFigures,
    OpsPerClock,
    Power,
    Rate,
    Strict,
    Text,
    Time,
)
from perfmodel.workload import DTYPE_BYTES

DIFFER = 0.005
"""Relative difference of a quoted and a derived peak from which a reason must be recorded."""

SPARSE = (1.9, 2.1)
"""A quoted peak this many times the derived one counts structured sparsity."""


def _known_dtype(name: Any) -> Any:
    if name not in DTYPE_BYTES:
        msg = f"unknown dtype; one of {', '.join(DTYPE_BYTES)}"
        raise ValueError(msg)
    return name


Dtype = Annotated[str, BeforeValidator(_known_dtype)]


class RateSpec(Strict):
    """One rate of one unit; 1 multiply-add counts as 2 operations, dense only."""

    per_clk: OpsPerClock | None = None
    """Operations per clock and multiprocessor."""
    peak: Rate | None = None
    """The peak that the vendor quotes; its ``reason`` says why it differs from the derived one."""
    use: Literal["derived", "quoted"] = "derived"
    """Which of the two holds where they differ."""

    @model_validator(mode="after")
    def _stated(self) -> RateSpec:
        if self.per_clk is None and self.peak is None:
            msg = "needs per_clk, peak or both"
            raise ValueError(msg)
        if self.use == "quoted" and self.peak is None:
            msg = 'use = "quoted" needs a peak'
            raise ValueError(msg)
        return self


Rates: TypeAlias = dict[Dtype, dict[Dtype, RateSpec]]


class ComputeSpec(Strict):
    """Arithmetic units. ``tensor`` and ``vector`` map dtype, then accumulator, to a rate."""

    units: Count
    """Multiprocessors, compute units or cores."""
    clock_vector: Frequency
    """The clock of vector rates, caches and shared memory."""
    clock_tensor: Frequency | None = None
    """The clock at which the vendor rates the matrix unit; that of the vector unit if absent."""
    special_per_clk: OpsPerClock | None = None
    """Special-function results (exp2, rcp, rsqrt) per clock and multiprocessor."""
    warp_share: Fraction | None = None  # of the tensor peaks, for mma.sync beside wgmma
    warps_per_unit: Count | None = None
    threads_per_unit: Count | None = None
    registers_per_unit: Count | None = None
    tensor: Rates = Field(default_factory=dict)
    vector: Rates = Field(default_factory=dict)
    sustained: dict[Dtype, Fraction] = Field(default_factory=dict)
    """Fraction of the tensor peak that the best library product was seen to reach."""

    def clock_hz(self, unit: str) -> float:
        """The clock of ``unit`` (``"tensor"`` or ``"vector"``)."""
        if unit == "tensor" and self.clock_tensor is not None:
            return self.clock_tensor.value
        return self.clock_vector.value

    def derived(self, unit: str, rate: RateSpec) -> float | None:
        """``per_clk x units x clock`` in operations per second."""
        if rate.per_clk is None:
            return None
        return rate.per_clk.value * self.units.value * self.clock_hz(unit)

    def rates(self) -> list[tuple[tuple[str, str, str], RateSpec]]:
        """Every rate with its key (unit, dtype, accumulator)."""
        return [
            ((unit, dtype, acc), rate)
            for unit, table in (("tensor", self.tensor), ("vector", self.vector))
            for dtype, by_acc in table.items()
            for acc, rate in by_acc.items()
        ]

    @model_validator(mode="after")
    def _peaks_agree(self) -> ComputeSpec:
        for (unit, dtype, acc), rate in self.rates():
            derived = self.derived(unit, rate)
            if derived is None or rate.peak is None:
                continue
            problem = _disagreement(rate.peak.value / derived, rate.peak.reason)
            if problem:
                msg = f"{unit}.{dtype}.{acc}: {problem}"
                raise ValueError(msg)
        return self


def _disagreement(ratio: float, reason: str | None) -> str | None:
    """What is wrong with a quoted peak ``ratio`` times the derived one, if anything."""
    if SPARSE[0] < ratio < SPARSE[1]:
        return f"the quoted peak is {ratio:.3g} x the derived one: a sparse figure? (dense only)"
    if abs(ratio - 1) > DIFFER and not reason:
        return f"the quoted peak is {ratio:.4g} x the derived one; record the reason"
    return None


class LevelSpec(Strict):
    """One memory level."""

    capacity: Bytes | None = None
    """Over the whole device; or give ``per_unit``."""
    per_unit: Bytes | None = None
    """Of one multiprocessor."""
    per_block: Bytes | None = None
    """The most that one thread block can have."""
    unified_per_unit: Bytes | None = None
    """Shared memory and L1 cache together, where one memory serves both."""
    bandwidth: Bandwidth | None = None
    bandwidth_per_clk: BytesPerClock | None = None
    """Over the whole device, at the vector clock."""
    bandwidth_per_clk_unit: BytesPerClock | None = None
    """Of one multiprocessor, at the vector clock."""

    @model_validator(mode="after")
    def _says_something(self) -> LevelSpec:
        if not self.model_fields_set:
            msg = "a memory level needs at least one figure"
            raise ValueError(msg)
        return self


class LinkSpec(Strict):
    """A link, one direction, per device."""

    name: Text
    bandwidth: Bandwidth
    latency: Time | None = None
    domain: Count | None = None
    """How many devices it joins at this rate."""
    reduction: Fraction | None = None
    """Where its switches add up what they pass: the rate of that over the rate of a ring."""


class PowerSpec(Strict):
    """Board power."""

    tdp: Power | None = None
    idle: Power | None = None
    active: Power | None = None
    """Under load, where it was measured (microcontrollers)."""
    process: Length | None = None
    """Class of the manufacturing process, by its nominal feature size ('7 nm')."""


class LaunchSpec(Strict):
    """Time per kernel of back-to-back dependent launches."""

    stream: Time | None = None
    graph: Time | None = None


class PriceSpec(Strict):
    """What an hour of one device costs."""

    usd_per_hour: HourlyPrice
    provider: Text
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d{2}){0,2}$")]
    kind: Text = "on-demand"


class BoardSpec(Strict):
    """What a microcontroller board adds; its clock, rates and SRAM are in compute and memory."""

    core: Text
    flash: Bytes | None = None
    flash_wait_states: CountOrNone | None = None
    flash_line: Bytes | None = None
    external_ram: Bytes | None = None
    external_flash: Bytes | None = None
    icache: Bytes | None = None
    dcache: Bytes | None = None


class DeviceSpec(Strict):
    """A device file. The file's name is the device's name."""

    title: Text
    kind: Kind
    vendor: Text
    architecture: Text
    source: Text | None = None
    """Where figures without a source of their own come from."""
    os_reserve: Bytes | None = None
    """Unified memory that the operating system keeps."""
    compute: ComputeSpec
    memory: Annotated[dict[str, LevelSpec], Field(min_length=1)]
    """Levels from nearest to farthest; the last is the main memory."""
    peer_link: LinkSpec | None = None
    """Between devices of one node."""
    node_link: LinkSpec | None = None
    """Between nodes, per device."""
    host_link: LinkSpec | None = None
    power: PowerSpec | None = None
    launch: LaunchSpec | None = None
    price: list[PriceSpec] = Field(default_factory=list)
    board: BoardSpec | None = None
    measured: NamedFigures = Field(default_factory=dict)
    """Published measurements; the end of a name says the unit (``_fraction``, ``_bandwidth``)."""
    extra: NamedFigures = Field(default_factory=dict)
    """Figures of parts that no formula uses: accelerators beside the main one, power modes."""

    @model_validator(mode="after")
    def _microcontroller(self) -> DeviceSpec:
        if (self.kind == "mcu") != (self.board is not None):
            msg = 'kind = "mcu" and a [board] table go together'
            raise ValueError(msg)
        if self.board is not None and list(self.memory.values())[-1].capacity is None:
            msg = "the last memory level of a board is its SRAM and needs a capacity"
            raise ValueError(msg)
        return self


if __name__ == "__main__":
    sys.stdout.write(json.dumps(DeviceSpec.model_json_schema(mode="validation"), indent=1) + "\n")
