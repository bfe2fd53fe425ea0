"""Encoders: BERT and RoBERTa over tokens, ViT and DeiT over image patches."""

from __future__ import annotations

from perfmodel.models.families.common import Block, fold
from perfmodel.models.families.gpt import bidirectional, plain
from perfmodel.models.reader import Reader
from perfmodel.models.shape import ModelShape, PatchEmbedding


def bert(c: Reader) -> ModelShape:
    """BERT, RoBERTa, XLM-RoBERTa: the encoder with its pooler, without a task's head."""
    hidden = c.size("hidden_size")
    block = Block(mixer=bidirectional(c, hidden), ffn=plain(c, hidden, "intermediate_size"))
    positions = c.size("max_position_embeddings", default=512)
    if c.text("position_embedding_type", default="absolute") != "absolute":
        c.fail("position_embedding_type", "relative positions are not supported", fix="absolute")
    c.note("the encoder with its pooler is counted, a task's head is not")
    return ModelShape(
        name=c.name,
        family=str(c.config["model_type"]),
        hidden=hidden,
        vocab=c.size("vocab_size"),
        tied=False,
        head_outputs=0,
        norm_kind="layer",
        norm_bias=True,
        final_norm=False,
        embedding_norm=True,
        positions=positions,
        token_types=c.size("type_vocab_size", default=2, least=0),
        pooler=True,
        max_context=positions,
        decoder=False,
        **fold([block] * c.layers("num_hidden_layers")),
    )


def vit(c: Reader) -> ModelShape:
    """ViT, and DeiT as published under the same type: one class token."""
    return vision(c, extra_tokens=1)


def deit(c: Reader) -> ModelShape:
    """Distilled DeiT: a class and a distillation token, a head for each where published so."""
    return vision(c, extra_tokens=2)


def vision(c: Reader, extra_tokens: int) -> ModelShape:
    """A vision transformer with learned positions and a class head or a pooler."""
    hidden = c.size("hidden_size")
    mixer = bidirectional(c, hidden, qkv_bias=c.flag("qkv_bias", default=True))
    block = Block(mixer=mixer, ffn=plain(c, hidden, "intermediate_size"))
    patch = patches(c, extra_tokens)
    c.ignore("encoder_stride", "pooler_output_size", "pooler_act")
    tokens = patch.patches + extra_tokens
    classes = labels(c)
    return ModelShape(
        name=c.name,
        family=str(c.config["model_type"]),
        hidden=hidden,
        vocab=0,
        tied=False,
        head_outputs=classes * (2 if distilled(c) else 1),
        head_bias=classes > 0,
        norm_kind="layer",
        norm_bias=True,
        positions=tokens,
        pooler=classes == 0,
        patch=patch,
        max_context=tokens,
        decoder=False,
        **fold([block] * c.layers("num_hidden_layers")),
    )


def patches(c: Reader, extra_tokens: int) -> PatchEmbedding:
    """The patch grid; raises BadValue where no patch fits the image."""
    image, patch = c.size("image_size", default=224), c.size("patch_size", default=16)
    if patch > image:
        c.fail("patch_size", f"{patch} exceeds image_size = {image}")
    return PatchEmbedding(
        image=image,
        patch=patch,
        channels=c.size("num_channels", default=3),
        extra_tokens=extra_tokens,
    )


def architecture(c: Reader) -> str:
    """The class that the checkpoint was published for ("" where unsaid)."""
    found = c.items("architectures")
    return str(found[0]) if found else ""


def distilled(c: Reader) -> bool:
    """Whether class and distillation token have a head each."""
    return architecture(c).endswith("WithTeacher")


def labels(c: Reader) -> int:
    """Classes of the head (0: published as a bare encoder, which has a pooler instead)."""
    kind = architecture(c)
    named = c.section("id2label")
    if not kind.endswith(("ForImageClassification", "WithTeacher")) and (kind or not named):
        c.note("published without a class head: the encoder with its pooler is counted")
        return 0
    return len(named) if named else c.size("num_labels", default=2)
