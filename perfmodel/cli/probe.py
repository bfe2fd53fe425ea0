"""``perfmodel probe``: measure this machine's roofs and write them as a device of one's own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.cli._output import Csv, Json, Specs, emit
from perfmodel.errors import BadValue, MissingExtra
from perfmodel.files import check_writable, write_atomically
from perfmodel.hw.device import Device
from perfmodel.hw.probed import SOURCE, probed_device
from perfmodel.hw.write import to_toml
from perfmodel.report.tables import Column, Table
from perfmodel.units import format_si

SOURCES = f"""[{SOURCE}]
title = "Roofs of this machine, measured by perfmodel probe"
publisher = "perfmodel"
where = "measured/"
date = "{{date}}"
"""


def command(
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder of specs to write to; use with --specs."),
    ] = Path("specs"),
    host: Annotated[
        bool, typer.Option("--host", help="The processor, even where a GPU is visible.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the device; default its product.")
    ] = None,
    budget: Annotated[
        float, typer.Option("--budget", help="Seconds for each point measured.")
    ] = 0.1,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Measure bandwidth per memory level and arithmetic rates; write DIR/hw/NAME.toml."""
    del specs
    if not 0.0 < budget <= 60.0:
        msg = f"must lie between 0 and 60 seconds, got {budget:g}"
        raise BadValue(msg, field="--budget", fix="--budget 0.1")
    if out.suffix == ".toml" or out.is_file():
        msg = f"names a folder, got {str(out)[:80]!r}"
        fix = f"--out specs --name {out.stem}"
        raise BadValue(msg, field="--out", fix=fix)
    check_writable(out)
    device, roofs = _measured(out, host=host, name=name, budget_s=budget)
    spec = out / "hw" / f"{device.name}.toml"
    write_atomically(spec, to_toml(device))
    figures = _figures(device)
    told: dict[str, Any] = {"device": device.name, "spec": str(spec), "roofs": str(roofs)}
    columns = (
        Column(key="what", title="roof", right=False),
        Column(key="value", title=device.name),
    )
    rows = tuple({"what": k, "value": format_si(v, unit)} for k, (v, unit) in figures.items())
    table = Table(title=f"Written to {spec}", columns=columns, rows=rows)
    emit(told | {k: v for k, (v, _) in figures.items()}, [table], as_json=json, as_csv=csv)
    return 0


def _measured(out: Path, *, host: bool, name: str | None, budget_s: float) -> tuple[Device, Path]:
    """The probed device, and the file of its roofs under ``out``; both appear when complete."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "roofs.json"
        command = [sys.executable, "-m", "refkernels.probe", "--out", str(raw)]
        command += ["--budget", str(budget_s), *(["--host"] if host else [])]
        command += ["--device", name] if name else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
        if done.returncode or not raw.is_file():
            said = (done.stderr.strip().splitlines() or ["the probe wrote nothing"])[-1]
            raise MissingExtra(said.removeprefix("error: "), fix="pip install 'perfmodel[host]'")
        device = probed_device(raw)
        kept = out / "measured" / f"{device.name}-roofs.json"
        write_atomically(kept, raw.read_text(encoding="utf-8"))
    _cite(out)
    return device, kept


def _cite(out: Path) -> None:
    """Name the source that the spec's figures cite, once."""
    import datetime

    path = out / "sources.toml"
    known = path.read_text(encoding="utf-8") if path.is_file() else ""
    if f"[{SOURCE}]" not in known:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        entry = SOURCES.format(date=today)
        write_atomically(path, f"{known}\n{entry}" if known else entry)


def _figures(device: Device) -> dict[str, tuple[float, str]]:
    """What the table shows: rates and bandwidths."""
    rates = {f"{unit} {dtype}": (peak, "FLOP/s") for (unit, dtype, _), peak in
             device.compute.peaks.items()}  # fmt: skip
    levels = {
        f"{level.name} bandwidth": (level.bandwidth_bytes_per_s, "B/s")
        for level in device.memory.levels
        if level.bandwidth_bytes_per_s is not None
    }
    return rates | levels | {"special functions": (device.compute.special_per_s, "op/s")}
