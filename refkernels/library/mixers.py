"""Chunked and recurrent mixers of flash-linear-attention and mamba-ssm, where they import."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

from perfmodel.errors import MissingExtra
from perfmodel.workload import DeltaRule, LinearAttention, Ssd
from refkernels.library.pools import Pools

Mixer = LinearAttention | DeltaRule | Ssd


def build(w: Mixer, kernel: str, pools: Pools, sets: int) -> Callable[[int], Any]:
    """The call on input set i; raises MissingExtra where the library does not import."""
    match w:
        case LinearAttention():
            return _linear(w, kernel, pools, sets)
        case DeltaRule():
            return _delta(w, kernel, pools, sets)
        case Ssd():
            return _ssd(w, pools, sets)


def _imported(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, RuntimeError) as error:
        msg = f"{module}.{name} does not import: {error}"
        raise MissingExtra(msg) from None


def _decays(pools: Pools, shape: tuple[int, ...], sets: int) -> list[Any]:
    """Log gates just below zero, as trained models have them."""
    given = pools.windows("fp32", [shape], sets)
    return [pools.torch.nn.functional.logsigmoid(g[0] + 3.0) for g in given]


def _linear(w: LinearAttention, kernel: str, pools: Pools, sets: int) -> Callable[[int], Any]:
    name = kernel.split("/")[1]
    run = _imported("fla.ops.gla" if name == "chunk_gla" else "fla.ops.simple_gla", name)
    batch, tokens, heads = int(w.batch), int(w.seq_len), int(w.heads)
    keys, values = int(w.key_dim), int(w.value_dim)
    shapes = [(batch, tokens, heads, keys)] * 2 + [(batch, tokens, heads, values)]
    given = pools.windows(w.dtype, shapes, sets)
    gates = (batch, tokens, heads, keys) if w.gate == "vector" else (batch, tokens, heads)
    decay = _decays(pools, gates, sets)
    if w.gate == "vector":
        decay = [d.to(given[0][0].dtype) for d in decay]
    return lambda i: run(*given[i], g=decay[i])[0]


def _delta(w: DeltaRule, kernel: str, pools: Pools, sets: int) -> Callable[[int], Any]:
    torch = pools.torch
    run = _imported("fla.ops.gated_delta_rule", kernel.split("/")[1])
    batch, tokens, heads = int(w.batch), int(w.seq_len), int(w.key_heads)
    keys, values = int(w.key_dim), int(w.value_dim)
    shapes = [(batch, tokens, heads, keys)] * 2 + [(batch, tokens, heads, values)]
    raw = pools.windows(w.dtype, shapes, sets)
    unit = torch.nn.functional.normalize
    given = [[unit(q, dim=-1), unit(k, dim=-1), v] for q, k, v in raw]
    decay = _decays(pools, (batch, tokens, heads), sets)
    beta = [torch.sigmoid(v[..., 0]).contiguous() for _, _, v in raw]
    if tokens > 1:
        return lambda i: run(*given[i], g=decay[i], beta=beta[i])[0]
    state = pools.windows("fp32", [(batch, heads, keys, values)], sets)
    return lambda i: run(
        *given[i], g=decay[i], beta=beta[i], initial_state=state[i][0], output_final_state=True
    )[0]


def _ssd(w: Ssd, pools: Pools, sets: int) -> Callable[[int], Any]:
    torch = pools.torch
    _without_extensions("mamba_ssm")
    run = _imported("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
    batch, tokens, heads = int(w.batch), int(w.seq_len), int(w.heads)
    shapes = [(batch, tokens, heads, int(w.head_dim))]
    shapes += [(batch, tokens, int(w.groups), int(w.state))] * 2
    given = pools.windows(w.dtype, shapes, sets)
    raw = pools.windows("fp32", [(batch, tokens, heads)], sets)
    dt = [torch.nn.functional.softplus(d[0] - 3.0).to(given[0][0].dtype) for d in raw]
    rate = -torch.linspace(1.0, 2.0, heads, device="cuda")
    return lambda i: run(given[i][0], dt[i], rate, given[i][1], given[i][2], int(w.chunk))


def _without_extensions(package: str) -> None:
    """Let a package's Triton modules import without its compiled extensions.

    Its ``__init__`` imports those; an empty stand-in with the same path does not.
    """
    if package in sys.modules:
        return
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        msg = f"{package} is not installed"
        raise MissingExtra(msg)
    stand_in = types.ModuleType(package)
    stand_in.__path__ = list(found.submodule_search_locations)
    sys.modules[package] = stand_in
