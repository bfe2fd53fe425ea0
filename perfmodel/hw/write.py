"""A device back into the TOML of its spec: the start of a spec of your own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perfmodel.files import toml_key, toml_value
from perfmodel.hw.device import Device, Figure


def to_toml(device: Device) -> str:
    """The spec file of ``device``, every figure with its own provenance.

    Reading it again gives an equal device (aliases apart, which live in ``aliases.toml``).
    """
    lines = [f"{key} = {toml_value(value)}" for key, value in _heading(device).items()]
    for table, rows in _tables(device):
        lines += ["", f"[{table}]", *(f"{key} = {value}" for key, value in rows.items())]
    return "\n".join(lines) + "\n"


def _heading(device: Device) -> dict[str, str]:
    return {
        "title": device.title,
        "kind": device.kind,
        "vendor": device.vendor,
        "architecture": device.architecture,
    }


def _tables(device: Device) -> Iterator[tuple[str, dict[str, str]]]:
    """Every table with its rows, in the order of the figures."""
    tree: dict[str, dict[str, str]] = {}
    for path, figure in device.figures.items():
        parent, _, leaf = path.rpartition(".")
        tree.setdefault(parent, {})[leaf] = _figure(figure)
    top = tree.pop("", {})
    if "os_reserve" in top:  # a top-level figure; TOML wants it before any table
        yield "os_reserve", _fields(device.figures["os_reserve"])
    prices = [f"price.{i}" for i in range(len(device.prices))]
    words = _words(device)
    for table in words:
        tree.setdefault(table, {})
    for table, rows in tree.items():
        if table not in prices:
            yield _header(table), words.get(table, {}) | rows
    for table, price in zip(prices, device.prices, strict=True):
        names = {"provider": price.provider, "date": price.date, "kind": price.kind}
        yield "[price]", tree[table] | {k: toml_value(v) for k, v in names.items()}


def _words(device: Device) -> dict[str, dict[str, str]]:
    """The rows that are words, not figures, by table."""
    words = {
        f"{which}_link": {"name": toml_value(link.name)}
        for which, link in (
            ("peer", device.peer_link),
            ("node", device.node_link),
            ("host", device.host_link),
        )
        if link is not None
    }
    if device.board is not None:
        words["board"] = {"core": toml_value(device.board.core)}
    for key, peak in device.compute.peaks.items():
        table = "compute." + ".".join(key)
        rows = _rate_words(device.figures, table, peak)
        if rows:
            words[table] = rows
    return words


def _rate_words(figures: Mapping[str, Figure], table: str, peak: float) -> dict[str, str]:
    quoted = figures.get(f"{table}.peak")
    if quoted is None or f"{table}.per_clk" not in figures:
        return {}
    return {"use": toml_value("quoted" if peak == quoted.value else "derived")}


def _header(table: str) -> str:
    return ".".join(toml_key(part) for part in table.split("."))


def _figure(figure: Figure) -> str:
    return "{ " + ", ".join(f"{k} = {v}" for k, v in _fields(figure).items()) + " }"


def _fields(figure: Figure) -> dict[str, str]:
    fields: dict[str, Any] = {"value": figure.text}
    if figure.source is not None:
        fields["source"] = figure.source
    if figure.condition is not None:
        fields["condition"] = figure.condition
    if not figure.verified:
        fields["verified"] = False
    if figure.reason is not None:
        fields["reason"] = figure.reason
    return {key: toml_value(value) for key, value in fields.items()}
