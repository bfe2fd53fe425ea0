"""``perfmodel show NAME``: every figure of a device with its unit, source and condition."""

from __future__ import annotations

from typing import Annotated

import typer

from perfmodel.cli._output import Csv, Json, Specs, emit


def command(
    name: Annotated[
        str, typer.Argument(help="A device (name, alias or spec file), or a table of energies.")
    ],
    measured: Annotated[
        bool, typer.Option("--measured", help="Put measured roofs beside the datasheet.")
    ] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print a spec file, the start of one of your own.")
    ] = False,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Print a device's rates with ridge points, then every figure with source and condition."""
    from perfmodel import catalog

    del specs  # in use already: the option's callback saw to it
    if name in catalog.names("energy"):
        return _show_energies(name, as_json=json, as_csv=csv)
    from perfmodel.hw.load import load_device
    from perfmodel.report import devices

    device = load_device(name)
    if toml:
        from perfmodel.hw.write import to_toml

        typer.echo(to_toml(device), nl=False)
        return 0
    tables = devices.device_sheet(device, measured=measured)
    emit(
        devices.sheet_facts(device, measured=measured),
        tables[::-1] if csv and measured else tables,
        as_json=json,
        as_csv=csv,
        notes=devices.sheet_notes(device),
    )
    return 0


def _show_energies(name: str, *, as_json: bool, as_csv: bool) -> int:
    from perfmodel.hw.load import load_energies
    from perfmodel.report.devices import energy_table, figure_row

    figures = load_energies(name)
    answer = [figure_row(path, figure) for path, figure in figures.items()]
    emit(answer, [energy_table(name, figures)], as_json=as_json, as_csv=as_csv)
    return 0
