"""The GPT line: LayerNorms with bias, plain feed-forwards, learned or rotary positions or ALiBi."""

from __future__ import annotations

from typing import Any

from perfmodel.models.families.common import Block, attention, decoder, head_width, mlp
from perfmodel.models.reader import Reader
from perfmodel.models.shape import AttentionMixer, Mlp, ModelShape

LAYERS = ("n_layer", "num_hidden_layers", "n_layers", "num_layers")
HIDDEN = ("n_embd", "hidden_size", "n_embed")


def uniform(c: Reader, block: Block, *, hidden: int, **fixed: Any) -> ModelShape:
    """A decoder of equal layers with LayerNorms."""
    depth = c.layers(*LAYERS)
    values = {"norm_kind": "layer", "norm_bias": True, "hidden": hidden, **fixed}
    return decoder(c, [block] * depth, **values)


def plain(c: Reader, hidden: int, *keys: str, bias: bool = True) -> Mlp:
    """Up and down without a gate, four times the hidden width unless a key says otherwise."""
    c.ignore("activation_function", "hidden_act", "activation", "hidden_activation")
    width = c.size(*keys, default=4 * hidden) if keys else 4 * hidden
    return Mlp(width=width, gated=False, bias=bias, activation="gelu")


def gpt2(c: Reader) -> ModelShape:
    """GPT-2 and GPT-3: learned positions, biases everywhere, tied head."""
    hidden = c.size(*HIDDEN)
    mixer = attention(c, hidden, rope=False, qkv_bias=True, out_bias=True)
    block = Block(mixer=mixer, ffn=plain(c, hidden, "n_inner"))
    positions = c.size("n_positions", "n_ctx", default=1024)
    return uniform(c, block, hidden=hidden, tied=True, positions=positions)


def gpt_bigcode(c: Reader) -> ModelShape:
    """StarCoder 1: GPT-2 with one key-value head where ``multi_query``."""
    hidden = c.size(*HIDDEN)
    heads = c.size("n_head", "num_attention_heads")
    kv_heads = 1 if c.flag("multi_query", default=True) else heads
    mixer = attention(c, hidden, kv_heads=kv_heads, rope=False, qkv_bias=True, out_bias=True)
    block = Block(mixer=mixer, ffn=plain(c, hidden, "n_inner"))
    positions = c.size("n_positions", default=1024)
    return uniform(c, block, hidden=hidden, tied=True, positions=positions)


def gptj(c: Reader) -> ModelShape:
    """GPT-J: one norm feeds attention (no biases) and feed-forward (biases); the head has one."""
    hidden = c.size(*HIDDEN)
    mixer = attention(c, hidden, qkv_bias=False, out_bias=False)
    block = Block(mixer=mixer, ffn=plain(c, hidden, "n_inner"), norms=1, parallel=True)
    return uniform(c, block, hidden=hidden, head_bias=True)


def gpt_neox(c: Reader) -> ModelShape:
    """GPT-NeoX and Pythia: attention and feed-forward in parallel, each behind its own norm."""
    hidden = c.size("hidden_size")
    bias = c.flag("attention_bias", default=True)
    mixer = attention(c, hidden, qkv_bias=bias, out_bias=bias)
    parallel = c.flag("use_parallel_residual", default=True)
    block = Block(mixer=mixer, ffn=plain(c, hidden, "intermediate_size"), parallel=parallel)
    return uniform(c, block, hidden=hidden)


def opt(c: Reader) -> ModelShape:
    """OPT: two position rows more than positions; the 350M model norms after its blocks, has no
    final norm and a narrower embedding that is projected in and out.
    """
    hidden = c.size("hidden_size")
    bias = c.flag("enable_bias", default=True)
    mixer = attention(c, hidden, rope=False, qkv_bias=bias, out_bias=bias)
    before = c.flag("do_layer_norm_before", default=True)
    removed = c.flag("_remove_final_layer_norm", default=False)
    block = Block(mixer=mixer, ffn=plain(c, hidden, "ffn_dim", bias=bias))
    width = c.size("word_embed_proj_dim", default=hidden)
    return uniform(
        c,
        block,
        hidden=hidden,
        tied=True,
        positions=c.size("max_position_embeddings", default=2048) + 2,
        embedding_width=None if width == hidden else width,
        final_norm=before and not removed,
        norm_affine=c.flag("layer_norm_elementwise_affine", default=True),
    )


def bloom(c: Reader) -> ModelShape:
    """BLOOM: ALiBi, a norm on the embedding, tied head."""
    hidden = c.size("hidden_size", "n_embed")
    mixer = attention(c, hidden, rope=False, qkv_bias=True, out_bias=True)
    block = Block(mixer=mixer, ffn=plain(c, hidden))
    return uniform(c, block, hidden=hidden, tied=True, embedding_norm=True)


def falcon_is_new(c: Reader) -> bool:
    """The grouped-query architecture of 40B and later; the first 40B configuration (RefinedWeb)
    says so by ``n_head_kv`` alone.
    """
    return c.flag("new_decoder_architecture", default=c.config.get("n_head_kv") is not None)


def falcon_kv_heads(c: Reader, heads: int) -> int:
    """KV heads: as given in the new architecture, one if multi_query, else as many as heads."""
    given = c.size("num_kv_heads", "n_head_kv", default=heads)
    multi_query = c.flag("multi_query", default=True)
    if falcon_is_new(c):
        c.divides(given, "num_kv_heads", heads, "num_attention_heads")
        return given
    return 1 if multi_query else heads


def falcon(c: Reader) -> ModelShape:
    """Falcon 7B, 40B, 180B and 11B: how many norms feed the parallel blocks differs."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads", "n_head")
    bias = c.flag("bias", default=False)
    mixer = attention(
        c,
        hidden,
        kv_heads=falcon_kv_heads(c, heads),
        rope=not c.flag("alibi", default=False),
        qkv_bias=bias,
        out_bias=bias,
    )
    new = falcon_is_new(c)
    parallel = c.flag("parallel_attn", default=True)
    norms = c.size("num_ln_in_parallel_attn", default=2 if new else 1)
    block = Block(
        mixer=mixer,
        ffn=plain(c, hidden, "ffn_hidden_size", bias=bias),
        norms=2 if norms == 2 or not parallel else 1,
        parallel=parallel or new,
    )
    if "tie_word_embeddings" not in c.config:
        c.note("the head is tied, as the family's default; checkpoints may store a copy of it")
    context = c.size("max_position_embeddings", default=2048)
    return uniform(c, block, hidden=hidden, tied=True, max_context=context)


def phi(c: Reader) -> ModelShape:
    """Phi-1, 1.5 and 2: one norm feeds both blocks; biases everywhere, the head's included."""
    hidden = c.size("hidden_size")
    heads = c.size("num_attention_heads")
    width = head_width(c, hidden, heads)
    # a LayerNorm with weight and bias over head_dim, for queries and for keys
    qk_norm = 2 * width if c.flag("qk_layernorm", default=False) else 0
    mixer = attention(c, hidden, qkv_bias=True, out_bias=True, qk_norm=qk_norm)
    ffn = mlp(c, gated=False, bias=True, activation="gelu")
    block = Block(mixer=mixer, ffn=ffn, norms=1, parallel=True)
    return uniform(c, block, hidden=hidden, head_bias=True)


def bidirectional(c: Reader, hidden: int, **fixed: Any) -> AttentionMixer:
    """The attention of an encoder: no mask, no rotary positions, biases."""
    values = {"causal": False, "rope": False, "qkv_bias": True, "out_bias": True, **fixed}
    return attention(c, hidden, **values)
