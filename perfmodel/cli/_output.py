"""What every verb shares: the common options, and the one way an answer is printed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfmodel.errors import BadValue

if TYPE_CHECKING:
    from rich.console import Console

    from perfmodel.report.shown import Shown
    from perfmodel.report.tables import Table

PIPE_WIDTH = 4096
"""Columns where output is no terminal: tables keep their natural width, text is not wrapped."""

Json = Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the main table as CSV, raw SI values.")]


def _use_specs(context: typer.Context, folders: list[Path] | None) -> list[Path]:
    """Search ``folders`` first while the command runs."""
    from perfmodel.catalog import using_specs

    if folders:
        context.with_resource(using_specs(*folders))
    return folders or []


Specs = Annotated[
    list[Path] | None,
    typer.Option(
        "--specs",
        metavar="DIR",
        callback=_use_specs,
        help="A folder of your own specs (hw/*.toml, models/*.json), searched first; repeatable.",
    ),
]
"""Declare it as ``specs: Specs = None``; the folders are in use while the command runs."""


def emit(
    answer: Mapping[str, Any] | Sequence[Any],
    tables: Sequence[Table],
    *,
    as_json: bool = False,
    as_csv: bool = False,
    lead: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Print ``answer`` as JSON, or the first table as CSV, or for people ``lead`` (the verdict),
    all tables, and notes.

    Raises:
        BadValue: both formats were asked for.
    """
    if as_json and as_csv:
        msg = "--json and --csv exclude each other"
        raise BadValue(msg, field="--csv", fix="give one of them")
    if as_json:
        print(json.dumps(_finite(answer), indent=2, ensure_ascii=False))
    elif as_csv:
        sys.stdout.write(tables[0].to_csv())
    else:
        _show(lead, tables, notes)


def show(
    answer: Mapping[str, Any],
    shown: Shown,
    *,
    as_json: bool,
    as_csv: bool,
    told: str | None = None,
) -> None:
    """Print an answer with its layout for people; ``told`` is its derivation, if asked for."""
    emit(
        answer,
        [shown.csv] if as_csv else shown.tables,
        as_json=as_json,
        as_csv=as_csv,
        lead=shown.lead,
        notes=[*_new_lines(told, shown.lead), *shown.notes],
    )


def _new_lines(told: str | None, lead: Sequence[str]) -> list[str]:
    """The lines of a derivation but for the verdict that already stands at the top."""
    return [line for line in (told or "").splitlines() if line not in lead]


def _show(lead: Sequence[str], tables: Sequence[Table], notes: Sequence[str]) -> None:
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    if console.is_terminal:
        _print_all(console, lead, tables, notes)
        return
    console.width = PIPE_WIDTH
    with console.capture() as shown:
        _print_all(console, lead, tables, notes)
    print(*(line.rstrip() for line in shown.get().strip("\n").splitlines()), sep="\n")


def _print_all(
    console: Console, lead: Sequence[str], tables: Sequence[Table], notes: Sequence[str]
) -> None:
    for line in lead:
        console.print(line, markup=False)
    for table in tables:
        console.print(table.to_rich())
    for note in notes:
        console.print(note, markup=False)


def _finite(value: Any) -> Any:
    """``value`` with what JSON cannot say (infinity, NaN) as null and NumPy values as Python's."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
