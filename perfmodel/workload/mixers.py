"""Token mixers: attention, linear attention, delta rule, selective scan, SSD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.workload.base import Size, Workload, check_divides, shown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attention(Workload):
    """Scaled-dot-product attention of ``q_len`` new queries against ``kv_len`` keys and values.

    ``kv_len`` counts the whole context, the ``q_len`` new tokens included; the causal mask is
    aligned bottom-right, so query i sees ``kv_len - q_len + i + 1`` keys. ``window`` keeps the
    last so many of them. ``kv_heads`` < ``heads`` is grouped-query attention. ``shared_kv`` is
    multi-head latent attention in its absorbed form: keys and values are one latent of width
    ``head_dim`` of which the first ``v_head_dim`` are the values, read once. ``page_size`` is
    tokens per KV page (None: contiguous).
    """

    op: ClassVar[str] = "attention"
    SIZES: ClassVar[dict[str, int]] = {
        "batch": 1,
        "q_len": 1,
        "kv_len": 1,
        "heads": 1,
        "kv_heads": 1,
        "head_dim": 1,
        "v_head_dim": 1,
        "window": 1,
        "page_size": 1,
    }
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype", "kv_dtype", "out_dtype")
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"score": ("softmax", "sigmoid")}
    FLAGS: ClassVar[tuple[str, ...]] = ("causal", "shared_kv")

    batch: Size
    q_len: Size
    kv_len: Size
    heads: Size
    head_dim: Size
    kv_heads: Size | None = None
    v_head_dim: Size | None = None
    causal: bool = True
    window: Size | None = None
    score: Literal["softmax", "sigmoid"] = "softmax"
    dtype: str = "bf16"
    kv_dtype: str | None = None
    out_dtype: str | None = None
    page_size: int | None = None
    shared_kv: bool = False

    def _complete(self) -> None:
        for name, default in (
            ("kv_heads", self.heads),
            ("v_head_dim", self.head_dim),
            ("kv_dtype", self.dtype),
            ("out_dtype", self.dtype),
        ):
            if getattr(self, name) is None:
                self._set(name, default)
        assert self.kv_heads is not None
        check_divides(self.kv_heads, self.heads, "kv_heads", "heads")
        if self.causal and bool(np.any(np.asarray(self.q_len) > np.asarray(self.kv_len))):
            msg = f"must not exceed kv_len when causal, got {shown(self.q_len)}"
            raise BadValue(msg, field="q_len", fix="kv_len counts the new tokens too")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearAttention(Workload):
    """Gated linear attention: ``S_t = g_t * S_{t-1} + k_t v_t^T``, ``o_t = S_t^T q_t``.

    ``gate``: ``"vector"`` decays each key dimension (GLA), ``"scalar"`` each head (retention,
    simple GLA), ``"none"`` nothing. ``seq_len`` 1 is a recurrent decode step. ``chunk`` is the
    chunk length of the parallel form. ``state_dtype`` is how the state rests in memory.
    """

    op: ClassVar[str] = "linear_attention"
    SIZES: ClassVar[dict[str, int]] = {
        "batch": 1,
        "seq_len": 1,
        "heads": 1,
        "key_dim": 1,
        "value_dim": 1,
        "chunk": 1,
    }
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype", "gate_dtype", "state_dtype")
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"gate": ("vector", "scalar", "none")}

    batch: Size
    seq_len: Size
    heads: Size
    key_dim: Size
    value_dim: Size
    gate: Literal["vector", "scalar", "none"] = "vector"
    chunk: Size = 64
    dtype: str = "bf16"
    gate_dtype: str | None = None
    state_dtype: str = "fp32"

    def _complete(self) -> None:
        if self.gate_dtype is None:
            self._set("gate_dtype", self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeltaRule(Workload):
    """(Gated) delta rule: ``S_t = g_t S_{t-1} (I - b_t k_t k_t^T) + b_t v_t k_t^T``.

    ``value_heads`` may be a multiple of ``key_heads`` (grouped keys). ``seq_len`` 1 is decode.
    """

    op: ClassVar[str] = "delta_rule"
    SIZES: ClassVar[dict[str, int]] = {
        "batch": 1,
        "seq_len": 1,
        "key_heads": 1,
        "value_heads": 1,
        "key_dim": 1,
        "value_dim": 1,
        "chunk": 1,
    }
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype", "state_dtype")

    batch: Size
    seq_len: Size
    key_heads: Size
    key_dim: Size
    value_dim: Size
    value_heads: Size | None = None
    gated: bool = True
    chunk: Size = 64
    dtype: str = "bf16"
    state_dtype: str = "fp32"

    def _complete(self) -> None:
        if self.value_heads is None:
            self._set("value_heads", self.key_heads)
        assert self.value_heads is not None
        check_divides(self.key_heads, self.value_heads, "key_heads", "value_heads")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectiveScan(Workload):
    """Mamba-1 scan: per channel, ``h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t``, N states.

    ``gated`` multiplies the output by SiLU(z); ``groups`` of channels share B and C.
    ``seq_len`` 1 is a decode step.
    """

    op: ClassVar[str] = "selective_scan"
    SIZES: ClassVar[dict[str, int]] = {
        "batch": 1,
        "seq_len": 1,
        "channels": 1,
        "state": 1,
        "groups": 1,
    }
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype", "state_dtype")

    batch: Size
    seq_len: Size
    channels: Size
    state: Size = 16
    groups: Size = 1
    gated: bool = True
    dtype: str = "bf16"
    state_dtype: str = "fp32"

    def _complete(self) -> None:
        check_divides(self.groups, self.channels, "groups", "channels")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ssd(Workload):
    """Mamba-2 state-space duality: scalar decay per head, state ``[head_dim, state]``.

    ``groups`` of heads share B and C. ``seq_len`` 1 is a decode step.
    """

    op: ClassVar[str] = "ssd"
    SIZES: ClassVar[dict[str, int]] = {
        "batch": 1,
        "seq_len": 1,
        "heads": 1,
        "head_dim": 1,
        "state": 1,
        "groups": 1,
        "chunk": 1,
    }
    DTYPES: ClassVar[tuple[str, ...]] = ("dtype", "state_dtype")

    batch: Size
    seq_len: Size
    heads: Size
    head_dim: Size = 64
    state: Size = 128
    groups: Size = 1
    chunk: Size = 256
    dtype: str = "bf16"
    state_dtype: str = "fp32"

    def _complete(self) -> None:
        check_divides(self.groups, self.heads, "groups", "heads")
