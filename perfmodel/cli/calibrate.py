"""``perfmodel calibrate``: fit the kernel classes on measurements and write their files."""

from __future__ import annotations

import datetime
import itertools
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.calibration.calibrate import calibrate, read_rows
from perfmodel.calibration.dataset import gather
from perfmodel.calibration.files import write_class
from perfmodel.calibration.networks import calibrate_networks
from perfmodel.cli._output import Csv, Json, Specs, emit
from perfmodel.report.tables import Column, Table


def command(
    data: Annotated[
        list[Path],
        typer.Option("--data", metavar="DIR", help="A folder of measured tables; repeatable."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the class files go.")
    ] = Path("calibration"),
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Fit each kernel class, hold rows back for its interval, write one file per class."""
    del specs
    measured = read_rows(data)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    rows = []
    tables = (calibrate(gather(measured), _progress), calibrate_networks(measured, _progress))
    for name, table in itertools.chain(*tables):
        written = write_class(out / f"{name}.toml", table, today)
        rows.append(_row(name, table) | {"written": written})
    emit({"classes": rows}, [_table(rows)], as_json=json, as_csv=csv)
    return 0


def _progress(name: str) -> None:
    if sys.stderr.isatty():
        print(f"fitting {name} ...", file=sys.stderr)


def _row(name: str, table: dict[str, Any]) -> dict[str, Any]:
    held = {f"factor_by_{s}": t["factor"] for s, t in table["held_back"].items()}
    fit, residuals = table["fit"], table["residuals"]
    return {
        "class": name,
        "rows": fit["rows"],
        "devices": ", ".join(fit["devices"]),
        "factor": fit["factor"],
        **held,
        "low": residuals["low"],
        "high": residuals["high"],
        "unidentified": ", ".join(k for k, p in table["parameters"].items() if not p["identified"]),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = (
        Column(key="class", title="class", right=False),
        Column(key="rows", title="rows"),
        Column(key="factor", title="factor"),
        Column(key="factor_by_shape", title="held back by shape"),
        Column(key="factor_by_model", title="by model"),
        Column(key="factor_by_file", title="by file"),
        Column(key="factor_by_device", title="by device"),
        Column(key="factor_by_network", title="by network"),
        Column(key="factor_by_board", title="by board"),
        Column(key="factor_by_runtime", title="by runtime"),
        Column(key="low", title="low"),
        Column(key="high", title="high"),
        Column(key="written", title="written"),
        Column(key="unidentified", title="not identified", right=False),
    )
    return Table(title="Fitted kernel classes", columns=columns, rows=tuple(rows))
