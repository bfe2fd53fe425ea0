"""Rows of tidy CSV tables: one measured figure a row, its shape in named columns.

Times in such tables are milliseconds, sizes are elements, ``bytes`` of collectives are bytes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfmodel.errors import BadInput, MalformedFile
from perfmodel.measure.record import Measurement, Quantity
from perfmodel.measure.rows import WORKLOADS_BY_OP
from perfmodel.workload import Elementwise, Norm, Workload

MAX_BYTES = 64 * 2**20
REQUIRED = ("device", "measured", "unit")
LATENCY_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "s/iteration": 1.0}
ENERGY_UNITS = {"uJ/inf": 1e-6, "mJ/inf": 1e-3, "J/inf": 1.0, "uJ": 1e-6, "mJ": 1e-3, "J": 1.0}
THROUGHPUT_UNITS = {
    "out tok/s/GPU": 1.0,
    "out tok/s total": 1.0,
    "model TFLOP/s/GPU": 1e12,
    "inf/s": 1.0,
}


PROFILER_STEP_S = 1e-6
"""What the profiler behind Vidur's tables rounds times to."""


def read_tidy_csv(path: Path) -> list[Measurement]:
    """Every row of a tidy CSV as a Measurement; rows that cannot be asked carry a ``refusal``.

    Raises:
        MalformedFile: no header, a required column absent, a figure that is not a positive
            number, or a file above 64 MiB; names file, line and column.
    """
    if path.stat().st_size > MAX_BYTES:
        msg = f"{path.name} is larger than 64 MiB"
        raise MalformedFile(msg, field="file", fix="split the table")
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            _check_header(path, reader.fieldnames)
            return [_measurement(path, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path.name} is not a CSV table: {error}"
        raise MalformedFile(msg, field="file", fix="save it as CSV in UTF-8") from None


def _check_header(path: Path, names: object) -> None:
    present = list(names) if isinstance(names, list | tuple) else []
    missing = [c for c in REQUIRED if c not in present]
    if not {"op", "scenario"} & set(present):
        missing.append("op or scenario")
    if missing:
        msg = f"{path.name} lacks the column {', '.join(missing)}"
        raise MalformedFile(msg, field="file", fix="name the columns in a header line")


def _measurement(path: Path, line: int, row: dict[str | None, str | None]) -> Measurement:
    cells = {k: (v or "").strip() for k, v in row.items() if k is not None}
    if None in row or any(v is None for v in row.values()):
        msg = f"{path.name} line {line} has another number of cells than the header"
        raise MalformedFile(msg, field="file", fix="quote cells that contain commas")
    quantity, scale = _unit(path, line, cells["unit"])
    scenario = cells.get("op") or cells.get("scenario") or ""
    workload, refusal = _workload(scenario, cells)
    framework, kernel = _torch(cells, workload)
    return Measurement(
        file=path.name,
        line=line,
        source=cells.get("source", ""),
        device=cells["device"],
        scenario=scenario,
        quantity=quantity,
        value=_figure(path, line, "measured", cells["measured"]) * scale,
        workload=workload,
        question=cells,
        model=cells.get("model") or None,
        dtype=cells.get("dtype") or None,
        framework=framework,
        kernel=kernel,
        launch=_launch(cells),
        warm=_warm(cells),
        naive=_figure(path, line, "roofline", r) * scale if (r := cells.get("roofline")) else None,
        flagged=bool(cells.get("flag")),
        refusal=refusal,
        step=PROFILER_STEP_S if cells.get("source", "").startswith("vidur") else 0.0,
    )


def _unit(path: Path, line: int, unit: str) -> tuple[Quantity, float]:
    tables: tuple[tuple[Quantity, Mapping[str, float]], ...] = (
        ("latency", LATENCY_UNITS),
        ("energy", ENERGY_UNITS),
        ("throughput", THROUGHPUT_UNITS),
    )
    for quantity, units in tables:
        if unit in units:
            return quantity, units[unit]
    msg = f"{path.name} line {line}: unknown unit {unit!r}"
    known = ", ".join(u for _, units in tables for u in units)
    raise MalformedFile(msg, field="unit", fix=f"one of {known}")


def _figure(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        msg = f"{path.name} line {line}: {column} must be a positive number, got {text!r}"
        raise MalformedFile(msg, field=column)
    return value


def _workload(op: str, cells: Mapping[str, str]) -> tuple[Workload | None, str | None]:
    build: Callable[[Cells], Workload] | None = WORKLOADS_BY_OP.get(op)
    if build is None:
        return None, None
    try:
        return build(Cells(cells)), None
    except BadInput as error:
        return None, f"malformed shape: {error.field}"


@dataclass(frozen=True, slots=True)
class Cells:
    """A row's cells by column, with typed access that names the column when it fails."""

    cells: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        """A cell as text, ``default`` where it is empty or absent."""
        return self.cells.get(name) or default

    def count(self, name: str, default: int | None = None) -> int:
        """A cell as a whole number; raises MalformedFile naming the column."""
        text = self.cells.get(name)
        if not text and default is not None:
            return default
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value != math.floor(value):
            msg = f"must be a whole number, got {text!r}"
            raise MalformedFile(msg, field=name)
        return int(value)


def _torch(cells: Mapping[str, str], workload: Workload | None) -> tuple[str | None, str | None]:
    """Framework and kernel as a row names them. Tables of eager PyTorch calls leave unsaid that
    norms and pointwise operators are torch's; LLMCompass times each call until it is done."""
    named = cells.get("framework") or None, cells.get("kernel") or None
    if named != (None, None) or not isinstance(workload, Norm | Elementwise):
        return named
    source = cells.get("source", "")
    if source.startswith("llmcompass"):
        return "torch", "llmcompass"
    return ("torch", None) if source.startswith("neusight") else named


def _warm(cells: Mapping[str, str]) -> bool:
    """Sources that leave operands in the last-level cache: repeated calls without a flush
    (aiconfigurator's attention, convolution and state kernels), or an operator timed inside its
    layer (Vidur's activation, rotary embedding and residual)."""
    source, op = cells.get("source", ""), cells.get("op", "")
    if source.startswith("aiconfigurator"):
        return op.startswith("attn_") or op in ("gdn", "mamba2")
    return source.startswith("vidur") and op in ("add", "mlp_act", "attn_rope")


def _launch(cells: Mapping[str, str]) -> str:
    """How the source launched what it timed: CUDA graph, bare kernels, or an eager framework."""
    source, kernel = cells.get("source", ""), cells.get("kernel", "")
    if _profiled(cells) or source.startswith("neusight"):
        return "alone"  # NeuSight: one eager call between two events
    operator = cells.get("op", "").lower().replace("_", "")
    joined = operator.startswith("allreduce")  # LLMCompass queues them, Vidur profiles each
    if "eager" in kernel or (source.startswith("llmcompass") and not joined):
        return "eager"
    return "stream" if source.startswith("vidur") and joined else "graph"


def _profiled(cells: Mapping[str, str]) -> bool:
    """aiconfigurator's integer and weight-only products of TensorRT-LLM are layers of an engine
    that runs once under TensorRT's profiler (collector/trtllm/collect_gemm_trt.py there): a pair of
    events around each layer. Its other products are replayed from a graph."""
    timed = cells.get("source", "").startswith("aiconfigurator")
    engine = cells.get("framework", "").startswith("trtllm") and cells.get("op") == "gemm"
    return timed and engine and cells.get("dtype", "").startswith("int")
