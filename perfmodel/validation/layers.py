"""Rows that time one operator of a model's layer: the workload comes from the model's shape.

A layer's matrices are cut over ``tp`` devices, norms are not; attention is timed as separate
products and a softmax over full score matrices (Zhang et al., LLMCompass, ISCA 2024, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from perfmodel.errors import PerfModelError
from perfmodel.measure import Measurement
from perfmodel.models.hf import load_model
from perfmodel.models.shape import AttentionMixer, Mlp, ModelShape
from perfmodel.workload import (
    DTYPE_BYTES,
    Collective,
    Elementwise,
    Gemm,
    Norm,
    Workload,
    dtype_name,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """What a row says: a layer of a model on ``tp`` devices, its tokens and its context."""

    shape: ModelShape
    mixer: AttentionMixer
    ffn: Mlp
    tp: int
    batch: int
    q_len: int
    kv_len: int
    dtype: str

    @property
    def tokens(self) -> int:
        """Rows of every matrix product."""
        return self.batch * self.q_len

    @property
    def heads(self) -> int:
        """Query heads of one device."""
        return self.mixer.heads // self.tp

    @property
    def kv_heads(self) -> int:
        """Key and value heads of one device."""
        return max(1, self.mixer.kv_heads // self.tp)

    @property
    def width(self) -> int:
        """Feed-forward columns of one device."""
        return self.ffn.width // self.tp

    def product(self, n: int, k: int) -> Workload:
        """A matrix product of all tokens."""
        return Gemm(m=self.tokens, n=n, k=k, dtype=self.dtype)

    def per_head(self, n: int, k: int) -> Workload:
        """A product of the queries of every head."""
        return Gemm(m=self.q_len, n=n, k=k, batch=self.batch * self.heads, dtype=self.dtype)


def _qkv(r: LayerRow) -> Workload:
    return r.product((r.heads + 2 * r.kv_heads) * r.mixer.head_dim, r.shape.hidden)


def _up(r: LayerRow) -> Workload:
    return r.product(r.width * (2 if r.ffn.gated else 1), r.shape.hidden)


def _softmax(r: LayerRow) -> Workload:
    rows = r.batch * r.heads * r.q_len
    return Norm(rows=rows, cols=r.kv_len, kind="softmax", dtype=r.dtype)


def _norm(r: LayerRow) -> Workload:
    return Norm(rows=r.tokens, cols=r.shape.hidden, kind=r.shape.norm_kind, dtype=r.dtype)


def _gelu(r: LayerRow) -> Workload:
    return Elementwise(
        elements=r.tokens * r.width, flops=8.0, special=1.0, dtype=r.dtype, name="gelu"
    )


def _all_reduce(r: LayerRow) -> Workload:
    size = r.tokens * r.shape.hidden * DTYPE_BYTES[r.dtype]
    return Collective(bytes=int(size), ranks=r.tp)


OPERATORS: dict[str, Callable[[LayerRow], Workload]] = {
    "Q_K_V": _qkv,
    "Q_mul_K": lambda r: r.per_head(r.kv_len, r.mixer.head_dim),
    "A_mul_V": lambda r: r.per_head(r.mixer.head_dim, r.kv_len),
    "Wo_proj": lambda r: r.product(r.shape.hidden, r.heads * r.mixer.head_dim),
    "W1_proj": _up,
    "W2_proj": lambda r: r.product(r.shape.hidden, r.width),
    "Softmax": _softmax,
    "LayerNorm_MHA": _norm,
    "LayerNorm_FFN": _norm,
    "GeLU": _gelu,
    "AllReduce_MHA": _all_reduce,
    "AllReduce_FFN": _all_reduce,
}
"""Operators of a layer as tables name them."""


def with_workloads(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The same rows, those of a layer's operators with what they timed or why they cannot tell."""
    return [_with_workload(m) if m.scenario in OPERATORS else m for m in measurements]


def _with_workload(m: Measurement) -> Measurement:
    if m.workload is not None or m.refusal:
        return m
    try:
        row = _layer_row(m)
        work = OPERATORS[m.scenario](row)
        if isinstance(work, Norm | Elementwise) and m.source.startswith("llmcompass"):
            m = replace(m, framework="torch", kernel="llmcompass")
        return replace(m, workload=work)
    except (PerfModelError, ValueError) as error:
        return replace(m, refusal=f"{m.scenario}: {error}")


def _layer_row(m: Measurement) -> LayerRow:
    shape = load_model(m.model or "")
    group = shape.layers[0]
    if not isinstance(group.mixer, AttentionMixer) or not isinstance(group.ffn, Mlp):
        msg = f"{shape.name} has no dense attention layer"
        raise ValueError(msg)
    numbers = {c: int(float(m.question.get(c) or 1)) for c in ("tp", "batch", "q_len", "kv_len")}
    return LayerRow(
        shape=shape,
        mixer=group.mixer,
        ffn=group.ffn,
        dtype=dtype_name(m.dtype or "fp16", "dtype"),
        **numbers,
    )
