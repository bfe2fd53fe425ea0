"""The matrix products of a layer: every matrix of ``layer_linears``, one GEMM per stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from perfmodel.models.flow import Amount, CountedOp, Frame
from perfmodel.models.parameters import Linear
from perfmodel.workload import BLOCK_FORMATS, DTYPE_BYTES, Gemm, Size
from perfmodel.workload.dtypes import WEIGHT_SCALES

STAGE_GROUPS = {
    "qkv": "qkv",
    "q_up": "qkv",
    "kv_up": "qkv",
    "out": "out",
    "in": "in",
    "x": "in",
    "dt": "in",
    "gate_up": "mlp",
    "up": "mlp",
    "down": "mlp",
}
"""The group of each stage; those not listed belong to a mixture of experts."""


def products(
    frame: Frame, linears: Iterable[Linear], rows: Size, times: Amount
) -> Iterator[CountedOp]:
    """One GEMM per stage, each device's part: matrices of a stage read the same input at once."""
    stages: dict[str, list[Linear]] = {}
    for linear in linears:
        stages.setdefault(linear.stage, []).append(linear)
    for stage, members in stages.items():
        k = members[0].local(frame.tp)[0]
        n = sum(member.local(frame.tp)[1] for member in members)
        group = STAGE_GROUPS.get(stage, "moe")
        wide = stage == "router"
        gemm = product_of(frame, m=rows, k=k, n=n, wide=wide)
        yield CountedOp(group=group, count=times, workload=gemm, name=stage)


def product_of(
    frame: Frame, *, m: Size, k: Any, n: Any, batch: Any = 1, wide: bool = False
) -> Gemm:
    """A GEMM in the phase's data types; ``wide`` keeps it out of quantisation (head, router), but
    for block formats, which hold whole models."""
    types = frame.dtypes
    act = types.wide if wide else types.act
    kept = wide and types.weight not in BLOCK_FORMATS
    weight = act if kept and DTYPE_BYTES[types.weight] < DTYPE_BYTES[act] else types.weight
    group, _ = WEIGHT_SCALES.get(weight, (None, 0.0))
    return Gemm(
        m=m,
        k=k,
        n=n,
        batch=batch,
        dtype=act,
        weight_dtype=weight,
        out_dtype=types.wide,
        group_size=group if weight != act else None,
    )


def around_out(ops: Iterator[CountedOp]) -> tuple[list[CountedOp], list[CountedOp]]:
    """The products before a mixer and the output projection after it."""
    found = list(ops)
    return [op for op in found if op.name != "out"], [op for op in found if op.name == "out"]
