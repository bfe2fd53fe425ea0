"""Timed kernels for people: each beside its prediction, roof, peers and the rung before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel import catalog
from perfmodel.measure import Measurement
from perfmodel.report.tables import Column, Table
from perfmodel.units import format_binary
from perfmodel.validation import Scored
from perfmodel.workload import Workload

OURS = "refkernels."
"""What the names of this repository's own kernels begin with."""

LIBRARY = "library "
"""What the families of kernels that stand beside none of ours begin with."""
MOST_ROWS = 60
"""Rows of measurements that people are shown; machine output has all."""

LADDER = (
    Column(key="name", title="kernel", right=False),
    Column(key="types", title="types", right=False),
    Column(key="measured_s", title="measured", unit="s"),
    Column(key="predicted_s", title="predicted", unit="s"),
    Column(key="low_s", title="low", unit="s"),
    Column(key="high_s", title="high", unit="s"),
    Column(key="inside", title="in interval"),
    Column(key="of_roof", title="of roof", text="{:.0%}".format),
    Column(key="fitted", title="seen by the fit"),
    Column(key="launch", title="launch", right=False),
)
GAINS = (
    Column(key="rung", title="rung", right=False),
    Column(key="adds", title="what it adds", right=False),
    Column(key="planned", title="predicted", right=False),
    Column(key="measured_s", title="measured", unit="s"),
    Column(key="gain", title="gain", text="x{:.2f}".format),
    Column(key="whole", title="over first", text="x{:.2f}".format),
    Column(key="of_roof", title="of roof", text="{:.0%}".format),
)
ROWS = (Column(key="sizes", title="sizes", right=False), *LADDER)
RESOURCES = (
    Column(key="source", title="source", right=False),
    Column(key="kernel", title="kernel", right=False),
    Column(key="defines", title="variant", right=False),
    Column(key="arch", title="compiled for", right=False),
    Column(key="registers", title="registers"),
    Column(key="spill_bytes", title="spilled", text=format_binary),
    Column(key="smem_bytes", title="shared memory", text=format_binary),
    Column(key="threads", title="threads"),
    Column(key="residence", title="blocks per SM (occupancy)", right=False),
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
    file: str = ""
    """The file of measurements that it is from."""
    fitted: bool = False
    """Whether that file is among the data that its prediction was fitted on."""

    @property
    def ours(self) -> bool:
        """Whether it is a kernel of this repository."""
        return self.kernel.startswith(OURS)

    @property
    def name(self) -> str:
        """The kernel, ours without what all of their names begin with, others' without version."""
        return re.sub(r"^\S+ [^/]*/", "", self.kernel.removeprefix(OURS))

    @property
    def family(self) -> str | None:
        """The folder of this repository's kernels that it belongs to; None for others'."""
        return self.name.partition("/")[0] if self.ours else None

    @property
    def sizes(self) -> str:
        """What tells its workload from others of its operator, types left out."""
        return sized(self.workload)

    @property
    def types(self) -> str:
        """The data types of its workload, each once: ``int8/bf16/int32``."""
        return "/".join(dict.fromkeys(_types(self.workload).values()))

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
    rows = [r for r in rows if _is_kernel(r.measurement)]
    data = {name: fit_data(name) for name in {r.kernel_class for r in rows}}
    found = [_timed(r, data[r.kernel_class]) for r in rows]
    return tuple(sorted(found, key=lambda t: (t.sizes, not t.ours, t.kernel)))


def _is_kernel(m: Measurement) -> bool:
    return m.workload is not None and m.quantity == "latency" and not m.workload.shape


def _timed(row: Scored, data: frozenset[str]) -> Timed:
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
        lower_bound_s=row.bound,
        file=m.file,
        fitted=m.file in data,
    )


def fit_data(kernel_class: str) -> frozenset[str]:
    """The files that a kernel class was fitted on; none where it was not."""
    if kernel_class not in catalog.names("calibration"):
        return frozenset()
    path = catalog.find("calibration", kernel_class)
    return _fit_data(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _fit_data(path: Path, mtime_ns: int) -> frozenset[str]:
    del mtime_ns  # part of the cache key: an edited file is read again
    return frozenset(Path(name).name for name in catalog.read_toml(path)["fit"].get("data", ()))


def sized(workload: Workload) -> str:
    """A workload's sizes and its other fields that are not at their default, in one line; its
    types are left out, so that kernels that differ in them stand side by side.
    """
    values, types = workload.to_dict(), _types(workload)
    told = {f.name: values[f.name] for f in fields(workload) if values[f.name] != f.default}
    return " ".join(f"{k}={v}" for k, v in told.items() if v is not None and k not in types)


def _types(workload: Workload) -> dict[str, str]:
    values = workload.to_dict()
    return {k: v for k, v in values.items() if k.endswith("dtype") and isinstance(v, str)}


def by_family(rows: Sequence[Timed]) -> dict[str, list[Timed]]:
    """Kernels by the folder of ours that they belong to or were timed beside (same device, operator
    and sizes); all others by operator.
    """
    beside: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in rows:
        if row.family is not None:
            beside.setdefault(_place(row), {})[row.family] = None
    found: dict[str, list[Timed]] = {}
    for row in rows:
        other = beside.get(_place(row), {f"{LIBRARY}{row.workload.op}": None})
        for family in [row.family] if row.family is not None else other:
            found.setdefault(family, []).append(row)
    return found


def _place(row: Timed) -> tuple[str, str, str]:
    return row.device, row.workload.op, row.sizes


def ladder_table(rows: Sequence[Timed]) -> Table:
    """Kernels of one size beside their predictions and roofs."""
    title = f"{rows[0].workload.op} {rows[0].sizes} on {rows[0].device}"
    return Table(title=title, columns=LADDER, rows=tuple(_row(r) for r in rows))


def kernel_table(rows: Sequence[Timed]) -> Table:
    """Every timed kernel, one a row."""
    shown = tuple({"sizes": r.sizes} | _row(r) for r in rows)
    return Table(title="every measurement", columns=ROWS, rows=shown)


def _row(t: Timed) -> dict[str, Any]:
    return {c.key: getattr(t, c.key) for c in LADDER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One rung of a ladder as the README beside the kernels tells it."""

    rung: str
    adds: str
    predicted: str


def planned_rungs(readme: str) -> list[Planned]:
    """The rows of the tables whose first column is headed ``rung``: what a rung adds, and what was
    predicted of it.
    """
    found = []
    for block in readme.replace("\r\n", "\n").split("\n\n"):
        lines = [_cells(line) for line in block.strip().splitlines() if line.startswith("|")]
        if len(lines) < 3 or lines[0][0].lower() != "rung":
            continue
        column = next(
            (i for i, c in enumerate(lines[0]) if c.lower().startswith("predicted")), None
        )
        for cells in lines[2:]:
            told = "" if column is None or column >= len(cells) else cells[column]
            found.append(Planned(rung=cells[0], adds=cells[1], predicted=told))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]


def gain_table(planned: Sequence[Planned], rows: Sequence[Timed]) -> Table:
    """Each rung as planned, and what the measurements of one size say of it."""
    shown: list[dict[str, Any]] = []
    first = before = None
    for plan in planned:
        timed = next((r for r in rows if r.ours and _is_rung(r, plan.rung)), None)
        row: dict[str, Any] = {
            "rung": plan.rung,
            "adds": plan.adds,
            "planned": plan.predicted,
        }
        if timed is not None:
            first = first or timed
            row |= {
                "measured_s": timed.measured_s,
                "gain": None if before is None else before.measured_s / timed.measured_s,
                "whole": None if before is None else first.measured_s / timed.measured_s,
                "of_roof": timed.of_roof,
            }
            before = timed
        shown.append(row)
    return Table(title="ladder: predicted and measured gains", columns=GAINS, rows=tuple(shown))


def _is_rung(row: Timed, rung: str) -> bool:
    """Whether a kernel is the rung that a README names: by its number where both have one."""
    name = row.name.partition("/")[2]
    numbers = [re.match(r"\d+(?=_)", text) for text in (name, rung)]
    if numbers[0] and numbers[1]:
        return numbers[0][0] == numbers[1][0] and " " not in name
    return name == rung


def resource_table(entries: Iterable[Mapping[str, Any]]) -> Table:
    """Registers, shared memory and occupancy of kernels as the assembler reported them."""
    rows = tuple(dict(e) | {"residence": _residence(e["resident"])} for e in entries)
    return Table(title="static resources, from the assembler", columns=RESOURCES, rows=rows)


def _residence(resident: Mapping[str, Mapping[str, float]]) -> str:
    """``sm_80: 1 (12%)``; where the shared memory is too little, that it cannot run."""
    return ", ".join(
        f"{arch}: {r['blocks']:.0f} ({r['occupancy']:.0%})" if r["blocks"] else f"{arch}: too large"
        for arch, r in resident.items()
    )
