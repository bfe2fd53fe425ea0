"""Recurrent and hybrid models: Mamba, Mamba-2, Nemotron-H, Jamba, Qwen3-Next and Qwen3.5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perfmodel.models.families.common import (
    FULL,
    Block,
    attention,
    decoder,
    mlp,
)
from perfmodel.models.families.experts import routed, sparse_layers
from perfmodel.models.reader import Reader
from perfmodel.models.shape import DeltaMixer, Mamba2Mixer, MambaMixer, Mlp, ModelShape, Moe


def auto_rank(c: Reader, key: str, hidden: int) -> int:
    """The rank of Mamba's step projection; ``"auto"`` is hidden / 16 rounded up."""
    _, value = c.raw(key)
    if value is None or value == "auto":
        return -(-hidden // 16)
    return c.size(key)


def mamba(c: Reader) -> ModelShape:
    """Mamba-1 (section 3.4 of the paper; transformers ``MambaConfig``)."""
    hidden = c.size("hidden_size", "d_model")
    c.ignore(
        "d_inner", "ssm_cfg", "pad_vocab_size_multiple", "hidden_act", "n_layer", "mixer_rms_eps"
    )
    mixer = MambaMixer(
        inner=c.size("intermediate_size", default=c.size("expand", default=2) * hidden),
        state=c.size("state_size", default=16),
        conv=c.size("conv_kernel", default=4),
        dt_rank=auto_rank(c, "time_step_rank", hidden),
        proj_bias=c.flag("use_bias", default=False),
        conv_bias=c.flag("use_conv_bias", default=True),
    )
    block = Block(mixer=mixer, ffn=None, norms=1)
    depth = c.layers("num_hidden_layers", "n_layer")
    return decoder(c, [block] * depth, hidden=hidden, tied=True)


def mamba2_mixer(c: Reader, **fixed: Any) -> Mamba2Mixer:
    """Heads that share B and C by groups; raises BadValue where groups do not divide heads."""
    mixer = Mamba2Mixer(
        state=c.size("state_size", "ssm_state_size", "mamba_d_state", default=128),
        groups=c.size("n_groups", "mamba_n_groups", default=8),
        conv=c.size("conv_kernel", "mamba_d_conv", default=4),
        chunk=c.size("chunk_size", "mamba_chunk_size", default=256),
        conv_bias=c.flag("use_conv_bias", "mamba_conv_bias", default=True),
        **fixed,
    )
    c.divides(mixer.groups, "n_groups", mixer.heads, "num_heads")
    return mixer


def mamba2(c: Reader) -> ModelShape:
    """Mamba-2: heads x head_dim must be the expanded width."""
    hidden = c.size("hidden_size")
    heads, width = c.size("num_heads", default=128), c.size("head_dim", default=64)
    inner = c.size("expand", default=2) * hidden
    if heads * width != inner:
        c.fail("num_heads", f"{heads} heads of {width} are not expand x hidden_size = {inner}")
    c.ignore("hidden_act", "norm_before_gate", "time_step_rank", "intermediate_size")
    mixer = mamba2_mixer(
        c, heads=heads, head_dim=width, proj_bias=c.flag("use_bias", default=False)
    )
    block = Block(mixer=mixer, ffn=None, norms=1)
    return decoder(c, [block] * c.layers("num_hidden_layers"), hidden=hidden)


def state_spaces(c: Reader) -> ModelShape:
    """Mamba 1 and 2 as their authors publish them: ``d_model``, ``n_layer``, ``ssm_cfg``."""
    hidden, ssm = c.size("d_model"), Reader(c.section("ssm_cfg") or {}, c.name)
    if c.items("attn_layer_idx"):
        c.fail("attn_layer_idx", "attention layers are not supported in this format", fix="[]")
    c.ignore("attn_cfg", "d_intermediate")
    multiple = c.size("pad_vocab_size_multiple", default=1)
    expand = ssm.size("expand", default=2)
    state, conv = ssm.optional_size("d_state"), ssm.size("d_conv", default=4)
    mixer: MambaMixer | Mamba2Mixer
    if ssm.text("layer", default="Mamba1") == "Mamba2":
        width = ssm.size("headdim", default=64)
        mixer = Mamba2Mixer(
            heads=ssm.divides(width, "headdim", expand * hidden, "expand x d_model"),
            head_dim=width,
            state=state or 128,
            groups=ssm.size("ngroups", default=1),
            conv=conv,
            gate_norm=ssm.flag("rmsnorm", default=True),
        )
    else:
        rank = auto_rank(ssm, "dt_rank", hidden)
        mixer = MambaMixer(inner=expand * hidden, state=state or 16, conv=conv, dt_rank=rank)
    vocab = -(-c.size("vocab_size") // multiple) * multiple
    tied = c.flag("tie_embeddings", default=True)
    block = Block(mixer=mixer, ffn=None, norms=1)
    depth = c.layers("n_layer")
    return decoder(c, [block] * depth, hidden=hidden, tied=tied, vocab=vocab, family="mamba")


PATTERN = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
NEMOTRON_KINDS = {
    "linear_attention": "mamba",
    "mamba": "mamba",
    "full_attention": "attention",
    "attention": "attention",
    "mlp": "mlp",
    "moe": "moe",
}


def nemotron_kinds(c: Reader) -> list[str]:
    """The kind of every layer, from the pattern or from the list."""
    pattern = c.text("hybrid_override_pattern", default="")
    listed = c.items("layers_block_type") or list(pattern)
    if not listed:
        c.fail("hybrid_override_pattern", "is missing", fix='one of "M*-E" per layer')
    table = NEMOTRON_KINDS if c.items("layers_block_type") else PATTERN
    for kind in listed:
        if not isinstance(kind, str) or kind not in table:
            c.fail("hybrid_override_pattern", f"unknown layer {kind!r}", fix=" ".join(table))
    depth = c.layers("num_hidden_layers") if "num_hidden_layers" in c.config else len(listed)
    if depth != len(listed):
        c.fail("hybrid_override_pattern", f"has {len(listed)} layers, num_hidden_layers {depth}")
    return [table[kind] for kind in listed]


def nemotron_block(c: Reader, kind: str, hidden: int) -> Block:
    """One layer: a single mixer or feed-forward behind one norm."""
    match kind:
        case "mamba":
            return Block(mixer=nemotron_mamba(c), ffn=None, norms=1)
        case "attention":
            c.ignore("sliding_window")
            return Block(mixer=attention(c, hidden, rope=False), ffn=None, norms=1)
        case "mlp":
            bias = c.flag("mlp_bias", default=False)
            ffn = Mlp(width=c.size("intermediate_size"), gated=False, bias=bias, activation="relu2")
            return Block(mixer=None, ffn=ffn, norms=1)
        case _:
            return Block(mixer=None, ffn=nemotron_moe(c), norms=1)


def nemotron_mamba(c: Reader) -> Mamba2Mixer:
    """Mamba-2 with heads and widths of its own, not tied to the hidden size."""
    c.ignore("mamba_proj_bias")
    bias = c.flag("use_bias", default=False)
    return mamba2_mixer(
        c, heads=c.size("mamba_num_heads"), head_dim=c.size("mamba_head_dim"), proj_bias=bias
    )


def nemotron_moe(c: Reader) -> Moe:
    """Squared-ReLU experts; Super and Ultra route a latent narrower than the hidden size."""
    shared = c.size("n_shared_experts", default=1, least=0)
    return routed(
        c,
        "n_routed_experts",
        top=2,
        width="moe_intermediate_size",
        gated=False,
        bias=c.flag("mlp_bias", default=False),
        activation="relu2",
        shared_width=shared * c.size("moe_shared_expert_intermediate_size"),
        correction=True,
        latent=c.size("moe_latent_size", default=0, least=0),
    )


def nemotron_h(c: Reader) -> ModelShape:
    """Nemotron-H and Nemotron 3: ``hybrid_override_pattern`` spells the layers."""
    hidden = c.size("hidden_size")
    c.ignore("attention_head_dim", "expand", "mlp_hidden_act", "mamba_hidden_act")
    c.ignore("intermediate_size", "moe_shared_expert_overlap", "mamba_num_groups")
    if c.size("num_nextn_predict_layers", default=0, least=0):
        c.note("the layers for multi-token prediction are not counted")
    kinds = nemotron_kinds(c)
    if c.config.get("head_dim") is None:
        c.config = {**c.config, "head_dim": c.config.get("attention_head_dim", 128)}
    made = {kind: nemotron_block(c, kind, hidden) for kind in dict.fromkeys(kinds)}
    return decoder(c, [made[kind] for kind in kinds], hidden=hidden)


def jamba(c: Reader) -> ModelShape:
    """Jamba: attention every ``attn_layer_period`` layers, experts every other layer, and norms
    on the scan's inputs. No positions.
    """
    hidden, depth = c.size("hidden_size"), c.layers("num_hidden_layers")
    c.ignore("use_mamba_kernels", "sliding_window")
    mixer = MambaMixer(
        inner=c.size("mamba_expand", default=2) * hidden,
        state=c.size("mamba_d_state", default=16),
        conv=c.size("mamba_d_conv", default=4),
        dt_rank=auto_rank(c, "mamba_dt_rank", hidden),
        proj_bias=c.flag("mamba_proj_bias", default=False),
        conv_bias=c.flag("mamba_conv_bias", default=True),
        inner_norms=c.flag("mamba_inner_layernorms", default=True),
    )
    full = attention(c, hidden, rope=False, qkv_bias=False, out_bias=False)
    dense = mlp(c, bias=False)
    moe = jamba_experts(c)
    attends = periodic(c, "attn_layer", 8, 4)
    expert = periodic(c, "expert_layer", 2, 1)
    blocks = [
        Block(
            mixer=full if attends(i) else mixer,
            ffn=moe if moe is not None and expert(i) else dense,
        )
        for i in range(depth)
    ]
    return decoder(c, blocks, hidden=hidden)


def jamba_experts(c: Reader) -> Moe | None:
    """Experts as wide as the dense layers; a single one is a dense layer."""
    if c.size("num_experts", default=16) == 1:
        return None
    return routed(c, "num_experts", top=2, width="intermediate_size")


def periodic(c: Reader, key: str, period: int, offset: int) -> Callable[[int], bool]:
    """Layers ``offset, offset + period, ...``."""
    every = c.size(f"{key}_period", default=period)
    first = c.size(f"{key}_offset", default=offset, least=0)
    return lambda i: i % every == first


def delta_mixer(c: Reader) -> DeltaMixer:
    """Gated DeltaNet (Qwen3-Next); raises BadValue where key heads do not divide value heads."""
    mixer = DeltaMixer(
        key_heads=c.size("linear_num_key_heads", default=16),
        value_heads=c.size("linear_num_value_heads", default=32),
        key_dim=c.size("linear_key_head_dim", default=128),
        value_dim=c.size("linear_value_head_dim", default=128),
        conv=c.size("linear_conv_kernel_dim", default=4),
    )
    c.divides(mixer.key_heads, "linear_num_key_heads", mixer.value_heads, "linear_num_value_heads")
    return mixer


def qwen_hybrid(c: Reader, hidden: int, ffns: list[Mlp | Moe]) -> ModelShape:
    """Three gated delta layers to one full-attention layer with an output gate."""
    depth = len(ffns)
    c.config = {"head_dim": 256, **c.config}
    full = attention(c, hidden, gated=True)
    full = replace(full, qk_norm=full.head_dim)
    interval = c.size("full_attention_interval", default=4)
    kinds = c.items("layer_types", depth) or [
        "linear_attention" if (i + 1) % interval else "full_attention" for i in range(depth)
    ]
    delta, blocks = delta_mixer(c), []
    for kind, ffn in zip(kinds, ffns, strict=True):
        if kind not in (*FULL, "linear_attention"):
            c.fail("layer_types", f"unknown kind of layer {kind!r}", fix="linear_attention")
        blocks.append(Block(mixer=delta if kind == "linear_attention" else full, ffn=ffn))
    if c.size("mtp_num_hidden_layers", default=0, least=0):
        c.note("the layers for multi-token prediction are not counted")
    c.ignore("attn_output_gate", "mtp_use_dedicated_embeddings", "full_attention_interval")
    return decoder(c, blocks, hidden=hidden)


def qwen3_next(c: Reader) -> ModelShape:
    """Qwen3-Next and the mixtures of Qwen3.5: experts with a gated shared one in every layer."""
    hidden, depth = c.size("hidden_size"), c.layers("num_hidden_layers")
    moe = routed(
        c,
        "num_experts",
        top=10,
        width="moe_intermediate_size",
        shared_width=c.size("shared_expert_intermediate_size"),
        shared_gate=True,
    )
    sparse = sparse_layers(c, depth)
    dense = None if all(sparse) else mlp(c, bias=False)
    c.ignore("intermediate_size")
    return qwen_hybrid(c, hidden, [moe if s or dense is None else dense for s in sparse])


def qwen3_5(c: Reader) -> ModelShape:
    """Dense Qwen3.5."""
    hidden, depth = c.size("hidden_size"), c.layers("num_hidden_layers")
    return qwen_hybrid(c, hidden, [mlp(c, bias=False)] * depth)
