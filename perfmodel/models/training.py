"""A training step: forward, backward, recomputation, gradients across replicas, optimizer.

Each product of the forward pass has two in the backward pass, for the gradients of its input and
of its weights (Kaplan et al., arXiv:2001.08361, section 2.1: 6 FLOP per parameter and token).
Attention's backward pass recomputes the scores: five products for the forward's two (Dao,
FlashAttention-2, arXiv:2307.08691, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue
from perfmodel.hw.device import Device
from perfmodel.models.flow import CountedOp, Dtypes, Flow, Frame, Segment, product
from perfmodel.models.graph import flow_ops, head_ops
from perfmodel.models.parallel import Split, check_split
from perfmodel.models.parameters import weight_bytes
from perfmodel.models.shape import ModelShape
from perfmodel.models.stepping import Serving, combine
from perfmodel.ops.numbers import f64
from perfmodel.roofline.parameters import Analytic, analytic
from perfmodel.workload import (
    DTYPE_BYTES,
    Array,
    Attention,
    Collective,
    Elementwise,
    Gemm,
    Norm,
    Size,
    Workload,
    check_size,
)

ATTENTION_BACKWARD = 2.5
"""Products of attention's backward pass over those of its forward pass."""
UNFITTED = (
    "gradients are summed after the backward pass, not behind it",
    "no training run was fitted: interval assumed",
)
ACROSS_REPLICAS = ("gradients", "optimizer")
"""Groups that run once per step, after the last micro-batch."""


def train_step(
    shape: ModelShape,
    device: Device,
    *,
    sequence: Size | None = None,
    batch: Size = 1,
    micro_batches: Size = 1,
    tp: Size = 1,
    pp: Size = 1,
    ep: Size = 1,
    dp: Size = 1,
    sequence_parallel: bool = False,
    recompute: bool = False,
    dtypes: Dtypes | None = None,
) -> Estimate:
    """How long one optimizer step takes: ``micro_batches`` of ``batch`` sequences per replica.

    ``recompute`` runs the layers' forward pass again in the backward pass. The pipeline's idle time
    is the term ``bubble``: (pp - 1) / micro_batches of its work (Narayanan et al.,
    arXiv:2104.04473, section 2.2.1). Gradients are summed over ``dp`` replicas after the last
    micro-batch, nothing overlapped. ``facts`` are per device but for tokens and their rate, which
    count all replicas.

    Raises:
        BadValue: a size absent or not whole, or weights narrower than activations.
        ImpossibleSplit: the model's shape forbids the split.
    """
    split = Split(tp=tp, pp=pp, ep=ep, dp=dp, sequence_parallel=sequence_parallel)
    types = (dtypes or Dtypes()).on(device)
    notes = check_split(shape, split, device)
    length = _length(shape, sequence)
    micro = check_size(micro_batches, "micro_batches")
    frame = Frame(shape=shape, split=split, dtypes=types, cached=False)
    passes = f64(micro) / f64(split.pp)
    listed = [
        replace(op, count=op.count * passes)
        for op in _passes(frame, check_size(batch, "batch"), length, recompute=recompute)
    ]
    listed += _across_replicas(frame, device)
    tokens = product(batch, length, micro, split.dp)
    found = combine(
        listed,
        device,
        name=f"{shape.name} train",
        shape=shape,
        split=split,
        dtypes=types,
        tokens=tokens,
        steps=np.float64(1.0),
        assumptions=(*notes, *UNFITTED),
        serving=Serving(),
    )
    busy = _with_bubble(found, (f64(split.pp) - 1.0) / f64(micro), tokens)
    return _unfitted(busy, analytic(device.kind))


def _unfitted(found: Estimate, assumed: Analytic) -> Estimate:
    """The same with the interval of devices of the kind: operators' residuals are not a run's."""
    low_s = np.minimum(found.low_s, found.time_s * assumed.low)
    return replace(
        found,
        low_s=np.maximum(low_s, found.lower_bound_s),
        high_s=np.maximum(found.high_s, found.time_s * assumed.high),
        coverage=None,
    )


def _length(shape: ModelShape, sequence: Size | None) -> Size:
    if shape.patch is not None:
        return shape.patch.patches + shape.patch.extra_tokens
    if sequence is None:
        msg = "is required to train"
        raise BadValue(msg, field="sequence", fix="sequence=2048")
    return check_size(sequence, "sequence")


def _passes(frame: Frame, batch: Size, length: Size, *, recompute: bool) -> Iterator[CountedOp]:
    """Forward and backward of one micro-batch through all stages."""
    if frame.dtypes.weight != frame.dtypes.act:
        msg = f"{frame.dtypes.weight} weights cannot be trained with {frame.dtypes.act} activations"
        raise BadValue(msg, field="weight", fix="one data type for both")
    rows = check_size(product(batch, length), "batch x sequence")
    segment = Segment(batch=batch, q_len=length, kv_len=length, fresh=1)
    layers = list(flow_ops(frame, Flow(rows=rows, segments=(segment,))))
    head = list(head_ops(frame, rows if frame.shape.decoder else batch))
    yield from layers
    yield from head
    for op in (*layers, *head):
        yield from backward(op)
    if recompute:
        yield from (op for op in layers if op.group != "embed")


def backward(op: CountedOp) -> Iterator[CountedOp]:
    """The operators that an operator of the forward pass has in the backward pass."""
    work = op.workload
    match work:
        case Gemm():
            yield from _product_gradients(op, work)
        case Attention():
            yield replace(op, count=op.count * ATTENTION_BACKWARD)
        case Collective():
            yield op
        case Norm() | Elementwise():
            yield replace(op, workload=_pointwise_gradient(work))
        case _:
            yield replace(op, count=op.count * 2.0)


def _product_gradients(op: CountedOp, work: Gemm) -> Iterator[CountedOp]:
    """``dX = dY W^T`` reads the weights again; ``dW = X^T dY`` writes a gradient of their size."""
    to_input = replace(work, n=work.k, k=work.n)
    to_weight = replace(work, m=work.k, k=work.m)
    assert work.out_dtype is not None
    written = product(work.batch, work.k, work.n, DTYPE_BYTES[work.out_dtype])
    yield replace(op, name=f"{op.name} dX", workload=to_input)
    yield replace(op, name=f"{op.name} dW", workload=to_weight, resting_bytes=written, reread=True)


def _pointwise_gradient(work: Norm | Elementwise) -> Workload:
    """Reads the forward's inputs and the output's gradient, writes each input's gradient."""
    if isinstance(work, Norm):
        return replace(work, residual=True)
    return replace(work, reads=work.reads + 1.0, writes=work.reads, flops=work.flops * 2.0)


def _across_replicas(frame: Frame, device: Device) -> Iterator[CountedOp]:
    """Gradients summed over the replicas of the fullest stage, then Adam on its parameters.

    Adam in mixed precision (Rajbhandari et al., ZeRO, arXiv:1910.02054, section 3.1) reads a
    gradient, a master weight and two moments in fp32; it writes the last three and a narrow weight.
    """
    split, weight = frame.split, frame.dtypes.weight
    size = weight_bytes(frame.shape, weight, split.tp, split.pp, split.ep)
    several = np.asarray(split.dp) > 1
    if np.any(several):
        domain = device.peer_link.domain if device.peer_link is not None else 1
        near = np.maximum(domain // np.asarray(split.tp), 1)
        work = Collective(
            bytes=check_size(np.ceil(size), "weights"), ranks=split.dp, ranks_per_node=near
        )
        count = np.where(several, 1.0, 0.0)[()]
        yield CountedOp(group="gradients", count=count, workload=work, name="sum")
    parameters = check_size(np.ceil(size / DTYPE_BYTES[weight]), "parameters")
    narrow = DTYPE_BYTES[weight] / DTYPE_BYTES["fp32"]
    adam = Elementwise(
        elements=parameters, reads=4.0, writes=3.0 + narrow, flops=12.0, special=2.0, dtype="fp32"
    )
    moved = product(parameters, 7.0 + narrow, DTYPE_BYTES["fp32"])
    yield CountedOp(group="optimizer", count=1.0, workload=adam, name="adam", resting_bytes=moved)


def _with_bubble(found: Estimate, share: Array, tokens: Array) -> Estimate:
    """Stages idle while the pipeline fills and drains; what runs once per step does not repeat."""
    if not np.any(share > 0):
        return found
    once: Array = sum((found.terms.get(g, np.float64(0.0)) for g in ACROSS_REPLICAS), np.float64(0))
    bubble = (found.time_s - once) * share
    time_s = found.time_s + bubble
    return replace(
        found,
        time_s=time_s,
        low_s=found.low_s + bubble,
        high_s=found.high_s + bubble,
        terms={**found.terms, "bubble": bubble},
        formula=f"{found.formula} + bubble",
        facts={**found.facts, "tokens_per_s": tokens / time_s},
    )
