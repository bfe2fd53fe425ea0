"""``perfmodel estimate``: how long an operator or a model step takes on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from perfmodel.cli._networks import (
    NetworkOptions,
    energy_lines,
    estimate_network,
    network_asked,
)
from perfmodel.cli._options import (
    Batch,
    Battery,
    Chunk,
    Clock,
    Context,
    Dtype,
    Ep,
    Every,
    Explain,
    Fields,
    KvDtype,
    On,
    Phase,
    Pp,
    Prompt,
    Runtime,
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
    runtime: Runtime = None,
    clock: Clock = None,
    battery: Battery = None,
    every: Every = None,
    explain: Explain = False,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Estimate an operator (gemm m=4096 n=4096 k=4096), a model's step (--phase decode) or a
    network on a microcontroller (resnet8 --on stm32l4r5 --runtime x-cube-ai-9)."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.cli._subjects import (
        model_named,
        op_named,
        phase_of,
        refuse_fields,
        refuse_for_operator,
        refuse_options,
        workload,
    )
    from perfmodel.report.times import SHOWN, estimate_shown

    network = NetworkOptions(runtime=runtime, clock=clock, battery=battery, every=every)
    counted = {"batch": batch, "context": context, "prompt": prompt, "tp": tp, "pp": pp, "ep": ep}
    narrow = {"weight_dtype": weight_dtype, "kv_dtype": kv_dtype}
    stepped = {"chunk": chunk, "engine": engine}
    run = {"kernel": kernel, "launch": launch}
    energy: dict[str, Any] = {}
    op = op_named(subject)
    if op is None and network_asked(subject, on):
        refuse_fields(subject, fields or [])
        refuse_options("a network on a microcontroller", counted | narrow | stepped | run)
        found, energy = estimate_network(subject, on, phase, dtype, network)
    elif op is not None:
        network.refuse_if_given(subject)
        refuse_for_operator(op, phase=phase, dtype=dtype, **counted, **narrow, **stepped)
        work = workload(op, fields or [])
        started: Any = launch  # checked where it is used
        found = api.estimate(work, on, kernel=kernel, launch=started)
    else:
        network.refuse_if_given(subject)
        shape = model_named(subject, fields or [])
        refuse_options("a model, whose operators choose their own", run)
        sizes, types = each(count, **counted), given(dtype=dtype, **narrow)
        more = given(engine=engine, chunk=optional_count(chunk, "chunk"))
        found = api.step(shape, on, phase=phase_of(shape, phase), **types, **sizes, **more)
    told = api.explain(found) if explain else None
    shown = estimate_shown(found, None if csv else SHOWN)
    shown = replace(shown, lead=(*shown.lead, *energy_lines(energy)))
    show(found.to_dict() | energy, shown, as_json=json, as_csv=csv, told=told)
    return 0
