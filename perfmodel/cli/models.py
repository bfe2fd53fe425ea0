"""``perfmodel models [NAME]``: the models that are known, or the sheet of one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perfmodel.cli._output import Csv, Json, Specs, emit, show


def command(
    name: Annotated[str | None, typer.Argument(help="A model: name, alias or config.json.")] = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """List the models that are shipped or found, or show one: layers, parameters, cache."""
    del specs  # in use already: the option's callback saw to it
    if name is None:
        return _list(json, csv)
    from perfmodel import api
    from perfmodel.models.describe import model_sheet
    from perfmodel.report.sheets import model_shown

    shape = api.model(name)
    show(model_sheet(shape), model_shown(shape), as_json=json, as_csv=csv)
    return 0


def _list(json: bool, csv: bool) -> int:
    from perfmodel.models.hf import model_names
    from perfmodel.report.sheets import models_table

    table = models_table(model_names())
    answer: dict[str, Any] = {"models": table.records()}
    emit(answer, [table], as_json=json, as_csv=csv)
    return 0
