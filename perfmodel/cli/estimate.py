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
    Fields,
    KvDtype,
    On,
    Phase,
    Pp,
    Prompt,
    Subject,
    Tp,
    WeightDtype,
    count,
    each,
    given,
    optional_count,
)
from perfmodel.cli._output import Csv, Json, Specs, show


def command(
    subject: Subject,
    fields: Fields = None,
    *,
    on: On,
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
        str, typer.Option("--launch", help="How an operator starts: graph, stream or eager.")
    ] = "graph",
    engine: Annotated[
        str | None, typer.Option("--engine", help="Add this serving engine's host overhead.")
    ] = None,
    explain: Explain = False,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Estimate an operator (gemm m=4096 n=4096 k=4096) or a model's step (--phase decode)."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.cli._subjects import model_named, op_named, phase_of, workload
    from perfmodel.report.times import estimate_shown

    op = op_named(subject)
    if op is not None:
        work = workload(op, fields or [])
        started: Any = launch  # checked where it is used
        found = api.estimate(work, on, kernel=kernel, launch=started)
    else:
        shape = model_named(subject, fields or [])
        sizes = each(count, batch=batch, context=context, prompt=prompt, tp=tp, pp=pp, ep=ep)
        types = given(dtype=dtype, weight_dtype=weight_dtype, kv_dtype=kv_dtype)
        more = given(engine=engine, chunk=optional_count(chunk, "chunk"))
        found = api.step(shape, on, phase=phase_of(shape, phase), **types, **sizes, **more)
    told = api.explain(found) if explain else None
    show(found.to_dict(), estimate_shown(found), as_json=json, as_csv=csv, told=told)
    return 0
