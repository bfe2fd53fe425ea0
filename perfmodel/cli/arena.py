"""``perfmodel arena``: does a network fit a microcontroller, where does every tensor lie."""

from __future__ import annotations

from typing import Annotated

import typer

from perfmodel.cli._options import On, each, given, quantity
from perfmodel.cli._options import count as whole
from perfmodel.cli._output import Csv, Json, Specs, show


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="A built-in network (resnet8, ds-cnn, mobilenet-v1-0.25-96, autoencoder, deit-t, "
            "mcuformer:dim=216,patch=16) or a .tflite or .onnx file."
        ),
    ],
    *,
    on: On,
    rows: Annotated[
        str,
        typer.Option("--rows", "--patch", metavar="ROWS", help="Rows or tokens at a time."),
    ] = "1",
    inplace: Annotated[
        bool, typer.Option("--inplace/--no-inplace", help="Results over their inputs.")
    ] = True,
    fuse: Annotated[
        bool, typer.Option("--fuse/--no-fuse", help="Neighbours slice by slice as one.")
    ] = True,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="The input window by window.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--no-overwrite", help="Tokens over their own.")
    ] = True,
    depthwise: Annotated[
        bool, typer.Option("--depthwise/--no-depthwise", help="Planes over their own.")
    ] = False,
    reorder: Annotated[
        bool, typer.Option("--reorder/--no-reorder", help="Operators in the best order.")
    ] = True,
    external_ram: Annotated[
        bool, typer.Option("--external-ram", help="Let tensors lie in external RAM.")
    ] = False,
    reserve: Annotated[
        str | None, typer.Option("--reserve", help="SRAM for stack and runtime, as '24 KiB'.")
    ] = None,
    code: Annotated[
        str | None, typer.Option("--code", help="Flash for the program, as '128 KiB'.")
    ] = None,
    align: Annotated[
        str | None, typer.Option("--align", metavar="BYTES", help="Alignment of every tensor.")
    ] = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Plan the arena of a network on a microcontroller. Exit code 1 when it does not fit."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.report.arena import arena_shown

    plan = api.arena(
        model,
        on,
        inplace=inplace,
        fuse=fuse,
        stream=stream,
        overwrite=overwrite,
        depthwise=depthwise,
        reorder=reorder,
        rows=whole(rows, "rows"),
        external_ram=external_ram,
        **each(whole, align=align),
        **given(
            reserve_bytes=_bytes(reserve, "reserve"),
            code_bytes=_bytes(code, "code"),
        ),
    )
    show(plan.to_dict(), arena_shown(plan), as_json=json, as_csv=csv)
    return 0 if plan.fits else 1


def _bytes(text: str | None, field: str) -> int | None:
    value = quantity(text, "bytes", field)
    return None if value is None else int(value)
