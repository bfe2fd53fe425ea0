"""What operator each row of a tidy table timed: one small builder per operator name.

The tables' own conventions: a transformer layer's operators are sharded by ``tp`` except norms
and residual adds; activations of gated feed-forwards read gate and up and write one product;
attention's ``kv_len`` includes the current tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from perfmodel.workload import (
    Attention,
    Collective,
    Conv,
    DeltaRule,
    Elementwise,
    Gemm,
    Norm,
    Ssd,
    Workload,
)

if TYPE_CHECKING:
    from perfmodel.measure.tidy import Cells

WEIGHT_ONLY = {"int8_w8a16": "int8", "int4_w4a16": "int4"}
SAME = {"int8_w8a8": "int8", "bfloat16": "bf16", "half": "fp16"}

POINTWISE: Mapping[str, tuple[float, float, float]] = {
    # name: inputs read, FLOP per element, special functions per element
    "add": (2, 1, 0), "mul": (2, 1, 0), "div": (2, 1, 1), "pow": (2, 1, 2),
    "addu": (1, 1, 0), "mulu": (1, 1, 0), "divu": (1, 1, 0), "powu": (1, 1, 2),
    "relu": (1, 1, 0), "gelu": (1, 8, 1), "tanh": (1, 1, 1), "silu": (1, 3, 2),
    "residual": (2, 1, 0), "copy": (1, 0, 0), "exp": (1, 1, 1),
}  # fmt: skip
"""The ``u`` forms take one tensor and a scalar."""


def gemm(c: Cells) -> Workload:
    """``gemm``, ``linear``, ``bmm``: m, n, k and optionally batch."""
    dtype = c.text("dtype", "bf16")
    weight = WEIGHT_ONLY.get(dtype)
    return Gemm(
        m=c.count("m"), n=c.count("n"), k=c.count("k"), batch=c.count("batch", 1),
        dtype="bf16" if weight else SAME.get(dtype, dtype), weight_dtype=weight,
        group_size=128 if weight == "int4" else None,
    )  # fmt: skip


def projection(c: Cells) -> Workload:
    """A layer's matrix product, its shard's shape in ``gemm_m``, ``gemm_n``, ``gemm_k``."""
    return Gemm(
        m=c.count("gemm_m"), n=c.count("gemm_n"), k=c.count("gemm_k"), dtype=c.text("dtype", "fp16")
    )


PAGED = {"vllm": 16, "sglang": 1, "trtllm": 64}
"""Tokens of a page in serving frameworks' caches; their rows include writing the new tokens."""


def attention(c: Cells) -> Workload:
    """Causal prefill or decode with grouped queries."""
    return Attention(
        batch=c.count("batch"), q_len=c.count("q_len"), kv_len=c.count("kv_len"),
        heads=c.count("n_head"), kv_heads=c.count("n_kv_head"), head_dim=c.count("head_dim"),
        dtype=c.text("dtype", "bf16"), kv_dtype=c.text("kv_dtype") or None,
        page_size=PAGED.get(c.text("framework").split("-")[0]),
    )  # fmt: skip


def layer_norm(c: Cells) -> Workload:
    """A layer's input norm over the hidden width; not sharded."""
    return Norm(rows=c.count("num_tokens"), cols=c.count("n_embd"), dtype=c.text("dtype", "fp16"))


def layer_rope(c: Cells) -> Workload:
    """Rotary embedding of a shard's queries and keys: one rotation is 3 FLOP per element."""
    head_dim = c.count("n_embd") // c.count("n_head")
    heads = c.count("n_head") + c.count("n_kv_head")
    shard = max(1, c.count("num_tokens") * heads * head_dim // c.count("tp", 1))
    return Elementwise(
        elements=shard,
        flops=3.0,
        cols=max(1, shard // c.count("num_tokens")),
        dtype=c.text("dtype", "fp16"),
        name="rope",
    )


def layer_activation(c: Cells) -> Workload:
    """SiLU(gate) * up of a shard: two inputs, one output."""
    elements = max(1, c.count("num_tokens") * c.count("n_ffn") // c.count("tp", 1))
    return Elementwise(
        elements=elements,
        reads=2.0,
        flops=5.0,
        special=2.0,
        cols=max(1, elements // c.count("num_tokens")),
        dtype=c.text("dtype", "fp16"),
        name="silu",
    )


def pointwise(c: Cells) -> Workload:
    """An elementwise operator over m x n elements, or over a layer's hidden states."""
    name = c.text("op")
    reads, flops, special = POINTWISE[name]
    elements = (
        c.count("num_tokens") * c.count("n_embd")
        if c.text("num_tokens")
        else c.count("m") * c.count("n", 1)
    )
    return Elementwise(
        elements=elements, reads=reads, flops=flops, special=special, dtype=c.text("dtype", "fp32"),
        name=name,
    )  # fmt: skip


def reduction(kind: Literal["layer", "rms", "softmax"]) -> Callable[[Cells], Workload]:
    """A row reduction over m rows of n elements."""

    def build(c: Cells) -> Workload:
        return Norm(rows=c.count("m"), cols=c.count("n"), kind=kind, dtype=c.text("dtype", "fp32"))

    return build


def collective(
    kind: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"],
) -> Callable[[Cells], Workload]:
    """A collective over ``num_gpus``, ``gpus_per_node_used`` of them in each node; as many as a
    server takes where a table does not say."""

    def build(c: Cells) -> Workload:
        ranks = c.count("num_gpus")
        told = bool(c.text("gpus_per_node_used"))
        each = min(ranks, c.count("gpus_per_node_used")) if told else None
        return Collective(bytes=c.count("bytes"), ranks=ranks, kind=kind, ranks_per_node=each)

    return build


def gated_delta(c: Cells) -> Workload:
    """One kernel of a gated DeltaNet layer: the short convolution or the delta rule."""
    k_heads, v_heads = c.count("n_k_head"), c.count("n_v_head")
    k_dim, v_dim = c.count("k_dim"), c.count("v_dim")
    length = 1 if c.text("phase") == "generation" else c.count("seq_len")
    if "conv1d" in c.text("kernel"):
        return _causal_conv(c, 2 * k_heads * k_dim + v_heads * v_dim, length)
    return DeltaRule(
        batch=c.count("batch"), seq_len=length, key_heads=k_heads, value_heads=v_heads,
        key_dim=k_dim, value_dim=v_dim, dtype=c.text("dtype", "bf16"),
    )  # fmt: skip


def mamba2(c: Cells) -> Workload:
    """One kernel of a Mamba-2 layer: the short convolution or the chunked scan."""
    heads, head_dim, groups = c.count("n_head"), c.count("head_dim"), c.count("n_groups")
    length = 1 if c.text("phase") == "generation" else c.count("seq_len")
    if "conv1d" in c.text("kernel"):
        return _causal_conv(c, heads * head_dim + 2 * groups * c.count("d_state"), length)
    return Ssd(
        batch=c.count("batch"), seq_len=length, heads=heads, head_dim=head_dim,
        state=c.count("d_state"), groups=groups, chunk=c.count("chunk", 128),
        dtype=c.text("dtype", "bf16"),
    )  # fmt: skip


def _causal_conv(c: Cells, channels: int, length: int) -> Workload:
    return Conv(
        batch=c.count("batch"), in_channels=channels, out_channels=channels, width=length,
        kernel_w=c.count("d_conv"), groups=channels, padding="causal",
        dtype=c.text("dtype", "bf16"),
    )  # fmt: skip


WORKLOADS_BY_OP: dict[str, Callable[[Cells], Workload]] = {
    "gemm": gemm,
    "linear": gemm,
    "bmm": gemm,
    "attn_pre_proj": projection,
    "attn_post_proj": projection,
    "mlp_up_proj": projection,
    "mlp_down_proj": projection,
    "attn_prefill_causal": attention,
    "attn_decode": attention,
    "input_layernorm": layer_norm,
    "post_attention_layernorm": layer_norm,
    "attn_rope": layer_rope,
    "mlp_act": layer_activation,
    "softmax": reduction("softmax"),
    "layernorm": reduction("layer"),
    "ln": reduction("layer"),
    "rmsnorm": reduction("rms"),
    "all_reduce": collective("all_reduce"),
    "all_gather": collective("all_gather"),
    "reduce_scatter": collective("reduce_scatter"),
    "alltoall": collective("all_to_all"),
    "all_to_all": collective("all_to_all"),
    "send_recv": collective("send_recv"),
    "gdn": gated_delta,
    "mamba2": mamba2,
    **dict.fromkeys(POINTWISE, pointwise),
}
"""Operator names as tables write them."""
