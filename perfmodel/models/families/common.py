"""What most decoder families share: heads, feed-forwards, windows, and folding equal layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from perfmodel.models.reader import Reader
from perfmodel.models.shape import AttentionMixer, LayerGroup, Mixer, Mlp, ModelShape, Moe

SLIDING = ("sliding_attention", "local_attention", "sliding")
FULL = ("full_attention", "global_attention", "attention", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One layer, before equal ones are folded into a :class:`LayerGroup`."""

    mixer: Mixer | None
    ffn: Mlp | Moe | None
    norms: int = 2
    parallel: bool = False
    extra_parameters: int = 0


def fold(blocks: Iterable[Block]) -> dict[str, Any]:
    """``layers`` and ``order`` of a ModelShape from its layers in sequence."""
    index: dict[Block, int] = {}
    order = tuple(index.setdefault(block, len(index)) for block in blocks)
    groups = tuple(
        LayerGroup(
            count=order.count(i),
            mixer=block.mixer,
            ffn=block.ffn,
            norms=block.norms,
            parallel=block.parallel,
            extra_parameters=block.extra_parameters,
        )
        for block, i in index.items()
    )
    return {"layers": groups, "order": order}


def attention(c: Reader, hidden: int, **fixed: Any) -> AttentionMixer:
    """Grouped-query attention from the usual keys; ``fixed`` sets what a family decides.

    Raises:
        BadValue: kv heads do not divide heads, or heads do not divide hidden without head_dim.
    """
    heads = c.size("num_attention_heads", "n_head", "n_heads", "num_heads")
    kv_heads = c.size("num_key_value_heads", default=heads)
    c.divides(kv_heads, "num_key_value_heads", heads, "num_attention_heads")
    head_dim = head_width(c, hidden, heads)
    qkv_bias = c.flag("attention_bias", default=False) if "qkv_bias" not in fixed else False
    base = AttentionMixer(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        qkv_bias=qkv_bias,
        out_bias=qkv_bias,
    )
    return replace(base, **fixed)


def head_width(c: Reader, hidden: int, heads: int, *keys: str) -> int:
    """The explicit head_dim, or hidden / heads if that is exact; raises BadValue."""
    names = keys or ("head_dim",)
    _, given = c.raw(*names)
    if given is not None:
        return c.size(*names)
    if hidden % heads:
        c.fail(
            "num_attention_heads",
            f"{heads} heads do not divide a hidden size of {hidden} and no head_dim is given",
            fix="give head_dim, or heads that divide the hidden size",
        )
    return hidden // heads


def mlp(c: Reader, **fixed: Any) -> Mlp:
    """A gated feed-forward from the usual keys; ``fixed`` overrides."""
    base = Mlp(
        width=c.size("intermediate_size") if "width" not in fixed else 1,
        bias=c.flag("mlp_bias", default=False),
        activation=c.text("hidden_act", "hidden_activation", default="silu"),
    )
    return replace(base, **fixed)


def windows(c: Reader, depth: int, window: int | None) -> list[int | None]:
    """The window of each layer as ``layer_types`` lists it; without a list all have ``window``.

    Raises:
        BadValue: a wrong length or an unknown kind of layer.
    """
    kinds = c.items("layer_types", depth)
    if kinds is None:
        return [window] * depth
    found: list[int | None] = []
    for kind in kinds:
        if kind not in SLIDING + FULL:
            c.fail("layer_types", f"unknown kind of layer {kind!r}", fix=", ".join(FULL + SLIDING))
        if kind in SLIDING and window is None:
            c.fail("sliding_window", "is missing though layer_types has windowed layers")
        found.append(window if kind in SLIDING else None)
    return found


def by_window(base: AttentionMixer, found: list[int | None]) -> list[AttentionMixer]:
    """``base`` once per layer with that layer's window."""
    made = {w: replace(base, window=w) for w in set(found)}
    return [made[w] for w in found]


def decoder(c: Reader, blocks: Iterable[Block], *, hidden: int, **fixed: Any) -> ModelShape:
    """A decoder-only language model: tied or untied head over the vocabulary."""
    vocab = fixed.pop("vocab", None) or c.size("vocab_size")
    tied = fixed.pop("tied", False)
    family = str(c.config.get("model_type", "unknown"))
    values: dict[str, Any] = {
        "name": c.name,
        "family": family,
        "hidden": hidden,
        "vocab": vocab,
        "tied": c.flag("tie_word_embeddings", default=tied),
        "head_outputs": vocab,
        "max_context": c.optional_size(
            "max_position_embeddings", "n_positions", "n_ctx", "seq_length"
        ),
        **fold(blocks),
        **fixed,
    }
    return ModelShape(**values)
