"""How far predictions lie from measurements, for people: by file, by class, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel import catalog
from perfmodel.files import read_json
from perfmodel.report.shown import Shown, percent
from perfmodel.report.tables import Column, Table
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.validation import FileReport, Scored
from perfmodel.validation.baseline import Compared

LEAST_COVERAGE, MOST_COVERAGE = 0.85, 0.95
"""What the coverage of intervals meant to hold 90 % is held to, where rows are many."""

VALIDATION = (
    Column(key="file", title="file", right=False),
    Column(key="scenario", title="scenario", right=False),
    Column(key="range", title="range", right=False),
    Column(key="rows", title="rows"),
    Column(key="factor", title="factor"),
    Column(key="naive_factor", title="naive roofline"),
    Column(key="mape", title="MAPE", text=percent),
    Column(key="p90_ape", title="p90 APE", text=percent),
    Column(key="bias", title="bias"),
    Column(key="coverage", title="in interval", text=percent),
)
COMPARED = (
    Column(key="kernel_class", title="class", right=False),
    Column(key="device", title="device", right=False),
    Column(key="quantity", title="quantity", right=False),
    Column(key="rows", title="rows"),
    Column(key="factor", title="factor"),
    Column(key="mape", title="MAPE", text=percent),
    Column(key="p90_ape", title="p90 APE", text=percent),
    Column(key="bias", title="bias"),
    Column(key="coverage", title="in interval", text=percent),
    Column(key="roofline", title="plain roofline"),
    Column(key="two_parameters", title="roofline with 2 knobs"),
)
REFUSED = (
    Column(key="file", title="file", right=False),
    Column(key="rows", title="rows"),
    Column(key="reason", title="reason", right=False),
)
CLASSES = (
    Column(key="kernel_class", title="kernel class", right=False),
    Column(key="rows", title="rows"),
    Column(key="factor", title="factor, fitted"),
    Column(key="held_back", title="factor, device held back"),
    Column(key="coverage", title="interval holds", text=percent),
    Column(key="span", title="measured / predicted", right=False),
    Column(key="devices", title="fitted on", right=False),
    Column(key="date", title="date", right=False),
)
RUNS = (
    Column(key="file", title="file", right=False),
    Column(key="device", title="device", right=False),
    Column(key="date", title="date", right=False),
    Column(key="driver", title="driver", right=False),
    Column(key="kernel_revision", title="kernels", right=False),
)


def coverage_verdict(rows: Sequence[Scored]) -> tuple[str, bool]:
    """How many measurements lie in their predicted intervals, and whether that is enough."""
    inside = sum(r.inside for r in rows)
    share = inside / len(rows)
    told = f"{inside:,} of {len(rows):,} measurements ({share:.0%}) lie in the predicted interval"
    if share < LEAST_COVERAGE:
        return f"{told}; intervals are held to {LEAST_COVERAGE:.0%}", False
    return told, True


def validation_table(reports: Sequence[FileReport]) -> Table:
    """Error figures of every group of every file."""
    rows = tuple(row for r in reports for row in _rows(r))
    return Table(title="Predicted against measured", columns=VALIDATION, rows=rows)


def _rows(report: FileReport) -> list[dict[str, Any]]:
    groups = [
        {"file": report.file, "scenario": s, "range": r} | e.to_dict()
        for (s, r), e in report.groups.items()
    ]
    whole = report.to_dict()
    total = {"file": report.file, "scenario": "all", "range": "", "rows": whole["scored"]}
    keys = ("factor", "naive_factor", "mape", "p90_ape", "bias", "coverage")
    return [*groups, total | {k: whole[k] for k in keys}]


def compared_table(rows: Sequence[Compared]) -> Table:
    """Errors by class and device, beside what a roofline and a fitted roofline would give."""
    shown = tuple(
        r.errors.to_dict() | {n: getattr(r, n) for n in ("kernel_class", "device", "quantity")}
        | {"roofline": r.roofline, "two_parameters": r.two_parameters}
        for r in rows
    )  # fmt: skip
    return Table(title="by class and device", columns=COMPARED, rows=shown)


def refusal_table(reports: Sequence[FileReport]) -> Table:
    """Why rows have no prediction, and how many."""
    rows = tuple(
        {"file": r.file, "rows": n, "reason": reason}
        for r in reports
        for reason, n in r.refused_by_reason.items()
    )
    return Table(title="Refused rows", columns=REFUSED, rows=rows)


def class_table() -> Table:
    """Every fitted kernel class: how far off it was where it was fitted, and where it was not."""
    known = [name for name in catalog.names("calibration") if name in CLASS_MODELS]
    paths = [catalog.find("calibration", name) for name in known]
    rows = tuple(_class(path, path.stat().st_mtime_ns) for path in paths)
    return Table(title="Kernel classes", columns=CLASSES, rows=rows)


@lru_cache(maxsize=64)
def _class(path: Path, mtime_ns: int) -> Mapping[str, Any]:
    del mtime_ns  # part of the cache key: an edited file is read again
    table = catalog.read_toml(path)
    fit, residuals = table.get("fit", {}), table.get("residuals", {})
    return {
        "kernel_class": path.stem,
        "rows": fit.get("rows"),
        "factor": fit.get("factor"),
        "held_back": table.get("held_back", {}).get("device", {}).get("factor"),
        "coverage": residuals.get("coverage"),
        "span": f"{residuals.get('low')} .. {residuals.get('high')}",
        "devices": ", ".join(fit.get("devices", ())),
        "date": fit.get("date"),
    }


def run_table() -> Table:
    """Every file of measurements shipped: which board, when, with which driver and kernels."""
    paths = [catalog.find("measured", name) for name in catalog.names("measured")]
    rows = tuple(_run(path, path.stat().st_mtime_ns) for path in paths)
    return Table(title="Measurements", columns=RUNS, rows=rows)


@lru_cache(maxsize=64)
def _run(path: Path, mtime_ns: int) -> Mapping[str, Any]:
    del mtime_ns  # part of the cache key: an edited file is read again
    data = read_json(path)
    device, software = data.get("device") or {}, data.get("software") or {}
    return {
        "file": path.stem,
        "device": device.get("product") or device.get("name"),
        "date": data.get("date"),
        "driver": software.get("driver"),
        "kernel_revision": data.get("kernel_revision"),
    }


def report_shown(report: FileReport) -> Shown:
    """How far predictions are off on one file, by scenario and time range."""
    refused = refusal_table([report])
    off = "nothing scored" if report.factor is None else f"off by a factor of {report.factor:.3f}"
    return Shown(
        lead=(f"{report.file}: {len(report.scored):,} of {report.rows:,} rows, {off}",),
        tables=(validation_table([report]), *([refused] if refused.rows else [])),
    )
