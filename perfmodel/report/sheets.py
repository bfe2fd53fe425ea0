"""What a model is, and a device: their sheets, and the list of all models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfmodel.hw.device import Device
from perfmodel.models.describe import model_sheet
from perfmodel.models.hf import load_model
from perfmodel.models.shape import ModelShape
from perfmodel.report.devices import device_sheet, sheet_notes
from perfmodel.report.shown import Shown, assumed, parameters
from perfmodel.report.tables import Column, Table
from perfmodel.units import format_binary

MODELS = (
    Column(key="name", title="model", right=False),
    Column(key="family", title="family", right=False),
    Column(key="params", title="parameters", text=parameters),
    Column(key="active_params", title="active", text=parameters),
    Column(key="layers", title="layers"),
    Column(key="hidden", title="hidden"),
    Column(key="max_context", title="max context"),
    Column(key="kv_bytes_per_token", title="KV per token", text=format_binary),
    Column(key="state_bytes_per_sequence", title="state", text=format_binary),
    Column(key="dtype", title="published in", right=False),
)

LAYERS = (
    Column(key="count", title="layers"),
    Column(key="mixer", title="token mixer", right=False),
    Column(key="ffn", title="feed-forward", right=False),
    Column(key="params", title="parameters each", text=parameters),
    Column(key="active", title="active each", text=parameters),
)


def models_table(names: Sequence[str]) -> Table:
    """One row per model."""
    rows = tuple(_row(model_sheet(load_model(name))) for name in names)
    return Table(title=f"{len(rows)} models", columns=MODELS, rows=rows)


def model_shown(shape: ModelShape) -> Shown:
    """Totals, and a row per kind of layer."""
    sheet = model_sheet(shape)
    totals = Table(title="totals", columns=MODELS, rows=(_row(sheet),))
    layers = Table(title="layers", columns=LAYERS, rows=tuple(sheet["layers"]))
    known = (f"also known as {', '.join(shape.aliases)}",) if shape.aliases else ()
    return Shown(
        lead=(f"{shape.name}: {sheet['params']['total']:,} parameters",),
        tables=(totals, layers),
        notes=(*known, *assumed(shape.assumptions)),
    )


def device_shown(device: Device) -> Shown:
    """Rates with ridge points, and every figure with its source."""
    return Shown(
        lead=(f"{device.name}: {device.title}",),
        tables=tuple(device_sheet(device)),
        notes=tuple(sheet_notes(device)),
    )


def _row(sheet: dict[str, Any]) -> dict[str, Any]:
    params = sheet["params"]
    totals = {"params": params["total"], "active_params": params["active"]}
    return sheet | totals | {"layers": sheet["depth"]}
