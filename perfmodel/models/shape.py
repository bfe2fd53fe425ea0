"""The shape of a model: what a config.json says, with nothing left to guess.

Built by :mod:`perfmodel.models.hf`; read by ``cache`` (KV and state), ``graph`` (workloads) and
``parameters`` (exact totals). Sizes are integers; a shape never holds arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMixer:
    """Multi-head, grouped-query or multi-query attention.

    ``window`` keeps the last so many tokens (None: all). ``qk_norm`` is the number of elements
    of each of the two query/key norm weights (0: none; head_dim where shared by heads).
    """

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    window: int | None = None
    causal: bool = True
    rope: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: int = 0
    gated: bool = False
    """Whether the query projection also yields an output gate of the same width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentMixer:
    """Multi-head latent attention (DeepSeek-V2, section 2.1): the cache holds one latent of
    ``kv_rank`` plus ``rope_dim`` shared key elements per token and layer, for all heads.
    """

    heads: int
    q_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_head_dim: int
    qkv_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaMixer:
    """Mamba-1: ``inner`` channels, ``state`` states each, a causal convolution of ``conv`` taps.

    ``inner_norms``: RMS norms on dt, B and C inside the mixer (Jamba).
    """

    inner: int
    state: int
    conv: int
    dt_rank: int
    proj_bias: bool = False
    conv_bias: bool = True
    inner_norms: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2Mixer:
    """Mamba-2: ``heads`` of ``head_dim`` channels, ``groups`` sharing B and C."""

    heads: int
    head_dim: int
    state: int
    groups: int
    conv: int
    chunk: int = 256
    gate_norm: bool = True
    """Whether a norm of ``inner`` elements follows the gate."""
    proj_bias: bool = False
    conv_bias: bool = True

    @property
    def inner(self) -> int:
        """Channels: heads x head_dim."""
        return self.heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        """Channels that pass the convolution: x, B and C."""
        return self.inner + 2 * self.groups * self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaMixer:
    """Gated DeltaNet: state ``[key_dim, value_dim]`` per value head, a short convolution."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: int


Mixer: TypeAlias = AttentionMixer | LatentMixer | MambaMixer | Mamba2Mixer | DeltaMixer


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """A feed-forward block; ``gated`` has gate and up projections (SwiGLU, GeGLU)."""

    width: int
    gated: bool = True
    bias: bool = False
    activation: str = "silu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """A mixture of ``experts``, ``top_k`` active per token, plus ``shared_width`` always on."""

    experts: int
    top_k: int
    width: int
    gated: bool = True
    bias: bool = False
    activation: str = "silu"
    shared_width: int = 0
    shared_gate: bool = False
    """Whether the shared expert has a one-output gate of its own (Qwen2-MoE)."""
    router_bias: bool = False
    correction: bool = False
    """Whether routing adds a learned bias per expert to the scores (DeepSeek-V3)."""
    latent: int = 0
    """Width that the routed experts work in where it is projected down from hidden (0: hidden)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """``count`` identical layers, not necessarily adjacent.

    ``norms`` is the number of hidden-width norms per layer. ``parallel`` blocks read the same
    normalised input in mixer and feed-forward, so they share one all-reduce.
    """

    count: int
    mixer: Mixer | None
    ffn: Mlp | Moe | None
    norms: int = 2
    parallel: bool = False
    extra_parameters: int = 0
    """Per-layer vectors that belong to none of the above (layer scales)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchEmbedding:
    """A vision input: ``patches`` tokens, each a ``patch`` x ``patch`` x ``channels`` square."""

    image: int
    patch: int
    channels: int = 3
    extra_tokens: int = 1

    @property
    def patches(self) -> int:
        """Patches per image."""
        return (self.image // self.patch) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A whole model. ``vocab`` is the embedding's rows as published (0 for vision models).

    ``tied`` shares embedding and output head. ``head_outputs`` is the head's rows (the
    vocabulary, classes, or 0 for an encoder without one). ``assumptions`` lists unknown and
    defaulted keys.
    """

    name: str
    family: str
    hidden: int
    vocab: int
    layers: tuple[LayerGroup, ...]
    tied: bool
    head_outputs: int
    head_bias: bool = False
    norm_kind: Literal["rms", "layer"] = "rms"
    norm_bias: bool = False
    norm_affine: bool = True
    """Whether norms have elements of their own at all."""
    final_norm: bool = True
    embedding_norm: bool = False
    positions: int = 0
    """Rows of a learned position table (0: none)."""
    token_types: int = 0
    embedding_width: int | None = None
    """Width of the token embedding where it differs from ``hidden`` (then projected in and out)."""
    pooler: bool = False
    patch: PatchEmbedding | None = None
    max_context: int | None = None
    dtype: str = "bf16"
    """The published weights' data type."""
    decoder: bool = True
    """Whether it generates token by token (an encoder or a vision model does not)."""
    order: tuple[int, ...] = ()
    """Which entry of ``layers`` each layer is, in sequence (empty: one group after another)."""
    aliases: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = field(default_factory=tuple)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return sum(g.count for g in self.layers)

    @property
    def sequence(self) -> tuple[LayerGroup, ...]:
        """The group of every layer, first layer first."""
        if self.order:
            return tuple(self.layers[i] for i in self.order)
        return tuple(g for g in self.layers for _ in range(g.count))
