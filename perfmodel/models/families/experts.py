"""Mixtures of experts: Mixtral, Qwen-MoE, DeepSeek-V2 and V3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perfmodel.models.families.common import Block, attention, by_window, decoder, mlp, windows
from perfmodel.models.families.llama import qwen2_windows
from perfmodel.models.reader import Reader
from perfmodel.models.shape import AttentionMixer, LatentMixer, Mlp, ModelShape, Moe


def routed(c: Reader, *keys: str, top: int, width: str, **fixed: Any) -> Moe:
    """Routed experts; raises BadValue where more are active than exist."""
    experts = c.size(*keys)
    top_k = c.size("num_experts_per_tok", default=top)
    if top_k > experts:
        c.fail("num_experts_per_tok", f"{top_k} exceeds the {experts} experts")
    c.ignore("hidden_act")
    return Moe(experts=experts, top_k=top_k, width=c.size(width), **fixed)


def mixtral(c: Reader) -> ModelShape:
    """Mixtral: experts in place of every feed-forward."""
    hidden = c.size("hidden_size")
    mixer = attention(c, hidden, qkv_bias=False, out_bias=False)
    ffn = routed(c, "num_local_experts", top=2, width="intermediate_size")
    found = windows(c, c.layers("num_hidden_layers"), c.optional_size("sliding_window"))
    return decoder(c, [Block(mixer=m, ffn=ffn) for m in by_window(mixer, found)], hidden=hidden)


def gpt_oss(c: Reader) -> ModelShape:
    """gpt-oss: biases everywhere, a learned sink per head, every other layer windowed (the first
    included), experts in every layer.
    """
    hidden, depth = c.size("hidden_size"), c.layers("num_hidden_layers")
    c.config = {"head_dim": 64, "attention_bias": True, "sliding_window": 128, **c.config}
    c.ignore("swiglu_limit", "swiglu_alpha", "experts_per_token", "initial_context_length")
    mixer = attention(c, hidden)
    ffn = routed(
        c, "num_local_experts", top=4, width="intermediate_size", bias=True, router_bias=True
    )
    window = c.optional_size("sliding_window")
    found = windows(c, depth, window)
    if c.items("layer_types") is None:
        found = [None if i % 2 else window for i in range(depth)]
    blocks = [Block(mixer=m, ffn=ffn, extra_parameters=m.heads) for m in by_window(mixer, found)]
    return decoder(c, blocks, hidden=hidden)


def sparse_layers(c: Reader, depth: int) -> list[bool]:
    """Which layers of a Qwen-MoE have experts: every ``decoder_sparse_step``-th, but for
    ``mlp_only_layers``.
    """
    step = c.size("decoder_sparse_step", default=1)
    dense = {c.whole("mlp_only_layers", i, least=0) for i in c.items("mlp_only_layers") or []}
    return [i not in dense and (i + 1) % step == 0 for i in range(depth)]


def qwen_moe(c: Reader, hidden: int, mixer: AttentionMixer, moe: Moe) -> ModelShape:
    """Qwen2-MoE and Qwen3-MoE around their attention and experts."""
    depth = c.layers("num_hidden_layers")
    mixers = by_window(mixer, qwen2_windows(c))
    sparse = sparse_layers(c, depth)
    dense = None if all(sparse) else mlp(c, bias=False)
    c.ignore("intermediate_size")
    blocks = [Block(mixer=m, ffn=moe if s else dense) for m, s in zip(mixers, sparse, strict=True)]
    return decoder(c, blocks, hidden=hidden)


def qwen2_moe(c: Reader) -> ModelShape:
    """Qwen1.5-MoE and Qwen2-MoE: a gated shared expert beside the routed ones."""
    hidden = c.size("hidden_size")
    bias = c.flag("qkv_bias", default=True)
    mixer = attention(c, hidden, qkv_bias=bias, out_bias=False)
    shared = c.size("shared_expert_intermediate_size")
    width = "moe_intermediate_size"
    moe = routed(c, "num_experts", top=4, width=width, shared_width=shared, shared_gate=True)
    return qwen_moe(c, hidden, mixer, moe)


def qwen3_moe(c: Reader) -> ModelShape:
    """Qwen3-MoE: no shared expert; query and key norms."""
    hidden = c.size("hidden_size")
    # Qwen3-MoE, unlike dense Qwen3, falls back to hidden / heads
    mixer = attention(c, hidden)
    mixer = replace(mixer, qk_norm=mixer.head_dim)
    moe = routed(c, "num_experts", "num_local_experts", top=8, width="moe_intermediate_size")
    return qwen_moe(c, hidden, mixer, moe)


def latent(c: Reader) -> LatentMixer:
    """Multi-head latent attention; a null ``q_lora_rank`` leaves queries uncompressed."""
    return LatentMixer(
        heads=c.size("num_attention_heads"),
        q_rank=c.optional_size("q_lora_rank", default=1536),
        kv_rank=c.size("kv_lora_rank", default=512),
        nope_dim=c.size("qk_nope_head_dim", default=128),
        rope_dim=c.size("qk_rope_head_dim", default=64),
        v_head_dim=c.size("v_head_dim", default=128),
        qkv_bias=c.flag("attention_bias", default=False),
    )


def deepseek(c: Reader, correction: bool) -> ModelShape:
    """DeepSeek-V2 and V3: dense layers first, then shared and routed experts; the layers for
    multi-token prediction are not part of the model that answers.
    """
    hidden, depth = c.size("hidden_size"), c.layers("num_hidden_layers")
    mixer, dense = latent(c), mlp(c, bias=False)
    width = c.size("moe_intermediate_size")
    shared = c.size("n_shared_experts", default=1, least=0) * width
    moe = routed(
        c,
        "n_routed_experts",
        top=8,
        width="moe_intermediate_size",
        shared_width=shared,
        correction=correction,
    )
    first = c.size("first_k_dense_replace", default=0, least=0)
    every = c.size("moe_layer_freq", default=1)
    c.ignore("num_key_value_heads", "head_dim", "qk_head_dim")
    if c.size("num_nextn_predict_layers", default=0, least=0):
        c.note("the layers for multi-token prediction are not counted")
    ffns: list[Mlp | Moe] = [moe if i >= first and i % every == 0 else dense for i in range(depth)]
    return decoder(c, [Block(mixer=mixer, ffn=ffn) for ffn in ffns], hidden=hidden)


def deepseek_v2(c: Reader) -> ModelShape:
    """DeepSeek-V2: scores without a correction."""
    return deepseek(c, correction=False)


def deepseek_v3(c: Reader) -> ModelShape:
    """DeepSeek-V3 and R1, Kimi K2: a learned correction per routed expert steers the choice."""
    return deepseek(c, correction=c.text("topk_method", default="noaux_tc") == "noaux_tc")
