"""The generated tables of the documents, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dependencies

from perfmodel import catalog
from perfmodel.models.hf import model_names
from perfmodel.report.devices import device_table
from perfmodel.report.kernels import LADDER, Timed, sized, timed_kernels
from perfmodel.report.sheets import models_table
from perfmodel.report.svg import fastest
from perfmodel.report.tables import Column, Table
from perfmodel.validation import validate_files

SHOWN = ("kernel", "measured_s", "predicted_s", "low_s", "high_s", "of_roof")


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
    for mine in fastest(timed):
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
    row |= {"workload": sized(mine.workload), "kernel": mine.kernel.removeprefix("refkernels.")}
    if peer is not None:
        row |= {"peer": peer.kernel, "peer_s": peer.measured_s}
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


TABLES: dict[str, Callable[[], str]] = {
    "devices": devices,
    "models": models,
    "kernels": kernels,
    "parts": dependencies.table,
}
"""What a document's marker may name."""
