"""``perfmodel plan``: what serves a load within its service levels, best first."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perfmodel.cli._options import (
    Chunk,
    Dtype,
    Explain,
    KvDtype,
    Memory,
    Model,
    OnSeveral,
    Page,
    Price,
    Reserve,
    WeightDtype,
    count,
    counts,
    each,
    given,
    optional_count,
    quantity,
    several,
    words,
)
from perfmodel.cli._output import Csv, Json, Specs, show


def command(
    model: Model,
    *,
    on: OnSeveral,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TOKENS", help="Prompt tokens.")],
    output: Annotated[str, typer.Option("--output", metavar="TOKENS", help="Output tokens.")],
    users: Annotated[str | None, typer.Option("--users", help="Requests in flight.")] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests per second, instead of --users.")
    ] = None,
    ttft: Annotated[
        str | None, typer.Option("--ttft", metavar="TIME", help="Mean time to first token, as 2s.")
    ] = None,
    tpot: Annotated[
        str | None, typer.Option("--tpot", metavar="TIME", help="Mean time per token, as 50ms.")
    ] = None,
    prefix_hit: Annotated[
        float, typer.Option("--prefix-hit", help="Share of each prompt in the prefix cache.")
    ] = 0.0,
    tp: Annotated[str | None, typer.Option("--tp", help="Tensor-parallel degrees to try.")] = None,
    pp: Annotated[str | None, typer.Option("--pp", help="Pipeline depths to try.")] = None,
    ep: Annotated[str | None, typer.Option("--ep", help="Expert-parallel devices.")] = None,
    dtype: Dtype = None,
    weight_dtype: WeightDtype = None,
    kv_dtype: KvDtype = None,
    max_devices: Annotated[
        str | None, typer.Option("--max-devices", help="Devices allowed in all.")
    ] = None,
    rank: Annotated[
        str, typer.Option("--rank", help="Best first by cost, devices, latency or energy.")
    ] = "cost",
    price: Price = None,
    memory: Memory = None,
    reserve: Reserve = None,
    page: Page = "16",
    chunk: Chunk = None,
    explain: Explain = False,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Find what serves the load. Exit code 1, with the reasons, when nothing does."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.planning.defaults import PREFILL_CHUNK
    from perfmodel.report.plans import plan_shown

    ranked: Any = rank  # checked where it is used
    answer = api.plan(
        model,
        several(on),
        **each(count, prompt=prompt, output=output, users=users),
        **given(rate=rate, prefix_hit=prefix_hit, price=price),
        ttft_s=quantity(ttft, "time", "ttft"),
        tpot_s=quantity(tpot, "time", "tpot"),
        dtype=words(dtype),
        weight_dtype=words(weight_dtype),
        kv_dtype=words(kv_dtype),
        rank=ranked,
        **each(counts, tp=tp, pp=pp),
        **each(count, ep=ep, max_devices=max_devices),
        **given(
            memory_bytes=quantity(memory, "bytes", "memory"),
            reserve_bytes=quantity(reserve, "bytes", "reserve"),
        ),
        chunk=PREFILL_CHUNK if chunk is None else optional_count(chunk, "chunk"),
        page_size=optional_count(page, "page"),
    )
    told = api.explain(answer) if explain else None
    show(answer.to_dict(), plan_shown(answer), as_json=json, as_csv=csv, told=told)
    return 0 if answer.feasible else 1
