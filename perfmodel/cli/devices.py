"""``perfmodel devices``: every device with its peaks, memory, power and price."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from perfmodel.cli._output import Csv, Json, Specs, emit
from perfmodel.errors import UnknownName


def command(
    kind: Annotated[
        str | None, typer.Option(help="Only this kind: gpu, tpu, cpu, soc or mcu.")
    ] = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """List the devices: dense peaks of matrix products, memory, bandwidth, power, price."""
    from perfmodel.hw.device import Kind
    from perfmodel.report.devices import device_table

    del specs  # in use already: the option's callback saw to it
    if kind is not None and kind not in get_args(Kind):
        raise UnknownName("device kind", kind, get_args(Kind))
    table = device_table(kind)
    emit(table.records(), [table], as_json=json, as_csv=csv)
    return 0
