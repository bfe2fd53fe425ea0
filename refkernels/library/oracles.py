"""What every case must give, in float64 from the same inputs, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.workload import (
    Attention,
    DeltaRule,
    Elementwise,
    Gemm,
    LinearAttention,
    Norm,
    Ssd,
)
from refkernels._check import Gate, judge
from refkernels.library import calls
from refkernels.library.cases import Case
from refkernels.library.pools import Pools


def gate(case: Case, pools: Pools) -> Gate:
    """Run ``case`` into poisoned outputs and hold the result to the oracle."""
    call = calls.build(case, pools, 1)
    first = call(0)
    first.fill_(float("nan") if first.is_floating_point() else 0x5A5A)
    result = call(0)
    mixer = isinstance(case.workload, LinearAttention | DeltaRule | Ssd)
    name = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    dtype = name.get(str(result.dtype).removeprefix("torch."), "int32")
    wide = result.double() if result.is_floating_point() else result
    return judge(
        "library_mixer" if mixer else "library",
        dtype,
        wide.cpu().numpy().reshape(-1),
        expected(case, pools).cpu().numpy().reshape(-1),
    )


def expected(case: Case, pools: Pools) -> Any:
    """The oracle's result, flat order as the kernel's."""
    work = case.workload
    match work:
        case Gemm():
            shapes = [(int(work.m), int(work.k)), (int(work.n), int(work.k))]
            a, b = _doubles(pools, work.dtype, shapes)
            whole = a @ b.t()
            return whole.to(pools.torch.int32) if work.dtype == "int8" else whole
        case Attention():
            return _attention(work, pools)
        case Norm():
            return _norm(work, pools)
        case Elementwise():
            return _elementwise(work, pools)
        case LinearAttention():
            return _linear(work, pools)
        case DeltaRule():
            return _delta(work, pools)
        case Ssd():
            return _ssd(work, pools)
    return np.empty(0)


def _doubles(pools: Pools, dtype: str, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    return [v.to(pools.torch.float32).double() for v in pools.windows(dtype, shapes, 1)[0]]


def _attention(w: Attention, pools: Pools) -> Any:
    torch = pools.torch
    assert w.kv_heads is not None
    batch, heads, kv, dim = (int(x) for x in (w.batch, w.heads, w.kv_heads, w.head_dim))
    queries, keys = int(w.q_len), int(w.kv_len)
    shapes = [(batch, heads, queries, dim), *[(batch, kv, keys, dim)] * 2]
    q, k, v = _doubles(pools, w.dtype, shapes)
    k, v = (x.repeat_interleave(heads // kv, dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) / dim**0.5
    seen = torch.arange(keys, device="cuda") <= torch.arange(
        keys - queries, keys, device="cuda"
    ).unsqueeze(1)
    return torch.softmax(scores.masked_fill(~seen, float("-inf")), -1) @ v


def _norm(w: Norm, pools: Pools) -> Any:
    functional, cols = pools.torch.nn.functional, int(w.cols)
    x, scale, shift = _doubles(pools, w.dtype, [(int(w.rows), cols), (cols,), (cols,)])
    if w.kind == "softmax":
        return functional.softmax(x, -1)
    if w.kind == "layer":
        return functional.layer_norm(x, (cols,), scale, shift)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * scale


def _elementwise(w: Elementwise, pools: Pools) -> Any:
    torch, n = pools.torch, int(w.elements)
    cols = int(w.cols or 1)
    if w.name == "rope":
        shapes = [(n // cols, cols // calls.ROTATED, calls.ROTATED)]
        shapes += [(n // cols, 1, calls.ROTATED)] * 2
        return calls.rotate(*_doubles(pools, w.dtype, shapes))
    if w.name == "silu_mul":
        return calls.gate(*_doubles(pools, w.dtype, [(n // cols, cols)] * 2))
    given = _doubles(pools, w.dtype, [(n,)] * int(float(w.reads)))
    plain = {"copy": lambda x: x, "add": torch.add, "mul": torch.mul, "sum": torch.sum}
    return (plain.get(w.name) or getattr(torch.nn.functional, w.name))(*given)


def _linear(w: LinearAttention, pools: Pools) -> Any:
    """``S = exp(g) S + k v^T``, ``o = S^T q / sqrt(d)`` (Yang et al., arXiv:2312.06635)."""
    torch = pools.torch
    batch, tokens, heads, keys = (int(x) for x in (w.batch, w.seq_len, w.heads, w.key_dim))
    values = int(w.value_dim)
    shapes = [(batch, tokens, heads, keys)] * 2 + [(batch, tokens, heads, values)]
    q, k, v = _doubles(pools, w.dtype, shapes)
    vector = w.gate == "vector"
    gates = (batch, tokens, heads, keys) if vector else (batch, tokens, heads)
    (raw,) = _doubles(pools, "fp32", [gates])
    decay = torch.nn.functional.logsigmoid(raw + 3.0)
    decay = decay.bfloat16().double() if vector else decay.unsqueeze(-1)
    state = torch.zeros(batch, heads, keys, values, dtype=torch.float64, device="cuda")
    out = []
    for t in range(tokens):
        state = state * decay[:, t].exp().unsqueeze(-1) + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(
            -2
        )
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t] * keys**-0.5, state))
    return torch.stack(out, 1)


def _delta(w: DeltaRule, pools: Pools) -> Any:
    """``S = exp(g) S; S += b k (v - S^T k)^T`` (Yang et al., arXiv:2412.06464, equation 10)."""
    torch = pools.torch
    batch, tokens, heads, keys = (int(x) for x in (w.batch, w.seq_len, w.key_heads, w.key_dim))
    values = int(w.value_dim)
    shapes = [(batch, tokens, heads, keys)] * 2 + [(batch, tokens, heads, values)]
    raw = pools.windows(w.dtype, shapes, 1)[0]
    unit = torch.nn.functional.normalize
    q, k, v = unit(raw[0], dim=-1).double(), unit(raw[1], dim=-1).double(), raw[2].double()
    beta = torch.sigmoid(raw[2][..., 0]).double()
    (gates,) = _doubles(pools, "fp32", [(batch, tokens, heads)])
    decay = torch.nn.functional.logsigmoid(gates + 3.0).exp()
    start = [(batch, heads, keys, values)]
    state = _doubles(pools, "fp32", start)[0] * float(tokens == 1)
    out = []
    for t in range(tokens):
        state = state * decay[:, t, :, None, None]
        error = v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], state)
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], beta[:, t].unsqueeze(-1) * error)
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t] * keys**-0.5, state))
    return torch.stack(out, 1)


def _ssd(w: Ssd, pools: Pools) -> Any:
    """``h = exp(dt A) h + dt B x``, ``y = C h`` (Dao and Gu, arXiv:2405.21060, section 3)."""
    torch = pools.torch
    batch, tokens, heads, width = (int(x) for x in (w.batch, w.seq_len, w.heads, w.head_dim))
    shapes = [(batch, tokens, heads, width)] + [(batch, tokens, int(w.groups), int(w.state))] * 2
    x, b, c = _doubles(pools, w.dtype, shapes)
    (raw,) = _doubles(pools, "fp32", [(batch, tokens, heads)])
    dt = torch.nn.functional.softplus(raw - 3.0).bfloat16().double()
    rate = -torch.linspace(1.0, 2.0, heads, device="cuda").double()
    per = heads // int(w.groups)
    b, c = b.repeat_interleave(per, dim=2), c.repeat_interleave(per, dim=2)
    state = torch.zeros(batch, heads, width, int(w.state), dtype=torch.float64, device="cuda")
    out = []
    for t in range(tokens):
        keep = (dt[:, t] * rate).exp()[..., None, None]
        fed = torch.einsum("bhp,bhn->bhpn", x[:, t] * dt[:, t].unsqueeze(-1), b[:, t])
        state = state * keep + fed
        out.append(torch.einsum("bhpn,bhn->bhp", state, c[:, t]))
    return torch.stack(out, 1)
