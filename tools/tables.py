"""The generated tables of the documents, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dependencies

from perfmodel import catalog
from perfmodel.models.hf import model_names
from perfmodel.report.devices import device_table
from perfmodel.report.kernels import LADDER, Timed, timed_kernels
from perfmodel.report.sheets import models_table
from perfmodel.report.svg import fastest, of_ours
from perfmodel.report.tables import Column, Table
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.validation import validate_files

SHOWN = ("name", "measured_s", "predicted_s", "low_s", "high_s", "of_roof")


def measured_kernels() -> tuple[Timed, ...]:
    """Every timed kernel of the committed measurements, with its prediction."""
    paths = [catalog.find("measured", name) for name in catalog.names("measured")]
    return timed_kernels(s for report in validate_files(paths) for s in report.scored)


def devices() -> str:
    """Every device with its peaks."""
    return device_table().to_markdown()


def models() -> str:
    """Every shipped model."""
    return models_table(model_names()).to_markdown()


def kernels() -> str:
    """One table for each operator: the fastest of ours at each size, beside the fastest peer."""
    timed = measured_kernels()
    peers = fastest_peers(timed)
    groups: dict[str, list[dict[str, Any]]] = {}
    for mine in fastest(of_ours(timed)):
        groups.setdefault(mine.workload.op, []).append(kernel_row(mine, peers))
    parts = (
        f"## {op}\n\n{kernel_table(rows).to_markdown()}" for op, rows in sorted(groups.items())
    )
    return "\n".join(parts).rstrip("\n") + "\n"


def fastest_peers(timed: Iterable[Timed]) -> dict[tuple[object, ...], Timed]:
    """Somebody else's fastest kernel for each device and workload."""
    best: dict[tuple[object, ...], Timed] = {}
    for row in timed:
        key = (row.device, *row.workload.key())
        if not row.ours and (key not in best or row.measured_s < best[key].measured_s):
            best[key] = row
    return best


def kernel_row(mine: Timed, peers: Mapping[tuple[object, ...], Timed]) -> dict[str, Any]:
    """One of our kernels and, where there is one, its peer and by how much ours is faster."""
    peer = peers.get((mine.device, *mine.workload.key()))
    row = {name: getattr(mine, name) for name in SHOWN}
    row["workload"] = f"{mine.sizes} {mine.types}"
    if peer is not None:
        row |= {"peer": peer.name, "peer_s": peer.measured_s}
        row["gain"] = peer.measured_s / mine.measured_s
    return row


def kernel_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Rows of :func:`kernel_row` as a table."""
    own = tuple(c for c in LADDER if c.key in SHOWN)
    columns = (
        Column(key="workload", title="size", right=False),
        *own,
        Column(key="peer", title="fastest peer", right=False),
        Column(key="peer_s", title="its time", unit="s"),
        Column(key="gain", title="x peer"),
    )
    return Table(title="kernels", columns=columns, rows=tuple(rows))


LEAST_ROWS = 100
"""Rows behind a class that the README's table names; docs/accuracy.md names every class."""


def accuracy() -> str:
    """One line for each class of many rows: how far it is off on rows that its fit had not seen."""
    lines = ["| class | rows | measured on | unseen shapes | unseen device | 90 % interval |"]
    lines += ["|---|---:|---|---:|---:|---|"]
    for name in CLASS_MODELS:
        if name not in catalog.names("calibration"):
            continue
        table = catalog.read_toml(catalog.find("calibration", name))
        if table["fit"]["rows"] >= LEAST_ROWS:
            lines.append(accuracy_row(name, table))
    return "\n".join(lines) + "\n"


def accuracy_row(name: str, table: Mapping[str, Any]) -> str:
    """Factors exp(mean |ln(predicted / measured)|), and the interval around an estimate."""
    devices = sorted({device.split("-")[0].upper() for device in table["fit"]["devices"]})
    held = table.get("held_back", {})
    unseen = (f"{held[s]['factor']:.2f}" if s in held else "" for s in ("shape", "device"))
    low, high = (float(table["residuals"][end]) for end in ("low", "high"))
    cells = (
        name,
        str(table["fit"]["rows"]),
        ", ".join(devices),
        *unseen,
        f"{low:.2f} .. {high:.2f}",
    )
    return "| " + " | ".join(cells) + " |"


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": accuracy,
    "devices": devices,
    "models": models,
    "kernels": kernels,
    "parts": dependencies.table,
}
"""What a document's marker may name."""
