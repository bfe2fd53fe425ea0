"""``perfmodel validate``: predictions beside measurements, by scenario and time range."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.cli._output import Csv, Json, Specs, emit
from perfmodel.report.tables import Column, Table
from perfmodel.validation import FileReport, validate_files


def command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Tidy CSV, pytest-benchmark or Measurement JSON."),
    ],
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Score predictions against measurements: factor = exp(mean |ln(predicted / measured)|)."""
    del specs
    reports = validate_files(files)
    tables = [_table(reports), _refusals(reports)]
    emit(
        {"files": [r.to_dict() for r in reports]},
        tables if tables[1].rows else tables[:1],
        as_json=json,
        as_csv=csv,
    )
    return 0 if any(r.scored for r in reports) else 1


def _table(reports: list[FileReport]) -> Table:
    columns = (
        Column(key="file", title="file", right=False),
        Column(key="scenario", title="scenario", right=False),
        Column(key="range", title="range", right=False),
        Column(key="rows", title="rows"),
        Column(key="factor", title="factor"),
        Column(key="naive_factor", title="naive roofline"),
        Column(key="mape", title="MAPE", text=_percent),
        Column(key="p90_ape", title="p90 APE", text=_percent),
        Column(key="bias", title="bias"),
        Column(key="coverage", title="in interval", text=_percent),
    )
    rows = tuple(row for r in reports for row in _rows(r))
    return Table(title="Predicted against measured", columns=columns, rows=rows)


def _rows(report: FileReport) -> list[dict[str, Any]]:
    groups = [
        {"file": report.file, "scenario": s, "range": r} | e.to_dict()
        for (s, r), e in report.groups.items()
    ]
    whole = report.to_dict()
    total = {"file": report.file, "scenario": "all", "range": "", "rows": whole["scored"]}
    keys = ("factor", "naive_factor", "mape", "p90_ape", "bias", "coverage")
    return [*groups, total | {k: whole[k] for k in keys}]


def _refusals(reports: list[FileReport]) -> Table:
    columns = (
        Column(key="file", title="file", right=False),
        Column(key="rows", title="rows"),
        Column(key="reason", title="reason", right=False),
    )
    rows = tuple(
        {"file": r.file, "rows": n, "reason": reason}
        for r in reports
        for reason, n in r.refused_by_reason.items()
    )
    return Table(title="Refused rows", columns=columns, rows=rows)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
