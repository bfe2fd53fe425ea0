"""Llama and what follows its block: RMS norms, rotary positions, gated feed-forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perfmodel.models.families.common import (
    Block,
    attention,
    by_window,
    decoder,
    head_width,
    mlp,
    windows,
)
from perfmodel.models.reader import Reader
from perfmodel.models.shape import AttentionMixer, Mlp, ModelShape


def stack(
    c: Reader, mixer: AttentionMixer, ffn: Mlp, window: int | None = None, norms: int = 2
) -> list[Block]:
    """Equal layers but for their windows (``layer_types``, or ``window`` for all)."""
    depth = c.layers("num_hidden_layers")
    mixers = by_window(mixer, windows(c, depth, window))
    return [Block(mixer=m, ffn=ffn, norms=norms) for m in mixers]


def llama(c: Reader) -> ModelShape:
    """Llama 1 to 3, Yi, Code Llama (transformers ``LlamaConfig``)."""
    hidden = c.size("hidden_size")
    return decoder(c, stack(c, attention(c, hidden), mlp(c)), hidden=hidden)


def mistral(c: Reader) -> ModelShape:
    """Mistral: a sliding window in every layer unless null (4096 where omitted)."""
    hidden = c.size("hidden_size")
    mixer = attention(c, hidden, qkv_bias=False, out_bias=False)
    window = c.optional_size("sliding_window", default=4096)
    return decoder(c, stack(c, mixer, mlp(c, bias=False), window), hidden=hidden)


def qwen2_windows(c: Reader) -> list[int | None]:
    """Qwen2 and 3: full attention below ``max_window_layers`` if ``use_sliding_window``."""
    depth = c.layers("num_hidden_layers")
    window = c.optional_size("sliding_window", default=4096)
    first = c.size("max_window_layers", default=28, least=0)
    if not c.flag("use_sliding_window", default=False):
        window = None
    if c.items("layer_types") is not None:
        return windows(c, depth, window)
    return [window if i >= first else None for i in range(depth)]


def qwen2(c: Reader) -> ModelShape:
    """Qwen2 and Qwen2.5: biases on the query, key and value projections alone."""
    hidden = c.size("hidden_size")
    mixer = attention(c, hidden, qkv_bias=True, out_bias=False)
    ffn = mlp(c, bias=False)
    blocks = [Block(mixer=m, ffn=ffn) for m in by_window(mixer, qwen2_windows(c))]
    return decoder(c, blocks, hidden=hidden)


def qwen3_attention(c: Reader, hidden: int) -> AttentionMixer:
    """Qwen3: query and key norms over head_dim (128 where omitted), no biases by default."""
    c.config = {"head_dim": 128, **c.config}
    mixer = attention(c, hidden)
    return replace(mixer, qk_norm=mixer.head_dim)


def qwen3(c: Reader) -> ModelShape:
    """Qwen3 dense."""
    hidden = c.size("hidden_size")
    mixer, ffn = qwen3_attention(c, hidden), mlp(c, bias=False)
    blocks = [Block(mixer=m, ffn=ffn) for m in by_window(mixer, qwen2_windows(c))]
    return decoder(c, blocks, hidden=hidden)


def qwen(c: Reader) -> ModelShape:
    """Qwen 1: heads of kv_channels, biases on the fused query-key-value projection, and an
    ``intermediate_size`` that counts gate and up together.
    """
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    width = head_width(c, hidden, heads, "kv_channels")
    no_bias = c.flag("no_bias", default=True)
    mixer = AttentionMixer(
        heads=heads,
        kv_heads=heads,
        head_dim=width,
        v_head_dim=width,
        qkv_bias=True,
        out_bias=not no_bias,
    )
    both = c.size("intermediate_size")
    ffn = Mlp(width=c.divides(2, "intermediate_size", both, "intermediate_size"), bias=not no_bias)
    return decoder(c, stack(c, mixer, ffn), hidden=hidden)


def internlm(c: Reader) -> ModelShape:
    """InternLM: Llama with biases on all four attention projections where ``bias``, as in 1;
    2 and 2.5 are grouped and publish ``bias`` false."""
    hidden = c.size("hidden_size")
    bias = c.flag("bias", default=True)
    mixer = attention(c, hidden, qkv_bias=bias, out_bias=bias)
    return decoder(c, stack(c, mixer, mlp(c, bias=False)), hidden=hidden)


def phi3(c: Reader) -> ModelShape:
    """Phi-3 and Phi-4: fused projections without biases, a window where given."""
    hidden = c.size("hidden_size")
    mixer = attention(c, hidden, qkv_bias=False, out_bias=False)
    window = c.optional_size("sliding_window")
    return decoder(c, stack(c, mixer, mlp(c, bias=False), window), hidden=hidden)


def gemma(c: Reader) -> ModelShape:
    """Gemma 1: head_dim 256 whatever the hidden size, tied embeddings."""
    hidden = c.size("hidden_size")
    c.config = {"head_dim": 256, **c.config}
    ffn = mlp(c, bias=False, activation="gelu_tanh")
    return decoder(c, stack(c, attention(c, hidden), ffn), hidden=hidden, tied=True)


def gemma2(c: Reader) -> ModelShape:
    """Gemma 2: four norms a layer; every other layer, the first included, has the window."""
    return gemma_windowed(c, {"head_dim": 256, "sliding_window": 4096}, period=2)


def gemma3(c: Reader) -> ModelShape:
    """Gemma 3 (text): query and key norms; five windowed layers to one full."""
    omitted = {
        "head_dim": 256,
        "sliding_window": 4096,
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    }
    for key, value in omitted.items():
        if key not in c.config:
            c.note(f"{key} omitted: {value} is the family's default")
    period = c.size("sliding_window_pattern", "_sliding_window_pattern", default=6)
    return gemma_windowed(c, omitted, period=period, qk_norm=True)


def gemma_windowed(
    c: Reader, omitted: dict[str, int], *, period: int, qk_norm: bool = False
) -> ModelShape:
    """Gemma 2 and 3: the last of every ``period`` layers sees the whole context."""
    c.config = {**omitted, **c.config}
    hidden = c.size("hidden_size")
    mixer = attention(c, hidden)
    if qk_norm:
        mixer = replace(mixer, qk_norm=mixer.head_dim)
    ffn = mlp(c, bias=False, activation="gelu_tanh")
    depth = c.layers("num_hidden_layers")
    window = c.optional_size("sliding_window")
    found = windows(c, depth, window)
    if c.items("layer_types") is None:
        found = [window if (i + 1) % period else None for i in range(depth)]
    blocks = [Block(mixer=m, ffn=ffn, norms=4) for m in by_window(mixer, found)]
    return decoder(c, blocks, hidden=hidden, tied=True)


def nemotron(c: Reader) -> ModelShape:
    """Nemotron-4 and Minitron: squared ReLU without a gate, LayerNorm1P with bias."""
    hidden = c.size("hidden_size")
    ffn = mlp(c, gated=False, activation=c.text("hidden_act", default="relu2"))
    return layer_normed(c, stack(c, attention(c, hidden), ffn), hidden=hidden)


def starcoder2(c: Reader) -> ModelShape:
    """StarCoder2: biases everywhere (``use_bias``), LayerNorm, no gate, a window, tied."""
    hidden = c.size("hidden_size")
    bias = c.flag("use_bias", default=True)
    mixer = attention(c, hidden, qkv_bias=bias, out_bias=bias)
    ffn = mlp(c, gated=False, bias=bias, activation="gelu_tanh")
    blocks = stack(c, mixer, ffn, c.optional_size("sliding_window"))
    return layer_normed(c, blocks, hidden=hidden, tied=True)


def granite(c: Reader) -> ModelShape:
    """Granite: Llama with scalars on embedding, residual, attention and logits."""
    c.ignore("embedding_multiplier", "logits_scaling", "residual_multiplier")
    c.ignore("attention_multiplier")
    return llama(c)


def cohere(c: Reader) -> ModelShape:
    """Command R: one LayerNorm without bias feeds attention and feed-forward; tied."""
    hidden = c.size("hidden_size")
    mixer = attention(c, hidden)
    c.ignore("logit_scale")
    # query and key norms have weights per head, unlike those shared by heads
    normed = c.flag("use_qk_norm", default=False)
    extra = (mixer.heads + mixer.kv_heads) * mixer.head_dim if normed else 0
    block = Block(
        mixer=mixer, ffn=mlp(c, bias=False), norms=1, parallel=True, extra_parameters=extra
    )
    blocks = [block] * c.layers("num_hidden_layers")
    return decoder(c, blocks, hidden=hidden, tied=True, norm_kind="layer")


def layer_normed(c: Reader, blocks: list[Block], **fixed: Any) -> ModelShape:
    """A decoder whose norms are LayerNorms with bias."""
    return decoder(c, blocks, norm_kind="layer", norm_bias=True, **fixed)
