"""Timed kernels for people: each beside its prediction, its roof and the rung before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from perfmodel.errors import PerfModelError
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.report.tables import Column, Table
from perfmodel.roofline.time import estimate
from perfmodel.units import format_binary
from perfmodel.validation import Scored
from perfmodel.workload import Workload

OURS = "refkernels."
"""What the names of this repository's own kernels begin with."""

LADDER = (
    Column(key="kernel", title="kernel", right=False),
    Column(key="measured_s", title="measured", unit="s"),
    Column(key="predicted_s", title="predicted", unit="s"),
    Column(key="low_s", title="low", unit="s"),
    Column(key="high_s", title="high", unit="s"),
    Column(key="inside", title="in interval"),
    Column(key="of_roof", title="of roof", text="{:.0%}".format),
    Column(key="gain", title="x rung before"),
    Column(key="launch", title="launch", right=False),
)
ROWS = (Column(key="workload", title="workload", right=False), *LADDER)
RESOURCES = (
    Column(key="source", title="source", right=False),
    Column(key="kernel", title="kernel", right=False),
    Column(key="arch", title="architecture", right=False),
    Column(key="defines", title="variant", right=False),
    Column(key="registers", title="registers"),
    Column(key="spill_bytes", title="spilled", text=format_binary),
    Column(key="smem_bytes", title="shared memory", text=format_binary),
    Column(key="threads", title="threads"),
    Column(key="blocks_per_sm", title="blocks per SM"),
    Column(key="occupancy", title="occupancy", text="{:.0%}".format),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One kernel at one size: what was measured, what is predicted, what physics allows."""

    kernel: str
    workload: Workload
    device: str
    launch: str
    measured_s: float
    predicted_s: float | None
    low_s: float | None
    high_s: float | None
    lower_bound_s: float | None

    @property
    def ours(self) -> bool:
        """Whether it is a kernel of this repository."""
        return self.kernel.startswith(OURS)

    @property
    def inside(self) -> bool | None:
        """Whether the measurement lies in the predicted interval."""
        if self.low_s is None or self.high_s is None:
            return None
        return self.low_s <= self.measured_s <= self.high_s

    @property
    def of_roof(self) -> float | None:
        """Lower bound over measured time: the share of the roof that the kernel reaches."""
        return None if self.lower_bound_s is None else self.lower_bound_s / self.measured_s


def timed_kernels(rows: Iterable[Scored]) -> tuple[Timed, ...]:
    """Every measured latency of one operator, ours first in the order of their rungs."""
    found = [_timed(r) for r in rows if _is_kernel(r.measurement)]
    return tuple(sorted(found, key=lambda t: (sized(t.workload), not t.ours, t.kernel)))


def _is_kernel(m: Measurement) -> bool:
    return m.workload is not None and m.quantity == "latency" and not m.workload.shape


def _timed(row: Scored) -> Timed:
    m = row.measurement
    assert m.workload is not None
    return Timed(
        kernel=m.implementation or "unnamed",
        workload=m.workload,
        device=m.device,
        launch=m.launch,
        measured_s=m.value,
        predicted_s=row.predicted,
        low_s=row.low,
        high_s=row.high,
        lower_bound_s=_lower_bound(m.workload, m.device),
    )


def _lower_bound(workload: Workload, device: str) -> float | None:
    try:
        return float(estimate(workload, load_device(device)).lower_bound_s)
    except PerfModelError:
        return None


def sized(workload: Workload) -> str:
    """A workload's sizes and its other fields that are not at their default, in one line."""
    values = workload.to_dict()
    told = {f.name: values[f.name] for f in fields(workload) if values[f.name] != f.default}
    return " ".join(f"{k}={v}" for k, v in told.items() if v is not None)


def ladder_table(rows: Sequence[Timed]) -> Table:
    """Kernels of one workload, each rung beside the one before it."""
    title = f"{rows[0].workload.op} {sized(rows[0].workload)} on {rows[0].device}"
    shown = []
    before: Timed | None = None
    for row in rows:
        gain = before.measured_s / row.measured_s if before is not None and row.ours else None
        shown.append(_row(row) | {"gain": gain})
        before = row if row.ours else before
    return Table(title=title, columns=LADDER, rows=tuple(shown))


def kernel_table(rows: Sequence[Timed]) -> Table:
    """Every timed kernel, one a row."""
    shown = tuple({"workload": sized(r.workload)} | _row(r) for r in rows)
    return Table(title="every measurement", columns=ROWS, rows=shown)


def _row(t: Timed) -> dict[str, Any]:
    names = (c.key for c in LADDER if c.key != "gain")
    return {name: getattr(t, name) for name in names}


def resource_table(entries: Iterable[Mapping[str, Any]], op: str) -> Table:
    """Registers, shared memory and occupancy of every source of one operator."""
    mine = tuple(e for e in entries if str(e.get("source", "")).startswith(f"{op}/"))
    return Table(title="static resources, from the assembler", columns=RESOURCES, rows=mine)


def ladder_sections(readme: str) -> list[str]:
    """The tables of a kernel's README whose header speaks of rungs, as Markdown."""
    blocks = readme.replace("\r\n", "\n").split("\n\n")
    return [b for b in blocks if b.lstrip().startswith("|") and "rung" in b.splitlines()[0].lower()]
