"""Recurrent layers as counted operators: Mamba, Mamba-2, the gated delta rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from perfmodel.models.cache import state_elements
from perfmodel.models.flow import CountedOp, Flow, Frame, Segment, gate, product, rms_norm
from perfmodel.models.matrices import around_out, products
from perfmodel.models.parallel import per_device
from perfmodel.models.parameters import mixer_linears
from perfmodel.models.shape import DeltaMixer, Mamba2Mixer, MambaMixer
from perfmodel.ops.numbers import f64
from perfmodel.workload import (
    DTYPE_BYTES,
    Array,
    Conv,
    DeltaRule,
    SelectiveScan,
    Size,
    Ssd,
    Workload,
)

Recurrent: TypeAlias = MambaMixer | Mamba2Mixer | DeltaMixer

STATE_DTYPE = "fp32"
"""How recurrent states rest in memory (Gu and Dao, arXiv:2312.00752, keep them in fp32)."""


def mamba_ops(frame: Frame, mixer: MambaMixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Mamba-1 (Gu and Dao, arXiv:2312.00752, section 3.4): in, conv, x, dt, scan, out."""
    times = product(layers, flow.times)
    channels = per_device(mixer.inner, frame.tp)
    made = {
        op.name: op
        for op in products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    }
    yield made["in"]
    yield from _convolve(frame, channels, mixer, flow, layers)
    yield made["x"]
    if mixer.inner_norms:
        yield rms_norm(frame, flow.rows, mixer.dt_rank + 2 * mixer.state, times, "inner_norms")
    yield made["dt"]
    for segment in flow.segments:
        scan = SelectiveScan(
            batch=segment.batch,
            seq_len=segment.q_len,
            channels=channels,
            state=mixer.state,
            dtype=frame.dtypes.wide,
            state_dtype=STATE_DTYPE,
        )
        yield _scan(frame, mixer, scan, segment, layers)
    yield made["out"]


def mamba2_ops(frame: Frame, mixer: Mamba2Mixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Mamba-2 (Dao and Gu, arXiv:2405.21060, section 8): in, conv of x, B and C, SSD, out."""
    times = product(layers, flow.times)
    heads, groups = per_device(mixer.heads, frame.tp), per_device(mixer.groups, frame.tp)
    inner = heads * mixer.head_dim
    before, out = around_out(
        products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    )
    yield from before
    yield from _convolve(frame, inner + 2 * groups * mixer.state, mixer, flow, layers)
    for segment in flow.segments:
        scan = Ssd(
            batch=segment.batch,
            seq_len=segment.q_len,
            heads=heads,
            head_dim=mixer.head_dim,
            state=mixer.state,
            groups=groups,
            chunk=mixer.chunk,
            dtype=frame.dtypes.wide,
            state_dtype=STATE_DTYPE,
        )
        yield _scan(frame, mixer, scan, segment, layers)
    yield from gate(frame, product(flow.rows, inner), times)
    if mixer.gate_norm:
        yield rms_norm(frame, flow.rows, inner, times, "gate_norm")
    yield from out


def delta_ops(frame: Frame, mixer: DeltaMixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Gated DeltaNet (Yang et al., arXiv:2412.06464): in, short conv, delta rule, out."""
    times = product(layers, flow.times)
    keys, values = per_device(mixer.key_heads, frame.tp), per_device(mixer.value_heads, frame.tp)
    inner = values * mixer.value_dim
    before, out = around_out(
        products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    )
    yield from before
    yield from _convolve(frame, 2 * keys * mixer.key_dim + inner, mixer, flow, layers)
    for segment in flow.segments:
        rule = DeltaRule(
            batch=segment.batch,
            seq_len=segment.q_len,
            key_heads=keys,
            value_heads=values,
            key_dim=mixer.key_dim,
            value_dim=mixer.value_dim,
            dtype=frame.dtypes.wide,
            state_dtype=STATE_DTYPE,
        )
        yield _scan(frame, mixer, rule, segment, layers)
    yield from gate(frame, product(flow.rows, inner), times)
    yield rms_norm(frame, product(flow.rows, values), mixer.value_dim, times, "gate_norm")
    yield from out


def _scan(
    frame: Frame, mixer: Recurrent, workload: Workload, segment: Segment, layers: int
) -> CountedOp:
    state, _ = state_elements(mixer, frame.tp)
    return CountedOp(
        group="scan",
        name=workload.op,
        count=product(layers, segment.visits),
        workload=workload,
        resting_bytes=product(segment.batch, state, DTYPE_BYTES[STATE_DTYPE], _moves(segment)),
    )


def _convolve(
    frame: Frame, channels: Size, mixer: Recurrent, flow: Flow, layers: int
) -> Iterator[CountedOp]:
    """A short causal depthwise convolution along each segment's new tokens."""
    _, kept = state_elements(mixer, frame.tp)
    element = DTYPE_BYTES[frame.dtypes.wide]
    for segment in flow.segments:
        conv = Conv(
            batch=segment.batch,
            in_channels=channels,
            out_channels=channels,
            groups=channels,
            width=segment.q_len,
            kernel_w=mixer.conv,
            padding="causal",
            dtype=frame.dtypes.wide,
        )
        yield CountedOp(
            group="conv",
            name="conv",
            count=product(layers, segment.visits),
            workload=conv,
            resting_bytes=product(segment.batch, kept, element, _moves(segment)),
        )


def _moves(segment: Segment) -> Array:
    """How often a state crosses memory per visit: written back, and read unless it begins."""
    return 2.0 - f64(segment.fresh)
