"""What people call instead of the mixers: FLA's Triton kernels and mamba-ssm's CUDA scan.

Each peer is a callable on torch tensors drawn here, of the workload's sizes; where its package does
not import, :func:`peers` leaves it out and says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.workload import DeltaRule, LinearAttention, SelectiveScan, Ssd, Workload
from refkernels.int8_gemm.peers import _on_current_stream

Call = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerPeer:
    """Somebody else's kernel; ``build(sets)`` gives the call that runs input set i."""

    kernel: str
    package: str
    build: Callable[[int], Call]


def peers(w: Workload) -> Iterator[MixerPeer]:
    """The peers of one workload whose packages are installed."""
    for peer in _all(w):
        if importlib.util.find_spec(peer.package) is not None:
            yield peer


def _all(w: Workload) -> Iterator[MixerPeer]:
    if isinstance(w, SelectiveScan):
        yield MixerPeer(kernel="mamba_ssm.selective_scan_fn", package="mamba_ssm", build=_mamba(w))
    if isinstance(w, LinearAttention):
        name = {"vector": "chunk_gla", "scalar": "chunk_simple_gla", "none": "chunk_linear_attn"}
        yield MixerPeer(kernel=f"fla.{name[w.gate]}", package="fla", build=_fla(w))
    if isinstance(w, DeltaRule):
        form = "chunk_gated_delta_rule" if w.gated else "chunk_delta_rule"
        yield MixerPeer(kernel=f"fla.{form}", package="fla", build=_delta(w))
    if isinstance(w, Ssd):
        yield MixerPeer(
            kernel="mamba_ssm.mamba_chunk_scan_combined", package="mamba_ssm", build=_ssd(w)
        )
        yield MixerPeer(kernel="fla.chunk_simple_gla", package="fla", build=_ssd_by_fla(w))


def _sizes(*values: Any) -> list[int]:
    return [int(np.asarray(v)) for v in values]


def _normal(*shape: int, wide: bool = False) -> Any:
    import torch

    return torch.randn(shape, device="cuda", dtype=torch.float32 if wide else torch.bfloat16)


def _rotating(run: Callable[..., object], inputs: list[tuple[Any, ...]]) -> Call:
    return lambda i: _on_current_stream(lambda: _discard(run(*inputs[i])))


def _discard(result: object) -> None:
    del result


def _mamba(w: SelectiveScan) -> Callable[[int], Call]:
    b, t, d, n, g = _sizes(w.batch, w.seq_len, w.channels, w.state, w.groups)

    def build(sets: int) -> Call:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        def run(*x: Any) -> object:
            result: object = selective_scan_fn(*x, delta_softplus=True)
            return result

        a, skip, bias = (
            -_normal(d, n, wide=True).exp(),
            _normal(d, wide=True),
            _normal(d, wide=True),
        )
        inputs = [
            (
                _normal(b, d, t),
                _normal(b, d, t),
                a,
                _normal(b, g, n, t),
                _normal(b, g, n, t),
                skip,
                _normal(b, d, t) if w.gated else None,
                bias,
            )
            for _ in range(sets)
        ]
        return _rotating(run, inputs)

    return build


def _fla(w: LinearAttention) -> Callable[[int], Call]:
    b, t, h, dk, dv = _sizes(w.batch, w.seq_len, w.heads, w.key_dim, w.value_dim)

    def build(sets: int) -> Call:
        import torch

        if w.gate == "vector":
            from fla.ops.gla import chunk_gla as run
        elif w.gate == "scalar":
            from fla.ops.simple_gla import chunk_simple_gla as run
        else:
            from fla.ops.linear_attn import chunk_linear_attn

            def run(q: Any, k: Any, v: Any) -> object:
                result: object = chunk_linear_attn(q, k, v, normalize=False)
                return result

        shape = {"vector": (b, t, h, dk), "scalar": (b, t, h)}.get(w.gate)
        inputs = []
        for _ in range(sets):
            x: tuple[Any, ...] = (_normal(b, t, h, dk), _normal(b, t, h, dk), _normal(b, t, h, dv))
            if shape is not None:
                x = (*x, torch.nn.functional.logsigmoid(_normal(*shape)))
            inputs.append(x)
        return _rotating(run, inputs)

    return build


def _delta(w: DeltaRule) -> Callable[[int], Call]:
    """FLA on keys that it need not normalise; it shares keys among value heads as we do."""
    b, t, kh, h = _sizes(w.batch, w.seq_len, w.key_heads, w.value_heads)
    dk, dv = _sizes(w.key_dim, w.value_dim)

    def build(sets: int) -> Call:
        from torch.nn.functional import logsigmoid, normalize

        def run(q: Any, k: Any, v: Any, beta: Any, g: Any) -> object:
            result: object
            if w.gated:
                from fla.ops.gated_delta_rule import chunk_gated_delta_rule

                result = chunk_gated_delta_rule(
                    q=q, k=k, v=v, g=g, beta=beta, output_final_state=True
                )
            else:
                from fla.ops.delta_rule import chunk_delta_rule

                result = chunk_delta_rule(q=q, k=k, v=v, beta=beta, output_final_state=True)
            return result

        inputs = [
            (
                normalize(_normal(b, t, kh, dk), dim=-1),
                normalize(_normal(b, t, kh, dk), dim=-1),
                _normal(b, t, h, dv),
                _normal(b, t, h).sigmoid(),
                logsigmoid(_normal(b, t, h)),
            )
            for _ in range(sets)
        ]
        return _rotating(run, inputs)

    return build


def _ssd(w: Ssd) -> Callable[[int], Call]:
    b, t, h, p, n, g = _sizes(w.batch, w.seq_len, w.heads, w.head_dim, w.state, w.groups)

    def build(sets: int) -> Call:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        a, skip, bias = -_normal(h, wide=True).exp(), _normal(h, wide=True), _normal(h, wide=True)

        def run(*x: Any) -> object:
            result: object = mamba_chunk_scan_combined(
                *x, chunk_size=256, D=skip, dt_bias=bias, dt_softplus=True
            )
            return result

        inputs = [
            (_normal(b, t, h, p), _normal(b, t, h), a, _normal(b, t, g, n), _normal(b, t, g, n))
            for _ in range(sets)
        ]
        return _rotating(run, inputs)

    return build


def _ssd_by_fla(w: Ssd) -> Callable[[int], Call]:
    """The same recurrence as a scalar gate with B and C repeated per head, which FLA needs."""
    b, t, h, p, n, g = _sizes(w.batch, w.seq_len, w.heads, w.head_dim, w.state, w.groups)

    def build(sets: int) -> Call:
        import torch
        from fla.ops.simple_gla import chunk_simple_gla

        inputs = []
        for _ in range(sets):
            c, key = (_normal(b, t, g, n).repeat_interleave(h // g, dim=2) for _ in range(2))
            gate = torch.nn.functional.logsigmoid(_normal(b, t, h))
            inputs.append((c, key, _normal(b, t, h, p), gate))
        return _rotating(chunk_simple_gla, inputs)

    return build
