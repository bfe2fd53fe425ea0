"""What a model is: its sheet, and the list of all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from perfmodel.models.cache import kv_bytes_per_token, state_bytes
from perfmodel.models.hf import load_model
from perfmodel.models.parameters import parameter_count
from perfmodel.models.shape import LayerGroup, ModelShape
from perfmodel.report.tables import Column, Table
from perfmodel.report.verdicts import Shown, assumed
from perfmodel.units import format_binary, format_si

MODELS = (
    Column(key="name", title="model", right=False),
    Column(key="family", title="family", right=False),
    Column(key="params", title="parameters", text=lambda n: format_si(float(n), "")),
    Column(key="active_params", title="active", text=lambda n: format_si(float(n), "")),
    Column(key="layers", title="layers"),
    Column(key="hidden", title="hidden"),
    Column(key="max_context", title="context"),
    Column(key="kv_bytes_per_token", title="KV per token", text=format_binary),
    Column(key="state_bytes", title="state", text=format_binary),
    Column(key="dtype", title="published in", right=False),
)


def models_table(names: Sequence[str]) -> Table:
    """One row per model."""
    rows = tuple(_row(load_model(name)) for name in names)
    return Table(title=f"{len(rows)} models", columns=MODELS, rows=rows)


def model_sheet(shape: ModelShape) -> dict[str, Any]:
    """JSON-ready: totals, then the layers as they were read."""
    count = parameter_count(shape)
    return _row(shape) | {
        "aliases": list(shape.aliases),
        "vocab": shape.vocab,
        "tied": shape.tied,
        "parameters": asdict(count),
        "layer_groups": [_group(g) for g in shape.layers],
        "assumptions": list(shape.assumptions),
    }


def model_shown(shape: ModelShape) -> Shown:
    """Totals and a row per kind of layer."""
    columns = (
        Column(key="count", title="layers"),
        Column(key="mixer", title="token mixer", right=False),
        Column(key="ffn", title="feed-forward", right=False),
    )
    rows = tuple(
        {"count": g.count, "mixer": _words(g.mixer), "ffn": _words(g.ffn)} for g in shape.layers
    )
    totals = Table(title=shape.name, columns=MODELS, rows=(_row(shape),))
    layers = Table(title="layers", columns=columns, rows=rows)
    return [totals, layers], assumed(shape.assumptions)


def _row(shape: ModelShape) -> dict[str, Any]:
    count = parameter_count(shape)
    return {
        "name": shape.name,
        "family": shape.family,
        "params": int(count.total),
        "active_params": int(count.active),
        "layers": shape.depth,
        "hidden": shape.hidden,
        "max_context": shape.max_context,
        "kv_bytes_per_token": float(kv_bytes_per_token(shape)) if shape.decoder else 0.0,
        "state_bytes": float(state_bytes(shape)) if shape.decoder else 0.0,
        "dtype": shape.dtype,
    }


def _group(group: LayerGroup) -> dict[str, Any]:
    mixer, ffn = group.mixer, group.ffn
    return asdict(group) | {
        "mixer": None if mixer is None else {"kind": type(mixer).__name__} | asdict(mixer),
        "ffn": None if ffn is None else {"kind": type(ffn).__name__} | asdict(ffn),
    }


def _words(block: Any) -> str:
    """A block as ``Kind(field=value, ...)`` with what is set."""
    if block is None:
        return "none"
    fields = ", ".join(f"{k} {v}" for k, v in asdict(block).items() if v not in (None, False, 0))
    return f"{type(block).__name__}: {fields}"
