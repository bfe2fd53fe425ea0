"""A model's layers as counted operators on one device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from perfmodel.models.attention import attention_ops, latent_ops
from perfmodel.models.feedforward import ffn_ops
from perfmodel.models.flow import Amount, CountedOp, Flow, Frame, pointwise, product
from perfmodel.models.matrices import product_of
from perfmodel.models.parallel import per_device
from perfmodel.models.recurrent import delta_ops, mamba2_ops, mamba_ops
from perfmodel.models.shape import (
    AttentionMixer,
    DeltaMixer,
    LatentMixer,
    LayerGroup,
    Mamba2Mixer,
    MambaMixer,
    Mixer,
    PatchEmbedding,
)
from perfmodel.ops.numbers import f64
from perfmodel.workload import DTYPE_BYTES, Collective, Conv, Norm, Size

Joining: TypeAlias = Literal["all_reduce", "reduce_scatter", "all_gather"]
"""The collectives that join what tensor parallelism splits."""


def flow_ops(frame: Frame, flow: Flow) -> Iterator[CountedOp]:
    """Embedding, all layers and what pipeline stages hand on, for one flow."""
    yield from _embed(frame, flow)
    for group in frame.shape.layers:
        yield from _layer(frame, group, flow)
    yield from _hand_on(frame, flow)


def head_ops(frame: Frame, rows: Size) -> Iterator[CountedOp]:
    """Final norm, pooler and output head of the ``rows`` tokens that reach them.

    A decoder ends in the softmax that sampling needs. Of a vocabulary cut over devices each
    computes its part; gathering the logits is left out (rows x vocabulary bytes, once per step).
    """
    shape = frame.shape
    if shape.final_norm:
        yield _norm(frame, rows, 1.0, "final_norm", residual=True)
    if shape.pooler:
        pooler = product_of(frame, m=rows, k=shape.hidden, n=shape.hidden)
        yield CountedOp(group="head", count=1.0, workload=pooler, name="pooler")
    if not shape.head_outputs:
        return
    yield from _project(frame, rows, "project_out")
    width = shape.embedding_width or shape.hidden
    n = per_device(shape.head_outputs, frame.tp)
    head = product_of(frame, m=rows, k=width, n=n, wide=True)
    yield CountedOp(group="head", count=1.0, workload=head, name="head")
    if shape.decoder:
        sample = Norm(rows=rows, cols=shape.head_outputs, kind="softmax", dtype="fp32")
        yield CountedOp(group="head", count=1.0, workload=sample, name="sample")


def _embed(frame: Frame, flow: Flow) -> Iterator[CountedOp]:
    """The input: a lookup of one table row per token (not a read of the table), or patches."""
    shape = frame.shape
    if shape.patch is not None:
        yield _patches(frame, shape.patch, flow)
    width = shape.embedding_width or shape.hidden
    tables = [rows for rows in (shape.vocab, shape.positions, shape.token_types) if rows]
    reads = len(tables) + int(shape.patch is not None)
    elements = product(flow.rows, width)
    op = pointwise(
        frame, elements, flow.times, group="embed", name="lookup", reads=float(max(reads, 1))
    )
    distinct = sum(np.minimum(f64(flow.rows), float(rows)) for rows in tables)
    resting = distinct * width * DTYPE_BYTES[frame.dtypes.wide]
    yield replace(op, resting_bytes=resting)
    yield from _project(frame, flow.rows, "project_in", flow.times)
    if shape.embedding_norm:
        yield _norm(frame, flow.rows, flow.times, "embedding_norm")


def _project(frame: Frame, rows: Size, name: str, times: Amount = 1.0) -> Iterator[CountedOp]:
    """Between a narrower embedding and the hidden width (OPT-350M)."""
    width, hidden = frame.shape.embedding_width, frame.shape.hidden
    if width is None or width == hidden:
        return
    k, n = (width, hidden) if name == "project_in" else (hidden, width)
    gemm = product_of(frame, m=rows, k=k, n=n, wide=True)
    yield CountedOp(group="embed", count=times, workload=gemm, name=name)


def _patches(frame: Frame, patch: PatchEmbedding, flow: Flow) -> CountedOp:
    """A convolution whose stride is its size: one product per patch (arXiv:2010.11929, 3.1)."""
    conv = Conv(
        batch=flow.segments[0].batch,
        in_channels=patch.channels,
        out_channels=frame.shape.hidden,
        height=patch.image,
        width=patch.image,
        kernel_h=patch.patch,
        kernel_w=patch.patch,
        stride=patch.patch,
        padding="valid",
        dtype=frame.dtypes.wide,
    )
    return CountedOp(group="embed", count=flow.times, workload=conv, name="patches")


def _layer(frame: Frame, group: LayerGroup, flow: Flow) -> Iterator[CountedOp]:
    blocks = int(group.mixer is not None) + int(group.ffn is not None)
    sums = min(blocks, 1) if group.parallel else blocks
    times = product(group.count, flow.times)
    yield from _norms(frame, group.norms, sums, flow, times)
    if group.mixer is not None:
        yield from _mixer_ops(frame, group.mixer, flow, group.count)
    if group.ffn is not None:
        yield from ffn_ops(frame, group.ffn, flow, group.count)
    yield from _synchronise(frame, product(sums, times), flow.rows)
    if isinstance(group.mixer, MambaMixer):
        yield from _selection(frame, group.mixer, times, flow.rows)


def _mixer_ops(frame: Frame, mixer: Mixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Everything between a layer's first norm and its residual, on one device."""
    match mixer:
        case AttentionMixer():
            yield from attention_ops(frame, mixer, flow, layers)
        case LatentMixer():
            yield from latent_ops(frame, mixer, flow, layers)
        case MambaMixer():
            yield from mamba_ops(frame, mixer, flow, layers)
        case Mamba2Mixer():
            yield from mamba2_ops(frame, mixer, flow, layers)
        case DeltaMixer():
            yield from delta_ops(frame, mixer, flow, layers)


def _norms(frame: Frame, norms: int, sums: int, flow: Flow, times: Amount) -> Iterator[CountedOp]:
    """Norms of the hidden width; as many as there are residual sums are fused with one."""
    fused = min(norms, sums)
    rows = per_device(flow.rows, frame.tp) if frame.split.sequence_parallel else flow.rows
    if fused:
        yield _norm(frame, rows, product(fused, times), "norm", residual=True)
    if norms > fused:
        yield _norm(frame, rows, product(norms - fused, times), "norm")
    if sums > fused:
        elements = product(rows, frame.shape.hidden)
        count = product(sums - fused, times)
        yield pointwise(frame, elements, count, group="norm", name="residual", reads=2.0)


def _norm(
    frame: Frame, rows: Size, times: Amount, name: str, *, residual: bool = False
) -> CountedOp:
    work = Norm(
        rows=rows,
        cols=frame.shape.hidden,
        kind=frame.shape.norm_kind,
        residual=residual,
        dtype=frame.dtypes.wide,
    )
    return CountedOp(group="norm", count=times, workload=work, name=name)


def _synchronise(frame: Frame, times: Amount, rows: Size) -> Iterator[CountedOp]:
    """What joins the partial sums of TP after each block: an all-reduce of the hidden rows.

    With sequence parallelism a reduce-scatter and an all-gather, of the same bytes together
    (Korthikanti et al., arXiv:2205.05198, section 4.2.2). The sum of a vocabulary-parallel input
    embedding, once per step, is left out.
    """
    width = frame.shape.hidden
    if frame.split.sequence_parallel:
        yield from _over_tp(frame, "reduce_scatter", width, times, rows)
        yield from _over_tp(frame, "all_gather", width, times, rows)
    else:
        yield from _over_tp(frame, "all_reduce", width, times, rows)


def _selection(frame: Frame, mixer: MambaMixer, times: Amount, rows: Size) -> Iterator[CountedOp]:
    """Mamba-1's dt, B and C come from all channels: their partial sums are joined too."""
    yield from _over_tp(frame, "all_reduce", mixer.dt_rank + 2 * mixer.state, times, rows)


def _over_tp(
    frame: Frame, kind: Joining, width: int, times: Amount, rows: Size
) -> Iterator[CountedOp]:
    several = np.asarray(frame.tp) > 1
    if not np.any(several):
        return
    size = product(rows, width) * DTYPE_BYTES[frame.dtypes.wide]
    work = Collective(kind=kind, bytes=size, ranks=frame.tp)
    count = f64(times) * np.where(several, 1.0, 0.0)
    yield CountedOp(group=kind, count=count, workload=work, name=kind)


def _hand_on(frame: Frame, flow: Flow) -> Iterator[CountedOp]:
    """Hidden rows from each pipeline stage to the next; stages of one step follow each other."""
    stages = f64(frame.split.pp)
    if not np.any(stages > 1):
        return
    size = product(flow.rows, frame.shape.hidden) * DTYPE_BYTES[frame.dtypes.wide]
    work = Collective(kind="send_recv", bytes=size, ranks=2)
    count = (stages - 1.0) * f64(flow.times)
    yield CountedOp(group="send_recv", count=count, workload=work, name="stage")
