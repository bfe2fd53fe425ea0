"""A model as a sheet of facts: what its layers are, how many parameters, what a token keeps."""

from __future__ import annotations

from typing import Any

from perfmodel.models.cache import kv_bytes_per_token, state_bytes
from perfmodel.models.parameters import idle_parameters, layer_parameters, parameter_count
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


def model_sheet(shape: ModelShape) -> dict[str, Any]:
    """Totals, layers and cache of ``shape`` as JSON-ready data.

    Keys: ``name, family, hidden, vocab, depth, max_context, dtype, tied, decoder``; ``params`` with
    ``total, active, embedding, head, layers, other``; ``layers`` (one row per kind of layer, as
    :func:`layer_rows`); ``kv_bytes_per_token`` and ``state_bytes_per_sequence`` (bf16 cache, fp32
    state); ``aliases, assumptions``.
    """
    count = parameter_count(shape)
    return {
        "name": shape.name,
        "family": shape.family,
        "hidden": shape.hidden,
        "vocab": shape.vocab,
        "depth": shape.depth,
        "max_context": shape.max_context,
        "dtype": shape.dtype,
        "tied": shape.tied,
        "decoder": shape.decoder,
        "params": {
            "total": count.total,
            "active": count.active,
            "embedding": count.embedding,
            "head": count.head,
            "layers": count.layers,
            "other": count.other,
        },
        "layers": layer_rows(shape),
        "kv_bytes_per_token": float(kv_bytes_per_token(shape)),
        "state_bytes_per_sequence": float(state_bytes(shape)),
        "aliases": list(shape.aliases),
        "assumptions": list(shape.assumptions),
    }


def layer_rows(shape: ModelShape) -> list[dict[str, Any]]:
    """One row per kind of layer: ``count, mixer, ffn, params, active`` (the last two per layer)."""
    return [_row(shape, group) for group in shape.layers]


def _row(shape: ModelShape, group: LayerGroup) -> dict[str, Any]:
    total = layer_parameters(shape, group)
    return {
        "count": group.count,
        "mixer": describe_mixer(group.mixer),
        "ffn": describe_ffn(group.ffn),
        "params": total,
        "active": total - idle_parameters(shape, group),
    }


def describe_mixer(mixer: Mixer | None) -> str:
    """A token mixer in a few words."""
    match mixer:
        case AttentionMixer():
            return _attention(mixer)
        case LatentMixer():
            return f"latent attention {mixer.heads} heads, latent {mixer.kv_rank}+{mixer.rope_dim}"
        case MambaMixer():
            return f"Mamba {mixer.inner} channels x {mixer.state} states"
        case Mamba2Mixer():
            return f"Mamba-2 {mixer.heads} heads x {mixer.head_dim} x {mixer.state} states"
        case DeltaMixer():
            return f"gated delta {mixer.value_heads} heads x {mixer.key_dim} x {mixer.value_dim}"
        case None:
            return "none"


def _attention(m: AttentionMixer) -> str:
    heads = f"{m.heads}/{m.kv_heads} heads" if m.kv_heads != m.heads else f"{m.heads} heads"
    window = f", window {m.window}" if m.window is not None else ""
    return f"attention {heads} x {m.head_dim}{window}"


def describe_ffn(ffn: Mlp | Moe | None) -> str:
    """A feed-forward block in a few words."""
    match ffn:
        case Mlp():
            return f"{'gated ' if ffn.gated else ''}{ffn.activation} {ffn.width}"
        case Moe():
            shared = f" + shared {ffn.shared_width}" if ffn.shared_width else ""
            return f"{ffn.experts} experts x {ffn.width}, top {ffn.top_k}{shared}"
        case None:
            return "none"
