"""One measurement: what was run, where, how it was launched, and the figure that came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from perfmodel.workload import Workload

SCHEMA = 1
"""Version of the Measurement file format that this package writes and reads."""

Quantity: TypeAlias = Literal["latency", "throughput", "energy"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement:
    """A measured figure and the question it answers.

    ``value`` is SI: seconds (latency), tokens or FLOP per second (throughput), joules (energy).
    ``workload`` is the operator where one operator was timed; scenarios above it (serving,
    training, networks on a microcontroller) keep their columns in ``question``. ``refusal`` says
    why a row cannot be asked at all. ``flagged`` marks rows that their table calls doubtful.
    """

    file: str
    line: int
    source: str
    device: str
    scenario: str
    quantity: Quantity
    value: float
    workload: Workload | None = None
    question: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    dtype: str | None = None
    framework: str | None = None
    kernel: str | None = None
    launch: str = "graph"
    warm: bool = False
    """Whether the operands may rest in the last-level cache: just written, or not flushed."""
    naive: float | None = None
    """The table's own naive roofline, in the unit of ``value``."""
    flagged: bool = False
    refusal: str | None = None
    step: float = 0.0
    """The step to which the table rounds, in the unit of ``value``: what was measured lies within
    half of it."""

    @property
    def implementation(self) -> str:
        """Framework (without version) and kernel, the name a kernel class is narrowed by."""
        parts = [(self.framework or "").split("-")[0], self.kernel or ""]
        return "/".join(p for p in parts if p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """A measured ceiling of a device: ``quantity`` such as ``dram_read``, with its condition."""

    device: str
    quantity: str
    value: float
    unit: str
    date: str
    condition: Mapping[str, object] = field(default_factory=dict)
    spread: float | None = None
    sm_clock_hz: float | None = None
    power_w: float | None = None
