"""``perfmodel estimate``: how long an operator or a model step takes on a device."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perfmodel.cli._options import (
    Batch,
    Chunk,
    Context,
    Dtype,
    Ep,
    Explain,
    KvDtype,
    On,
    Phase,
    Pp,
    Prompt,
    Tp,
    WeightDtype,
    apply,
    count,
    given,
    optional_count,
)
from perfmodel.cli._output import Csv, Json, Specs, emit

Subject = Annotated[str, typer.Argument(help="An operator (gemm, attention, ...) or a model.")]
Fields = Annotated[
    list[str] | None, typer.Argument(help="An operator's fields as name=value.", metavar="FIELD=VALUE")
]


def command(
    subject: Subject,
    fields: Fields = None,
    on: On = "",
    phase: Phase = None,
    batch: Batch = "1",
    context: Context = None,
    prompt: Prompt = None,
    tp: Tp = "1",
    pp: Pp = "1",
    ep: Ep = "1",
    dtype: Dtype = None,
    weight_dtype: WeightDtype = None,
    kv_dtype: KvDtype = None,
    chunk: Chunk = None,
    kernel: Annotated[
        str | None, typer.Option("--kernel", help="An operator's implementation by name.")
    ] = None,
    launch: Annotated[
        str, typer.Option("--launch", help="graph, stream or eager (operators).")
    ] = "graph",
    engine: Annotated[
        str | None, typer.Option("--engine", help="Add the host overhead of this serving engine.")
    ] = None,
    explain: Explain = False,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Estimate an operator (gemm m=4096 n=4096 k=4096) or a model's step (--phase decode)."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.cli._subjects import op_named, require, workload
    from perfmodel.report.verdicts import estimate_shown

    where = require(on, "--on", "a device, for example h100-sxm-80gb")
    if op_named(subject):
        found = api.estimate(
            workload(subject, fields or []), where, kernel=kernel, launch=launch  # type: ignore[arg-type]  # checked where it is used
        )
    else:
        sizes: dict[str, Any] = apply(
            count, batch=batch, context=context, prompt=prompt, tp=tp, pp=pp, ep=ep
        )
        found = model_step(
            subject,
            fields or [],
            where,
            phase,
            sizes
            | given(
                dtype=dtype,
                weight_dtype=weight_dtype,
                kv_dtype=kv_dtype,
                engine=engine,
                chunk=optional_count(chunk, "chunk"),
            ),
        )
    tables, notes = estimate_shown(found)
    notes = [*api.explain(found).splitlines(), *notes] if explain else notes
    emit(found.to_dict(), tables, as_json=json, as_csv=csv, notes=notes)
    return 0
