"""Token mixers of one layer as counted operators: attention, latent attention, recurrences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel.models.flow import Amount, CountedOp, Flow, Frame, Segment, pointwise, product
from perfmodel.models.matrices import product_of, products
from perfmodel.models.parallel import per_device
from perfmodel.models.parameters import mixer_linears
from perfmodel.models.shape import (
    AttentionMixer,
    DeltaMixer,
    LatentMixer,
    Mamba2Mixer,
    MambaMixer,
    Mixer,
)
from perfmodel.workload import (
    DTYPE_BYTES,
    Array,
    Attention,
    Conv,
    DeltaRule,
    Norm,
    SelectiveScan,
    Size,
    Ssd,
    Workload,
)

STATE_DTYPE = "fp32"
"""How recurrent states rest in memory (Gu and Dao, arXiv:2312.00752, keep them in fp32)."""


def mixer_ops(frame: Frame, mixer: Mixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Everything between a layer's first norm and its residual, on one device."""
    match mixer:
        case AttentionMixer():
            yield from _attention_ops(frame, mixer, flow, layers)
        case LatentMixer():
            yield from _latent_ops(frame, mixer, flow, layers)
        case MambaMixer():
            yield from _mamba_ops(frame, mixer, flow, layers)
        case Mamba2Mixer():
            yield from _mamba2_ops(frame, mixer, flow, layers)
        case DeltaMixer():
            yield from _delta_ops(frame, mixer, flow, layers)


def _attention_ops(
    frame: Frame, mixer: AttentionMixer, flow: Flow, layers: int
) -> Iterator[CountedOp]:
    """Projections of all rows, then one attention per segment (Ainslie et al., 2305.13245)."""
    times = product(layers, flow.times)
    heads, kv_heads = per_device(mixer.heads, frame.tp), per_device(mixer.kv_heads, frame.tp)
    qkv, out = _around_out(
        products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    )
    yield from qkv
    if mixer.qk_norm:
        rows = product(flow.rows, heads + kv_heads)
        yield _norm(frame, rows, mixer.head_dim, times, "qk_norm")
    width = (heads + kv_heads) * mixer.head_dim if mixer.rope else 0
    cached = kv_heads * ((0 if mixer.rope else mixer.head_dim) + mixer.v_head_dim)
    width = width + (cached if frame.cached else 0)
    yield from _rotate(frame, product(flow.rows, width), times)
    for segment in flow.segments:
        yield _attend(frame, mixer, segment, layers)
    if mixer.gated:
        yield from _gate(frame, product(flow.rows, heads, mixer.v_head_dim), times)
    yield from out


def _attend(frame: Frame, mixer: AttentionMixer, segment: Segment, layers: int) -> CountedOp:
    tp = segment.widen(frame.tp)
    kv_heads = per_device(mixer.kv_heads, tp)
    causal = mixer.causal
    per_token = product(kv_heads, mixer.head_dim + mixer.v_head_dim) * _kv_element(frame)
    return CountedOp(
        group="attention",
        name="attention" if mixer.window is None else f"attention_window_{mixer.window}",
        count=product(layers, segment.times),
        workload=Attention(
            batch=segment.widen(segment.batch),
            q_len=segment.widen(segment.q_len),
            kv_len=segment.kv_len,
            heads=per_device(mixer.heads, tp),
            kv_heads=kv_heads,
            head_dim=mixer.head_dim,
            v_head_dim=mixer.v_head_dim,
            causal=causal,
            window=mixer.window,
            dtype=frame.dtypes.wide,
            kv_dtype=frame.dtypes.kv if frame.cached else frame.dtypes.wide,
        ),
        resting_bytes=_cache_bytes(frame, segment, per_token, mixer.window),
        summed=segment.summed,
    )


def _kv_element(frame: Frame) -> float:
    return DTYPE_BYTES[frame.dtypes.kv]


def _cache_bytes(
    frame: Frame, segment: Segment, per_token: Any, window: int | None = None
) -> Amount:
    """Cache traffic of a segment: earlier tokens read, new ones written, none beyond a window."""
    if not frame.cached:
        return 0.0
    new = np.asarray(segment.widen(segment.q_len), dtype=np.float64)
    old = np.asarray(segment.kv_len, dtype=np.float64) - new
    if window is not None:
        new, old = np.minimum(new, float(window)), np.minimum(old, window - 1.0)
    moved: Array = product(segment.widen(segment.batch), old + new, per_token)
    return moved


def _latent_ops(frame: Frame, mixer: LatentMixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    Decode absorbs the up-projections: queries go to the latent space and all heads read one
    latent. Prefill expands keys and values of the whole context (earlier chunks again).
    """
    times = product(layers, flow.times)
    heads = per_device(mixer.heads, frame.tp)
    linears = tuple(x for x in mixer_linears(frame.shape.hidden, mixer) if x.stage != "kv_up")
    before, out = _around_out(products(frame, linears, flow.rows, times))
    yield from before
    yield _norm(frame, flow.rows, mixer.kv_rank + (mixer.q_rank or 0), times, "latent_norm")
    turned = product(flow.rows, heads * mixer.rope_dim + mixer.kv_rank + mixer.rope_dim)
    yield from _rotate(frame, turned, times)
    for segment in flow.segments:
        if segment.decode:
            yield from _absorbed(frame, mixer, segment, layers)
        else:
            yield from _expanded(frame, mixer, segment, layers)
    yield from out


def _latent_cache(frame: Frame, mixer: LatentMixer, segment: Segment) -> Amount:
    per_token = (mixer.kv_rank + mixer.rope_dim) * _kv_element(frame)
    return _cache_bytes(frame, segment, per_token)


def _absorbed(
    frame: Frame, mixer: LatentMixer, segment: Segment, layers: int
) -> Iterator[CountedOp]:
    heads = per_device(mixer.heads, frame.tp)
    rows = product(segment.batch, segment.q_len)
    count = product(layers, segment.times)
    rank = mixer.kv_rank
    into = product_of(frame, m=rows, k=mixer.nope_dim, n=rank, batch=heads)
    back = product_of(frame, m=rows, k=rank, n=mixer.v_head_dim, batch=heads)
    yield CountedOp(group="qkv", name="absorb_q", count=count, workload=into)
    yield CountedOp(
        group="attention",
        name="attention_latent",
        count=count,
        workload=Attention(
            batch=segment.batch,
            q_len=segment.q_len,
            kv_len=segment.kv_len,
            heads=heads,
            kv_heads=1,
            head_dim=rank + mixer.rope_dim,
            v_head_dim=rank,
            shared_kv=True,
            dtype=frame.dtypes.wide,
            kv_dtype=frame.dtypes.kv,
        ),
        resting_bytes=_latent_cache(frame, mixer, segment),
    )
    yield CountedOp(group="out", name="absorb_out", count=count, workload=back)


def _expanded(
    frame: Frame, mixer: LatentMixer, segment: Segment, layers: int
) -> Iterator[CountedOp]:
    heads = per_device(mixer.heads, segment.widen(frame.tp))
    count = product(layers, segment.times)
    batch = segment.widen(segment.batch)
    context = product(batch, segment.kv_len)
    width = product(heads, mixer.nope_dim + mixer.v_head_dim)
    up = product_of(frame, m=context, k=mixer.kv_rank, n=width)
    yield CountedOp(group="qkv", name="kv_up", count=count, workload=up, summed=segment.summed)
    yield CountedOp(
        group="attention",
        name="attention",
        count=count,
        workload=Attention(
            batch=batch,
            q_len=segment.widen(segment.q_len),
            kv_len=segment.kv_len,
            heads=heads,
            head_dim=mixer.nope_dim + mixer.rope_dim,
            v_head_dim=mixer.v_head_dim,
            dtype=frame.dtypes.wide,
        ),
        resting_bytes=_latent_cache(frame, mixer, segment),
        summed=segment.summed,
    )


def _mamba_ops(frame: Frame, mixer: MambaMixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Mamba-1 (Gu and Dao, arXiv:2312.00752, section 3.4): in, conv, x, dt, scan, out."""
    times = product(layers, flow.times)
    channels = per_device(mixer.inner, frame.tp)
    made = {
        op.name: op
        for op in products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    }
    yield made["in"]
    yield from _convolve(frame, channels, mixer.conv, flow, layers)
    yield made["x"]
    if mixer.inner_norms:
        yield _norm(frame, flow.rows, mixer.dt_rank + 2 * mixer.state, times, "inner_norms")
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
        yield _scan(scan, segment, layers, product(channels, mixer.state))
    yield made["out"]


def _mamba2_ops(frame: Frame, mixer: Mamba2Mixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Mamba-2 (Dao and Gu, arXiv:2405.21060, section 8): in, conv of x, B and C, SSD, out."""
    times = product(layers, flow.times)
    heads, groups = per_device(mixer.heads, frame.tp), per_device(mixer.groups, frame.tp)
    inner = heads * mixer.head_dim
    before, out = _around_out(
        products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    )
    yield from before
    yield from _convolve(frame, inner + 2 * groups * mixer.state, mixer.conv, flow, layers)
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
        yield _scan(scan, segment, layers, product(inner, mixer.state))
    yield from _gate(frame, product(flow.rows, inner), times)
    if mixer.gate_norm:
        yield _norm(frame, flow.rows, inner, times, "gate_norm")
    yield from out


def _delta_ops(frame: Frame, mixer: DeltaMixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Gated DeltaNet (Yang et al., arXiv:2412.06464): in, short conv, delta rule, out."""
    times = product(layers, flow.times)
    keys, values = per_device(mixer.key_heads, frame.tp), per_device(mixer.value_heads, frame.tp)
    inner = values * mixer.value_dim
    before, out = _around_out(
        products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    )
    yield from before
    yield from _convolve(frame, 2 * keys * mixer.key_dim + inner, mixer.conv, flow, layers)
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
        yield _scan(rule, segment, layers, product(inner, mixer.key_dim))
    yield from _gate(frame, product(flow.rows, inner), times)
    yield _norm(frame, product(flow.rows, values), mixer.value_dim, times, "gate_norm")
    yield from out


def _scan(workload: Workload, segment: Segment, layers: int, state: Any) -> CountedOp:
    """A recurrence; its state is written back each time, and read unless the sequence is new."""
    moves = 2.0 - np.asarray(segment.fresh, dtype=np.float64)
    return CountedOp(
        group="scan",
        name=workload.op,
        count=product(layers, segment.visits),
        workload=workload,
        resting_bytes=product(segment.batch, state, DTYPE_BYTES[STATE_DTYPE], moves),
    )


def _convolve(
    frame: Frame, channels: Size, taps: int, flow: Flow, layers: int
) -> Iterator[CountedOp]:
    """A short causal depthwise convolution along each segment's new tokens."""
    for segment in flow.segments:
        conv = Conv(
            batch=segment.batch,
            in_channels=channels,
            out_channels=channels,
            groups=channels,
            width=segment.q_len,
            kernel_w=taps,
            padding="causal",
            dtype=frame.dtypes.wide,
        )
        kept = DTYPE_BYTES[frame.dtypes.wide] * (2.0 - np.asarray(segment.fresh, dtype=np.float64))
        yield CountedOp(
            group="conv",
            name="conv",
            count=product(layers, segment.visits),
            workload=conv,
            resting_bytes=product(segment.batch, channels, taps - 1, kept),
        )


def _around_out(ops: Iterator[CountedOp]) -> tuple[list[CountedOp], list[CountedOp]]:
    """The products before a mixer and the output projection after it."""
    found = list(ops)
    return [op for op in found if op.name != "out"], [op for op in found if op.name == "out"]


def _gate(frame: Frame, elements: Any, times: Amount) -> Iterator[CountedOp]:
    yield pointwise(
        frame, elements, times, group="activation", name="gate", reads=2, flops=3, special=2
    )


def _rotate(frame: Frame, elements: Any, times: Amount) -> Iterator[CountedOp]:
    """Rotary embedding of queries and keys, and the write into the cache, in one pass."""
    if np.any(elements):
        yield pointwise(frame, elements, times, group="rope", name="rope", flops=3)


def _norm(frame: Frame, rows: Size, cols: Any, times: Amount, name: str) -> CountedOp:
    work = Norm(rows=rows, cols=cols, kind="rms", dtype=frame.dtypes.wide)
    return CountedOp(group="norm", count=times, workload=work, name=name)
