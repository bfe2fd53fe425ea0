"""Feed-forward blocks of one layer as counted operators: dense and mixtures of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel.models.flow import Amount, CountedOp, Flow, Frame, pointwise, product
from perfmodel.models.matrices import product_of, products
from perfmodel.models.parallel import per_device
from perfmodel.models.parameters import Linear, ffn_linears
from perfmodel.models.shape import Mlp, Moe
from perfmodel.ops.numbers import f64
from perfmodel.workload import DTYPE_BYTES, Array, Collective, Norm, Size

ACTIVATIONS: dict[str, tuple[float, float]] = {
    "silu": (2.0, 2.0),
    "swish": (2.0, 2.0),
    "gelu": (4.0, 1.0),
    "relu": (1.0, 0.0),
    "relu2": (2.0, 0.0),
}
"""FLOPs and special-function results of one activation: sigmoid is an exponential and a reciprocal,
GELU one error function or tanh (Hendrycks and Gimpel, arXiv:1606.08415)."""

ROUNDING = 1e-9
"""Relative excess over a whole number of experts that is rounding, not a further expert."""


def ffn_ops(frame: Frame, ffn: Mlp | Moe, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Everything between a feed-forward's norm and its residual, on one device."""
    times = product(layers, flow.times)
    linears = ffn_linears(frame.shape.hidden, ffn)
    if isinstance(ffn, Mlp):
        width = per_device(ffn.width, frame.tp)
        yield from _dense(frame, ffn, linears, width, flow, times)
        return
    yield from products(frame, _named(linears, "router", "latent_down"), flow.rows, times)
    scores = Norm(rows=flow.rows, cols=ffn.experts, kind="softmax", dtype=frame.dtypes.wide)
    yield CountedOp(group="moe", name="routing", count=times, workload=scores)
    yield from _exchange(frame, ffn, flow, times)
    yield from _experts(frame, ffn, linears, flow, times)
    yield from products(frame, _named(linears, "latent_up"), flow.rows, times)
    shared = _named(linears, "shared_gate_up", "shared_up", "shared_down")
    if shared:
        width = per_device(ffn.shared_width, frame.tp)
        yield from _dense(frame, ffn, shared, width, flow, times)


def _named(linears: tuple[Linear, ...], *stages: str) -> tuple[Linear, ...]:
    return tuple(x for x in linears if x.stage in stages)


def _dense(
    frame: Frame,
    ffn: Mlp | Moe,
    linears: tuple[Linear, ...],
    width: Size,
    flow: Flow,
    times: Amount,
) -> Iterator[CountedOp]:
    up, down = products(frame, linears, flow.rows, times)
    yield up
    yield _activate(frame, ffn, product(flow.rows, width), times)
    yield down


def _activate(frame: Frame, ffn: Mlp | Moe, elements: Any, times: Amount) -> CountedOp:
    """One pass over the width: ``f(gate) * up``, or ``f(up)``."""
    kind = next((k for k in ("silu", "swish", "relu2", "relu") if k in ffn.activation), "gelu")
    flops, special = ACTIVATIONS[kind]
    return pointwise(
        frame,
        elements,
        times,
        group="activation",
        name=ffn.activation,
        reads=2.0 if ffn.gated else 1.0,
        flops=flops + (1.0 if ffn.gated else 0.0),
        special=special,
    )


def active_experts(moe: Moe, tokens: Any) -> Array:
    """Expected number of distinct experts that ``tokens`` visit: ``E (1 - (1 - k/E)^tokens)``.

    Each token picks k of E experts, uniformly and independently of other tokens; one token visits
    exactly ``k``.
    """
    share = np.float64(moe.top_k) / np.float64(moe.experts)
    distinct: Array = moe.experts * (1.0 - np.power(1.0 - share, f64(tokens)))
    return np.clip(distinct, float(moe.top_k), float(moe.experts))


def _experts(
    frame: Frame, moe: Moe, linears: tuple[Linear, ...], flow: Flow, times: Amount
) -> Iterator[CountedOp]:
    """The routed experts of one device as one grouped product per matrix.

    With ``a`` expected active experts and ``r = tokens k / a`` tokens each, the product of
    ``ceil(a)`` experts is taken at ``floor(r)`` and at ``ceil(r)`` rows in the proportion that
    keeps both sums exact: ``tokens k`` rows and ``a`` experts' weights.
    """
    split = frame.split
    tokens = product(flow.rows, split.expert_replicas)
    active = active_experts(moe, tokens) / f64(split.ep)
    batch = np.ceil(active * (1.0 - ROUNDING))
    rows = product(tokens, moe.top_k) / f64(split.ep) / active
    low = np.maximum(np.floor(rows), 1.0)
    high_share = np.clip(rows - low, 0.0, 1.0)
    for linear in (x for x in linears if x.expert):
        k, n = linear.local(split.expert_tp)
        for size, share in ((low, 1.0 - high_share), (low + 1.0, high_share)):
            if np.any(share > 0):
                gemm = product_of(frame, m=size, k=k, n=n, batch=batch)
                count = times * share * active / batch
                yield CountedOp(group="moe", count=count, workload=gemm, name=linear.name)
    width = per_device(moe.width, split.expert_tp)
    elements = per_device(product(tokens, moe.top_k, width), split.ep)
    yield _activate(frame, moe, elements, times)


def _exchange(frame: Frame, moe: Moe, flow: Flow, times: Amount) -> Iterator[CountedOp]:
    """Two all-to-alls per layer where experts spread over data-parallel replicas (EP > TP).

    With EP within TP every device holds all tokens, and the all-reduce after the layer sums the
    experts' outputs (Lepikhin et al., GShard, arXiv:2006.16668, section 3.2 for the exchange).
    """
    replicas = f64(frame.split.expert_replicas)
    if not np.any(replicas > 1):
        return
    width = moe.latent or frame.shape.hidden
    sent = product(flow.rows, moe.top_k, width) * DTYPE_BYTES[frame.dtypes.wide]
    work = Collective(kind="all_to_all", bytes=per_device(sent, frame.tp), ranks=frame.split.ep)
    count = 2.0 * times * np.where(replicas > 1, 1.0, 0.0)
    yield CountedOp(group="all_to_all", count=count, workload=work, name="experts")
