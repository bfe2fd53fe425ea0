"""``perfmodel calibrate``: fit the kernel classes on measurements and write their files."""

from __future__ import annotations

import datetime
import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.calibration.calibrate import calibrate, read_rows
from perfmodel.calibration.dataset import gather
from perfmodel.calibration.files import write_class
from perfmodel.calibration.networks import calibrate_networks
from perfmodel.catalog import using_specs
from perfmodel.cli._output import Csv, Json, Specs, emit
from perfmodel.files import check_writable
from perfmodel.measure import Measurement
from perfmodel.models.host import FILE
from perfmodel.report.tables import Column, Table
from perfmodel.validation.engines import host_table


def command(
    data: Annotated[
        list[Path],
        typer.Option("--data", metavar="DIR", help="A folder of measured tables; repeatable."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the class files go.")
    ] = Path("calibration"),
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="CLASS", help="Fit this kernel class alone; repeatable."),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Fit each kernel class and serving engines, rows held back for intervals; one file each."""
    del specs
    measured = read_rows(data)
    check_writable(out)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    rows = []
    tables = [calibrate(gather(measured), _progress, only or ())]
    if not only:
        tables.append(calibrate_networks(measured, _progress))
    for name, table in itertools.chain(*tables):
        written = write_class(out / f"{name}.toml", table, today)
        rows.append(_row(name, table) | {"written": written})
    engines = None if only else _engines(measured, out)
    if engines is not None:
        engines["written"] = write_class(out / f"{FILE}.toml", engines.pop("table"), today)
    told = {"classes": rows} | ({"engines": engines} if engines is not None else {})
    emit(told, [_table(rows), *_engine_tables(engines)], as_json=json, as_csv=csv)
    return 0


def _engines(measured: list[Measurement], out: Path) -> dict[str, Any] | None:
    """The fit of serving engines on top of the classes just written; None without such rows."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(out, Path(folder) / "calibration")
        with using_specs(folder):
            _progress("serving engines")
            table = host_table(measured)
    if table is None:
        return None
    fit, held = table["fit"], table["held_back"]
    return {"table": table, "rows": fit["rows"], "factor": fit["factor"], **held}


def _engine_tables(engines: dict[str, Any] | None) -> list[Table]:
    if engines is None:
        return []
    splits = [k for k, v in engines.items() if isinstance(v, dict)]
    columns = (
        Column(key="scenario", title="scenario", right=False),
        *(Column(key=s, title=f"held back by {s}") for s in splits),
    )
    names = dict.fromkeys(name for s in splits for name in engines[s])
    rows = tuple({"scenario": n} | {s: engines[s].get(n) for s in splits} for n in names)
    return [Table(title="Served models", columns=columns, rows=rows)]


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
