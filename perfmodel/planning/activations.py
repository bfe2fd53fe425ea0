"""Activations that live at once in a forward pass without gradients.

Only one layer is active at a time, so its largest live set is all that inference keeps beside
weights and cache. The tensors of each layer are those of Korthikanti et al., "Reducing Activation
Recomputation in Large Transformer Models" (2022), section 4.1, less what only a backward pass
needs; exact attention never stores its score matrix (Dao et al., "FlashAttention", 2022). A dropped
tensor is freed before the next is made.
"""

from __future__ import annotations

import numpy as np

from perfmodel.models.shape import (
    AttentionMixer,
    DeltaMixer,
    LatentMixer,
    LayerGroup,
    Mamba2Mixer,
    MambaMixer,
    Mixer,
    Mlp,
    ModelShape,
    Moe,
)
from perfmodel.workload import Array, dtype_bytes

LOGIT_BYTES = 4.0
"""Logits are sampled in fp32, gathered over the tensor-parallel group."""


def live_bytes_per_token(
    shape: ModelShape, act_dtype: str, tp: Array | float = 1, ep: Array | float = 1
) -> Array:
    """Bytes per token and device of the largest live set of any layer.

    Widths are split over ``tp`` devices; the residual stream and its normalised copy are not.
    """
    sets = [_live_width(shape.hidden, group, np.float64(tp), ep) for group in shape.layers]
    widest = sets[0]
    for width in sets[1:]:
        widest = np.maximum(widest, width)
    return np.float64(dtype_bytes(act_dtype)) * widest


def logit_bytes_per_sequence(shape: ModelShape) -> Array:
    """Bytes per sequence of one row of output scores (the last position only)."""
    return np.float64(LOGIT_BYTES * shape.head_outputs)


def _live_width(hidden: int, group: LayerGroup, tp: Array, ep: Array | float) -> Array:
    """Elements per token: residual + normalised input or block output + the block's own peak."""
    inner: list[Array] = [np.float64(0.0)]
    if group.mixer is not None:
        inner.append(_mixer_width(group.mixer) / tp)
    if isinstance(group.ffn, Mlp):
        inner.append(_mlp_width(group.ffn.width, group.ffn.gated) / tp)
    if isinstance(group.ffn, Moe):
        inner.append(_moe_width(hidden, group.ffn, tp, ep))
    peak: Array = np.float64(0.0)
    for width in inner:
        peak = peak + width if group.parallel else np.maximum(peak, width)
    return np.float64(2.0 * hidden) + peak


def _mlp_width(width: int, gated: bool) -> float:
    """Gate, up and their product; or the pre-activation and its image."""
    return (3.0 if gated else 2.0) * width


def _moe_width(hidden: int, moe: Moe, tp: Array, ep: Array | float) -> Array:
    """Each token's ``top_k`` copies (input, inner activations, output) beside the shared expert."""
    routed = moe.top_k * (2.0 * hidden + _mlp_width(moe.width, moe.gated) / tp) / ep
    return np.float64(routed + _mlp_width(moe.shared_width, moe.gated) / tp)


def _mixer_width(mixer: Mixer) -> float:
    """Projected inputs and the mixer's output, whole model."""
    match mixer:
        case AttentionMixer():
            q, o = mixer.heads * mixer.head_dim, mixer.heads * mixer.v_head_dim
            return q * (2.0 if mixer.gated else 1.0) + o + _kv_width(mixer)
        case LatentMixer():
            per_head = 2.0 * (mixer.nope_dim + mixer.rope_dim) + 2.0 * mixer.v_head_dim
            return mixer.heads * per_head + mixer.kv_rank + mixer.rope_dim
        case MambaMixer():
            return 4.0 * mixer.inner + mixer.dt_rank + 2.0 * mixer.state
        case Mamba2Mixer():
            return 2.0 * mixer.inner + 2.0 * mixer.conv_channels + mixer.heads
        case DeltaMixer():
            keys, values = mixer.key_heads * mixer.key_dim, mixer.value_heads * mixer.value_dim
            return 2.0 * (2.0 * keys + values) + 2.0 * values


def _kv_width(mixer: AttentionMixer) -> float:
    return float(mixer.kv_heads * (mixer.head_dim + mixer.v_head_dim))
