"""What a question is about: a model's step, or one operator with its fields."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer import asking
from explorer.inputs import Input, ask, ask_all, declare
from perfmodel.cli._subjects import workload
from perfmodel.report.scenario import Argument
from perfmodel.workload import WORKLOADS

STEP = "model step"
EXAMPLES = {
    "gemm": "m=4096 n=4096 k=4096 dtype=int8",
    "attention": "batch=1 q_len=4096 kv_len=4096 heads=32 kv_heads=8 head_dim=128",
    "linear_attention": "batch=16 seq_len=2048 heads=32 key_dim=128 value_dim=128",
    "delta_rule": "batch=16 seq_len=2048 key_heads=16 value_heads=32 key_dim=128 value_dim=128",
    "selective_scan": "batch=16 seq_len=2048 channels=4096",
    "ssd": "batch=16 seq_len=2048 heads=64",
    "norm": "rows=4096 cols=4096",
    "elementwise": "elements=16777216 flops=1",
    "conv": "batch=1 height=56 width=56 in_channels=64 out_channels=64 kernel=3 dtype=fp16",
    "collective": "bytes=67108864 ranks=8",
}
"""A starting point for every operator."""
LENGTHS = {
    "decode": ("context",),
    "prefill": ("prompt",),
    "encode": ("prompt",),
    "mixed": ("prompt", "context", "chunk"),
}
"""Lengths that a phase asks for."""

declare(
    subject=Input(
        kind="choice", label="What runs", default=STEP, options=lambda: (STEP, *WORKLOADS)
    ),
    **{
        f"{op}_fields": Input(
            kind="text", label=f"Fields of {op}", default=EXAMPLES.get(op, ""), hint="as m=4096"
        )
        for op in WORKLOADS
    },
)


def about() -> tuple[dict[str, Any], list[Argument], bool]:
    """The inputs, the arguments they make, and whether a model's step was asked for."""
    what = ask("subject")
    if what != STEP:
        name = f"{what}_fields"
        inputs = {"subject": what, name: ask(name)}
        return inputs, _operator(what, inputs[name].split()), False
    shape, name = asking.model()
    inputs = {"subject": what, "model": name, **ask_all("phase", "batch")}
    inputs |= ask_all(*LENGTHS[inputs["phase"]], "tp")
    with st.expander("Data types"):
        inputs |= ask_all(*asking.DTYPE_INPUTS)
    sizes = [n for n in ("phase", "batch", "prompt", "context", "chunk", "tp") if n in inputs]
    options = [asking.option(n, inputs[n]) for n in sizes]
    return inputs, [asking.positional(shape, name), *options, *asking.dtypes(inputs)], True


def _operator(op: str, texts: list[str]) -> list[Argument]:
    """One Python value, the workload; as many words on the command line."""
    work = workload(WORKLOADS[op], texts)
    return [asking.positional(work, op), *(asking.words(text) for text in texts)]
