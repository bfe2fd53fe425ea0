"""``perfmodel crossover``: which token mixer is fastest at which context length."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perfmodel.cli._options import Batch, On, Price, count, each, given
from perfmodel.cli._output import Csv, Json, Specs, show


def command(
    *,
    on: On,
    phase: Annotated[str, typer.Option("--phase", help="decode or prefill.")] = "decode",
    batch: Batch = "1",
    heads: Annotated[str, typer.Option("--heads", help="Heads of every mixer.")] = "32",
    kv_heads: Annotated[
        str | None, typer.Option("--kv-heads", help="Attention's heads of keys and values.")
    ] = None,
    head_dim: Annotated[str, typer.Option("--head-dim", help="Width of a head.")] = "128",
    shortest: Annotated[str, typer.Option("--shortest", help="First context length.")] = "64",
    longest: Annotated[str, typer.Option("--longest", help="Last context length.")] = "128k",
    dtype: Annotated[str, typer.Option("--dtype", help="Data type of the operands.")] = "bf16",
    price: Price = None,
    json: Json = False,
    csv: Csv = False,
    specs: Specs = None,
) -> int:
    """Put softmax, sigmoid, linear, delta rule, SSD and selective scan side by side by context."""
    del specs  # in use already: the option's callback saw to it
    from perfmodel import api
    from perfmodel.report.crossover import crossover_shown

    mixed: Any = phase  # checked where it is used
    sizes = each(
        count, batch=batch, heads=heads, kv_heads=kv_heads, head_dim=head_dim, shortest=shortest,
        longest=longest,
    )  # fmt: skip
    found = api.crossover(on, phase=mixed, dtype=dtype, **sizes, **given(price=price))
    show(found.to_dict(), crossover_shown(found), as_json=json, as_csv=csv)
    return 0
