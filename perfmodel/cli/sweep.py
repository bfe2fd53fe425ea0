"""``perfmodel sweep``: a grid of predictions, as a table, CSV or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfmodel.cli._options import (
    Context,
    Dtype,
    Ep,
    KvDtype,
    OnSeveral,
    Phase,
    Pp,
    Prompt,
    Tp,
    WeightDtype,
    counts,
    each,
    named,
    several,
)
from perfmodel.cli._output import Csv, Json, Specs, show

if TYPE_CHECKING:
    from perfmodel.sweeps import Progress


def command(
    subject: Annotated[
        str, typer.Argument(help="Models by commas, or an operator.", metavar="MODEL[,MODEL...]|OP")
    ],
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIELD=VALUES]...", help="An operator's axes, as m=1..4096."),
    ] = None,
    *,
    on: OnSeveral,
    phase: Phase = None,
    batch: Annotated[
        str, typer.Option("--batch", help="Sequences at once, as 1,2,4 or 1..64.")
    ] = "1",
    context: Context = None,
    prompt: Prompt = None,
    tp: Tp = "1",
    pp: Pp = "1",
    ep: Ep = "1",
    dtype: Dtype = None,
    weight_dtype: WeightDtype = None,
    kv_dtype: KvDtype = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Predict a grid. Every size and data type takes lists (1,2,4) and ranges: 1k..128k doubles,
    8..64:8 goes in steps of 8.
    """
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.cli._subjects import op_named, phase_of, refuse_for_operator
    from perfmodel.report.times import SHOWN, sweep_answer, sweep_shown

    op = op_named(subject)
    sizes = {"batch": batch, "context": context, "prompt": prompt, "tp": tp, "pp": pp, "ep": ep}
    names = {"dtype": dtype, "weight_dtype": weight_dtype, "kv_dtype": kv_dtype}
    if op is not None:
        refuse_for_operator(op, phase=phase, **sizes, **names)
        of, grids = _operator(op, fields or [])
    else:
        of = [api.model(name) for name in named(subject, "MODEL")]
        phases = {"phase": named(phase_of(of[0], phase), "phase")}
        grids = each(counts, **sizes) | each(named, **names) | phases
    with _progress() as told:
        found: Any = api.sweep(of, several(on), lean=True, progress=told, **grids)
    answer = sweep_answer(found) if json else {}
    show(answer, sweep_shown(found, None if csv else SHOWN), as_json=json, as_csv=csv)
    return 0


def _operator(op: type[Any], texts: list[str]) -> tuple[Any, dict[str, Any]]:
    """An operator at the first value of every field, and the axes of those with several."""
    from perfmodel.cli._subjects import workload

    axes: dict[str, Any] = {}
    first = []
    for text in texts:
        name, equals, values = text.partition("=")
        if equals and name in op.SIZES:
            axes[name] = counts(values, name)
        elif equals and "," in values:
            axes[name] = named(values, name)
        chosen = axes[name][0] if name in axes else values
        first.append(f"{name}{equals}{chosen}")
    return workload(op, first), axes


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on standard error while it is a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
