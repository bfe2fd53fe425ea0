"""``perfmodel validate``: predictions beside measurements, by scenario and time range."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.cli._output import Csv, Json, Specs, emit
from perfmodel.files import write_atomically
from perfmodel.report.accuracy import refusal_table, validation_table
from perfmodel.validation import validate_files


def command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Tidy CSV, pytest-benchmark or Measurement JSON."),
    ],
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Write the accuracy page as well."),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Score predictions against measurements: factor = exp(mean |ln(predicted / measured)|)."""
    del specs
    reports = validate_files(files)
    if markdown is not None:
        from perfmodel.report.accuracy_page import accuracy_page

        write_atomically(markdown, accuracy_page(reports))
    tables = [validation_table(reports), refusal_table(reports)]
    emit(
        {"files": [r.to_dict() for r in reports]},
        tables if tables[1].rows else tables[:1],
        as_json=json,
        as_csv=csv,
    )
    return 0 if any(r.scored for r in reports) else 1
