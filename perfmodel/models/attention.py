"""Attention layers as counted operators: grouped heads, windows, latent attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel.models.cache import kv_elements_per_token
from perfmodel.models.flow import (
    Amount,
    CountedOp,
    Flow,
    Frame,
    Segment,
    gate,
    pointwise,
    product,
    rms_norm,
)
from perfmodel.models.matrices import around_out, product_of, products
from perfmodel.models.parallel import per_device
from perfmodel.models.parameters import mixer_linears
from perfmodel.models.shape import AttentionMixer, LatentMixer
from perfmodel.ops.numbers import f64
from perfmodel.workload import DTYPE_BYTES, Array, Attention


def attention_ops(
    frame: Frame, mixer: AttentionMixer, flow: Flow, layers: int
) -> Iterator[CountedOp]:
    """Projections of all rows, then one attention per segment (Ainslie et al., 2305.13245)."""
    times = product(layers, flow.times)
    heads, kv_heads = per_device(mixer.heads, frame.tp), per_device(mixer.kv_heads, frame.tp)
    qkv, out = around_out(
        products(frame, mixer_linears(frame.shape.hidden, mixer), flow.rows, times)
    )
    yield from qkv
    if mixer.qk_norm:
        rows = product(flow.rows, heads + kv_heads)
        yield rms_norm(frame, rows, mixer.head_dim, times, "qk_norm")
    width = (heads + kv_heads) * mixer.head_dim if mixer.rope else 0
    cached = kv_heads * ((0 if mixer.rope else mixer.head_dim) + mixer.v_head_dim)
    width = width + (cached if frame.cached else 0)
    yield from _rotate(frame, product(flow.rows, width), times)
    for segment in flow.segments:
        yield _attend(frame, mixer, segment, layers)
    if mixer.gated:
        yield from gate(frame, product(flow.rows, heads, mixer.v_head_dim), times)
    yield from out


def _attend(frame: Frame, mixer: AttentionMixer, segment: Segment, layers: int) -> CountedOp:
    tp = segment.widen(frame.tp)
    kv_heads = per_device(mixer.kv_heads, tp)
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
            causal=mixer.causal,
            window=mixer.window,
            dtype=frame.dtypes.wide,
            kv_dtype=frame.dtypes.kv if frame.cached else frame.dtypes.wide,
        ),
        resting_bytes=_cache_bytes(frame, mixer, segment),
        summed=segment.summed,
    )


def _cache_bytes(frame: Frame, mixer: AttentionMixer | LatentMixer, segment: Segment) -> Amount:
    """Cache traffic of a segment: earlier tokens read, new ones written, none beyond a window."""
    if not frame.cached:
        return 0.0
    new = f64(segment.widen(segment.q_len))
    old = f64(segment.kv_len) - new
    window = mixer.window if isinstance(mixer, AttentionMixer) else None
    if window is not None:
        new, old = np.minimum(new, float(window)), np.minimum(old, window - 1.0)
    width = kv_elements_per_token(mixer, segment.widen(frame.tp)) * DTYPE_BYTES[frame.dtypes.kv]
    moved: Array = product(segment.widen(segment.batch), width) * (old + new)
    return moved


def latent_ops(frame: Frame, mixer: LatentMixer, flow: Flow, layers: int) -> Iterator[CountedOp]:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    Decode absorbs the up-projections: queries go to the latent space and all heads read one
    latent. Prefill expands keys and values of the whole context (earlier chunks again).
    """
    times = product(layers, flow.times)
    heads = per_device(mixer.heads, frame.tp)
    linears = tuple(x for x in mixer_linears(frame.shape.hidden, mixer) if x.stage != "kv_up")
    before, out = around_out(products(frame, linears, flow.rows, times))
    yield from before
    yield rms_norm(frame, flow.rows, mixer.kv_rank + (mixer.q_rank or 0), times, "latent_norm")
    turned = product(flow.rows, heads * mixer.rope_dim + mixer.kv_rank + mixer.rope_dim)
    yield from _rotate(frame, turned, times)
    mixed = len({segment.decode for segment in flow.segments}) > 1
    for segment in flow.segments:
        if segment.decode:
            yield from _absorbed(frame, mixer, segment, layers, reread=mixed)
        else:
            yield from _expanded(frame, mixer, segment, layers)
    yield from out


def _absorbed(
    frame: Frame, mixer: LatentMixer, segment: Segment, layers: int, *, reread: bool
) -> Iterator[CountedOp]:
    heads = per_device(mixer.heads, frame.tp)
    rows = product(segment.batch, segment.q_len)
    count = product(layers, segment.times)
    rank = mixer.kv_rank
    into = product_of(frame, m=rows, k=mixer.nope_dim, n=rank, batch=heads)
    back = product_of(frame, m=rows, k=rank, n=mixer.v_head_dim, batch=heads)
    yield CountedOp(group="qkv", name="absorb_q", count=count, workload=into, reread=reread)
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
        resting_bytes=_cache_bytes(frame, mixer, segment),
    )
    yield CountedOp(group="out", name="absorb_out", count=count, workload=back, reread=reread)


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
        resting_bytes=_cache_bytes(frame, mixer, segment),
        summed=segment.summed,
    )


def _rotate(frame: Frame, elements: Any, times: Amount) -> Iterator[CountedOp]:
    """Rotary embedding of queries and keys, and the write into the cache, in one pass."""
    if np.any(elements):
        yield pointwise(frame, elements, times, group="rope", name="rope", flops=3)
