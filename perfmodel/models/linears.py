"""The matrices of a layer: the one list that totals, weight bytes and GEMM workloads come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

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
from perfmodel.workload import Array

SplitKind: TypeAlias = Literal["column", "row", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``count`` matrices of ``k`` inputs and ``n`` outputs.

    ``split`` is how tensor parallelism divides one: ``"column"`` its outputs, ``"row"`` its
    inputs (an all-reduce follows), ``"none"`` not at all (each device holds it whole).
    ``units`` are the indivisible pieces of the split side (heads); a device holds at least one,
    so they replicate where the split is wider. ``active`` of the ``count`` run per token.
    ``stage`` names the product that engines run the matrix in: those of one stage read the same
    input and are one GEMM of their summed widths (q, k and v; gate and up). ``expert`` marks
    routed experts, which expert parallelism divides.
    """

    name: str
    k: int
    n: int
    bias: bool = False
    split: SplitKind = "none"
    count: int = 1
    active: float = 1
    units: int | None = None
    stage: str = ""
    expert: bool = False

    @property
    def parameters(self) -> int:
        """Weights and biases of all ``count`` matrices."""
        return self.count * (self.k * self.n + (self.n if self.bias else 0))

    def local(self, tp: Any = 1) -> tuple[Array, Array]:
        """``(k, n)`` of the part that one of ``tp`` devices holds."""
        k, n = np.float64(self.k), np.float64(self.n)
        if self.split == "none":
            return k, n
        ways = np.asarray(tp, dtype=np.float64)[()]
        if self.units is not None:
            ways = self.units / np.maximum(self.units / ways, 1.0)
        return (k, n / ways) if self.split == "column" else (k / ways, n)


def delta_channels(mixer: DeltaMixer) -> int:
    """Channels that pass the short convolution of a delta-rule mixer: q, k and v."""
    return 2 * mixer.key_heads * mixer.key_dim + mixer.value_heads * mixer.value_dim


def layer_linears(shape: ModelShape, group: LayerGroup) -> tuple[Linear, ...]:
    """Every matrix of one layer of ``group``, mixer first."""
    return mixer_linears(shape.hidden, group.mixer) + ffn_linears(shape.hidden, group.ffn)


def mixer_linears(hidden: int, mixer: Mixer | None) -> tuple[Linear, ...]:
    """The projections around a token mixer."""
    match mixer:
        case AttentionMixer():
            return _attention_linears(hidden, mixer)
        case LatentMixer():
            return _latent_linears(hidden, mixer)
        case MambaMixer():
            return _mamba_linears(hidden, mixer)
        case Mamba2Mixer():
            return _mamba2_linears(hidden, mixer)
        case DeltaMixer():
            return _delta_linears(hidden, mixer)
        case None:
            return ()


def _column(name: str, stage: str, k: int, n: int, units: int, bias: bool = False) -> Linear:
    return Linear(name=name, stage=stage, k=k, n=n, bias=bias, split="column", units=units)


def _row(name: str, k: int, n: int, units: int | None, bias: bool = False) -> Linear:
    return Linear(name=name, stage="out", k=k, n=n, bias=bias, split="row", units=units)


def _attention_linears(hidden: int, m: AttentionMixer) -> tuple[Linear, ...]:
    q = m.heads * m.head_dim * (2 if m.gated else 1)
    return (
        _column("q", "qkv", hidden, q, m.heads, m.qkv_bias),
        _column("k", "qkv", hidden, m.kv_heads * m.head_dim, m.kv_heads, m.qkv_bias),
        _column("v", "qkv", hidden, m.kv_heads * m.v_head_dim, m.kv_heads, m.qkv_bias),
        _row("out", m.heads * m.v_head_dim, hidden, m.heads, m.out_bias),
    )


def _latent_linears(hidden: int, m: LatentMixer) -> tuple[Linear, ...]:
    """DeepSeek-V2, appendix C: the latents' down projections are held whole on each device."""
    q = m.heads * (m.nope_dim + m.rope_dim)
    kv = m.kv_rank + m.rope_dim
    down = Linear(name="kv_down", stage="qkv", k=hidden, n=kv, bias=m.qkv_bias)
    up = _column("kv_up", "kv_up", m.kv_rank, m.heads * (m.nope_dim + m.v_head_dim), m.heads)
    out = _row("out", m.heads * m.v_head_dim, hidden, m.heads, m.qkv_bias)
    if m.q_rank is None:
        return (_column("q", "q_up", hidden, q, m.heads), down, up, out)
    narrow = Linear(name="q_down", stage="qkv", k=hidden, n=m.q_rank, bias=m.qkv_bias)
    return (narrow, _column("q_up", "q_up", m.q_rank, q, m.heads), down, up, out)


def _mamba_linears(hidden: int, m: MambaMixer) -> tuple[Linear, ...]:
    selection = m.dt_rank + 2 * m.state
    return (
        _column("in", "in", hidden, 2 * m.inner, m.inner, m.proj_bias),
        Linear(name="x", stage="x", k=m.inner, n=selection, split="row", units=m.inner),
        # dt's bias is the scan's own; it is counted here because it belongs to this matrix
        _column("dt", "dt", m.dt_rank, m.inner, m.inner, bias=True),
        _row("out", m.inner, hidden, m.inner, m.proj_bias),
    )


def _mamba2_linears(hidden: int, m: Mamba2Mixer) -> tuple[Linear, ...]:
    bc = 2 * m.groups * m.state
    return (
        _column("in_zx_dt", "in", hidden, 2 * m.inner + m.heads, m.heads, m.proj_bias),
        _column("in_bc", "in", hidden, bc, m.groups, m.proj_bias),
        _row("out", m.inner, hidden, m.heads, m.proj_bias),
    )


def _delta_linears(hidden: int, m: DeltaMixer) -> tuple[Linear, ...]:
    """Gated DeltaNet: q and k per key head; v, the output gate, beta and decay per value head."""
    keys, values = m.key_heads * m.key_dim, m.value_heads * m.value_dim
    return (
        _column("in_qk", "in", hidden, 2 * keys, m.key_heads),
        _column("in_vz", "in", hidden, 2 * values, m.value_heads),
        _column("in_ba", "in", hidden, 2 * m.value_heads, m.value_heads),
        _row("out", values, hidden, m.value_heads),
    )


def ffn_linears(hidden: int, ffn: Mlp | Moe | None) -> tuple[Linear, ...]:
    """The matrices of a feed-forward block."""
    match ffn:
        case Mlp():
            return _pair("", hidden, ffn.width, gated=ffn.gated, bias=ffn.bias)
        case Moe():
            return _moe_linears(hidden, ffn)
        case None:
            return ()


def _pair(
    prefix: str,
    hidden: int,
    width: int,
    *,
    gated: bool,
    bias: bool = False,
    count: int = 1,
    active: float = 1,
) -> tuple[Linear, ...]:
    """Up (with its gate) and down of one feed-forward, or of ``count`` experts."""
    up = prefix + ("gate_up" if gated else "up")
    expert = prefix == "expert_"
    common: dict[str, Any] = {"bias": bias, "count": count, "active": active, "expert": expert}
    n = width * (2 if gated else 1)
    return (
        Linear(name=up, stage=up, k=hidden, n=n, split="column", units=width, **common),
        Linear(
            name=prefix + "down",
            stage=prefix + "down",
            k=width,
            n=hidden,
            split="row",
            units=width,
            **common,
        ),
    )


def _moe_linears(hidden: int, m: Moe) -> tuple[Linear, ...]:
    router = Linear(name="router", stage="router", k=hidden, n=m.experts, bias=m.router_bias)
    experts = _pair(
        "expert_",
        m.latent or hidden,
        m.width,
        gated=m.gated,
        bias=m.bias,
        count=m.experts,
        active=m.top_k,
    )
    found = (router, *experts)
    if m.latent:
        found += (
            Linear(name="latent_down", stage="latent_down", k=hidden, n=m.latent),
            Linear(name="latent_up", stage="latent_up", k=m.latent, n=hidden),
        )
    if m.shared_width:
        found += _pair("shared_", hidden, m.shared_width, gated=m.gated, bias=m.bias)
    if m.shared_gate:
        found += (Linear(name="shared_router", stage="router", k=hidden, n=1),)
    return found
