"""What a sequence keeps in memory: keys and values, latents, recurrent and convolution state.

All figures are bytes of one sequence. ``tp`` > 1 gives one device's part: KV heads divide over
the devices and replicate where the split is wider than they are; the latent of multi-head latent
attention is shared by all heads, so every device holds it whole.

The convolution state holds the ``conv - 1`` inputs that the next output still needs (vLLM's
convention; implementations that also store the newest input keep ``conv``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.models.parallel import ways_of
from perfmodel.models.shape import (
    AttentionMixer,
    DeltaMixer,
    LatentMixer,
    Mamba2Mixer,
    MambaMixer,
    Mixer,
    ModelShape,
)
from perfmodel.workload import Array, check_size, dtype_bytes


def kv_elements_per_token(mixer: Mixer | None, tp: Any = 1) -> Array:
    """Cached elements per token of one layer on one of ``tp`` devices.

    Multi-head, grouped- and multi-query attention: a key and a value per KV head. Latent
    attention: the latent and the shared rotary key (DeepSeek-V2, arXiv:2405.04434, section 2.1.4).

    Raises:
        BadValue: ``tp`` is not a count.
    """
    return _kv_elements(mixer, ways_of(tp, "tp"))


def _kv_elements(mixer: Mixer | None, ways: Array) -> Array:
    match mixer:
        case AttentionMixer(causal=True):
            local = np.maximum(mixer.kv_heads / ways, 1.0)
            return np.float64(mixer.head_dim + mixer.v_head_dim) * local
        case LatentMixer():
            return np.float64(mixer.kv_rank + mixer.rope_dim)
        case _:
            return np.float64(0.0)


def held_in_copies(shape: ModelShape, tp: int) -> bool:
    """Whether devices of a tensor-parallel group hold the same keys, values or latents."""
    whole = float(kv_bytes_per_token(shape))
    return float(kv_bytes_per_token(shape, tp=tp)) * tp > whole


def kv_bytes_per_token(shape: ModelShape, kv_dtype: str = "bf16", tp: Any = 1) -> Array:
    """Bytes that one more token adds while no window is full: the sum over layers.

    Raises:
        UnknownName: no such data type.
        BadValue: ``tp`` is not a count.
    """
    ways = ways_of(tp, "tp")
    elements: Array = np.float64(0.0)
    for group in shape.layers:
        elements = elements + np.float64(group.count) * _kv_elements(group.mixer, ways)
    return elements * dtype_bytes(kv_dtype)


def kv_bytes(
    shape: ModelShape,
    context: Any,
    kv_dtype: str = "bf16",
    tp: Any = 1,
    page_size: int | None = None,
) -> Array:
    """Bytes of the keys and values of one sequence of ``context`` tokens.

    A windowed layer keeps its window at most; with ``page_size`` every layer keeps whole pages.

    Raises:
        UnknownName: no such data type.
        BadValue: ``context``, ``tp`` or ``page_size`` is not a count.
    """
    tokens = np.asarray(check_size(context, "context", least=0), dtype=np.float64)[()]
    ways = ways_of(tp, "tp")
    total: Array = np.float64(0.0)
    for group in shape.layers:
        elements = _kv_elements(group.mixer, ways)
        held = _paged(_windowed(tokens, group.mixer), page_size)
        total = total + np.float64(group.count) * elements * held
    return total * dtype_bytes(kv_dtype)


def _windowed(tokens: Array, mixer: Mixer | None) -> Array:
    if isinstance(mixer, AttentionMixer) and mixer.window is not None:
        return np.minimum(tokens, np.float64(mixer.window))
    return tokens


def _paged(tokens: Array, page_size: int | None) -> Array:
    if page_size is None:
        return tokens
    page = np.float64(check_size(page_size, "page_size"))
    return np.ceil(tokens / page) * page


def state_elements(mixer: Mixer | None, tp: Any = 1) -> tuple[Array, Array]:
    """``(recurrent, convolution)`` elements of one layer on one of ``tp`` devices.

    Mamba: inner x state (arXiv:2312.00752, section 3.3). Mamba-2: heads x head_dim x state, and
    B and C pass the convolution too (arXiv:2405.21060, section 7.1). Gated DeltaNet: key_dim x
    value_dim per value head (arXiv:2412.06464), q, k and v pass the convolution.

    Raises:
        BadValue: ``tp`` is not a count.
    """
    return _state_elements(mixer, ways_of(tp, "tp"))


def _state_elements(mixer: Mixer | None, ways: Array) -> tuple[Array, Array]:
    match mixer:
        case MambaMixer():
            return _each(mixer.inner * mixer.state / ways, mixer.inner / ways, mixer.conv)
        case Mamba2Mixer():
            groups = np.maximum(mixer.groups / ways, 1.0)
            channels = mixer.inner / ways + 2.0 * groups * mixer.state
            return _each(mixer.inner * mixer.state / ways, channels, mixer.conv)
        case DeltaMixer():
            values = mixer.value_dim * np.maximum(mixer.value_heads / ways, 1.0)
            keys = mixer.key_dim * np.maximum(mixer.key_heads / ways, 1.0)
            return _each(mixer.key_dim * values, 2.0 * keys + values, mixer.conv)
        case _:
            return np.float64(0.0), np.float64(0.0)


def _each(state: Array, channels: Array, conv: int) -> tuple[Array, Array]:
    return state, channels * np.float64(conv - 1)


def state_bytes(
    shape: ModelShape, tp: Any = 1, state_dtype: str = "fp32", conv_dtype: str = "bf16"
) -> Array:
    """Bytes of recurrent and convolution state of one sequence, whatever its context.

    Raises:
        UnknownName: no such data type.
        BadValue: ``tp`` is not a count.
    """
    ways = ways_of(tp, "tp")
    total: Array = np.float64(0.0)
    for group in shape.layers:
        recurrent, conv = _state_elements(group.mixer, ways)
        held = recurrent * dtype_bytes(state_dtype) + conv * dtype_bytes(conv_dtype)
        total = total + np.float64(group.count) * held
    return total
