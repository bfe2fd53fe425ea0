"""``perfmodel capacity``: does it fit, for how many users, and what would help."""

from __future__ import annotations

from typing import Annotated

import typer

from perfmodel.cli._options import (
    Chunk,
    Dtype,
    Ep,
    Explain,
    KvDtype,
    Memory,
    Model,
    On,
    Page,
    Pp,
    Reserve,
    Tp,
    Users,
    WeightDtype,
    count,
    each,
    given,
    optional_count,
    quantity,
)
from perfmodel.cli._output import Csv, Json, Specs, show


def command(
    model: Model,
    *,
    on: On,
    context: Annotated[
        str, typer.Option("--context", metavar="TOKENS", help="Tokens kept per user (8k = 8192).")
    ],
    users: Users = "1",
    tp: Tp = "1",
    pp: Pp = "1",
    ep: Ep = "1",
    dtype: Dtype = None,
    weight_dtype: WeightDtype = None,
    kv_dtype: KvDtype = None,
    memory: Memory = None,
    reserve: Reserve = None,
    page: Page = "16",
    chunk: Chunk = None,
    explain: Explain = False,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Count the users that fit in memory. Exit code 1 when not even those asked for do."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.planning.defaults import PREFILL_CHUNK
    from perfmodel.report.capacity import capacity_shown

    answer = api.capacity(
        model,
        on,
        **each(count, context=context, users=users, tp=tp, pp=pp, ep=ep),
        **given(dtype=dtype, weight_dtype=weight_dtype, kv_dtype=kv_dtype),
        **given(
            memory_bytes=quantity(memory, "bytes", "memory"),
            reserve_bytes=quantity(reserve, "bytes", "reserve"),
        ),
        chunk=PREFILL_CHUNK if chunk is None else optional_count(chunk, "chunk"),
        page_size=optional_count(page, "page"),
    )
    told = api.explain(answer) if explain else None
    show(answer.to_dict(), capacity_shown(answer), as_json=json, as_csv=csv, told=told)
    return 0 if answer.fits else 1
