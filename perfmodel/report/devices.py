"""Devices as people read them: the list, one device's sheet, measured roofs beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel import catalog
from perfmodel.errors import UnsupportedDtype
from perfmodel.hw.device import Device, Figure
from perfmodel.hw.load import device_names, load_device
from perfmodel.measure import Roof, read_roofs
from perfmodel.report.tables import Column, Table, plain
from perfmodel.units import format_binary, format_si

LIST_DTYPES = ("bf16", "fp16", "fp8", "int8", "fp32")
"""Peaks shown in the list of devices."""

_FMA = {"f32": "fp32", "f64": "fp64", "f16x2": "fp16"}
_SPECIAL = ("ex2", "lg2", "rcp", "rsqrt", "tanh")


def device_table(kind: str | None = None) -> Table:
    """Every device (of ``kind``, if given) with peaks, memory, power and price, one a row."""
    devices = [load_device(name) for name in device_names()]
    rows = tuple(_list_row(d) for d in devices if kind in (None, d.kind))
    words = ("name", "kind", "title")
    peaks = tuple(
        Column(key=f"{d}_flop_per_s", title=d, unit="OP/s" if d == "int8" else "FLOP/s")
        for d in LIST_DTYPES
    )
    return Table(
        title="devices (dense peaks of matrix products)",
        columns=(
            *(Column(key=w, title=w, right=False) for w in words),
            *peaks,
            Column(key="memory_bytes", title="memory", text=format_binary),
            Column(key="bandwidth_bytes_per_s", title="bandwidth", unit="B/s"),
            Column(key="tdp_w", title="power", unit="W"),
            Column(key="usd_per_hour", title="price", unit="USD/h"),
        ),
        rows=rows,
        caption="perfmodel show NAME prints every figure with its source",
    )


def _list_row(device: Device) -> dict[str, Any]:
    main = device.memory.main
    peaks = {f"{d}_flop_per_s": _peak(device, d) for d in LIST_DTYPES}
    return {
        "name": device.name,
        "kind": device.kind,
        "title": device.title,
        **peaks,
        "memory_bytes": main.bytes,
        "bandwidth_bytes_per_s": main.bandwidth_bytes_per_s,
        "tdp_w": device.tdp_w or device.active_w,
        "usd_per_hour": device.prices[0].usd_per_hour if device.prices else None,
    }


def _peak(device: Device, dtype: str) -> float | None:
    try:
        return device.compute.peak("tensor", dtype)
    except UnsupportedDtype:
        return None


def device_sheet(device: Device, *, measured: bool = False) -> list[Table]:
    """The tables of one device: rates with ridge points, every figure, measured roofs if asked."""
    tables = [rate_table(device), figure_table(device)]
    return [*tables, roof_table(device)] if measured else tables


def rate_table(device: Device) -> Table:
    """Peaks with ridge point (peak over memory bandwidth) and energy per operation at full power.

    The energy is board power over peak: a lower bound of what an operation costs.
    """
    return Table(
        title=f"{device.name}: {device.title}",
        columns=(
            Column(key="unit", title="unit", right=False),
            Column(key="dtype", title="dtype", right=False),
            Column(key="acc_dtype", title="accumulate", right=False),
            Column(key="peak_per_s", title="peak", unit="OP/s"),
            Column(key="quoted_per_s", title="quoted", unit="OP/s"),
            Column(key="per_clk", title="per clk and unit"),
            Column(key="ridge_per_byte", title="ridge op/B"),
            Column(key="least_j_per_op", title="least energy", unit="J/op"),
            Column(key="sustained_fraction", title="best GEMM"),
            Column(key="provenance", title="provenance", right=False),
        ),
        rows=tuple(_rate_row(device, *key) for key in device.compute.peaks),
        caption="dense; one multiply-add is two operations; peak = per clk x units x clock",
    )


def _rate_row(device: Device, unit: str, dtype: str, acc: str) -> dict[str, Any]:
    peak = device.compute.peaks[unit, dtype, acc]
    path = f"compute.{unit}.{dtype}.{acc}"
    per_clk, quoted = device.figures.get(f"{path}.per_clk"), device.figures.get(f"{path}.peak")
    bandwidth = device.memory.main.bandwidth_bytes_per_s
    power = device.tdp_w or device.active_w
    sustained = device.compute.sustained.get(dtype) if unit == "tensor" else None
    return {
        "unit": unit,
        "dtype": dtype,
        "acc_dtype": acc,
        "peak_per_s": peak,
        "quoted_per_s": quoted.value if quoted else None,
        "per_clk": _whole(per_clk.value) if per_clk else None,
        "ridge_per_byte": peak / bandwidth if bandwidth else None,
        "least_j_per_op": power / peak if power else None,
        "sustained_fraction": sustained,
        "provenance": "; ".join(provenance(f) for f in (per_clk, quoted) if f),
    }


def _whole(value: float) -> float:
    """A whole number as an int, so that people read all its digits."""
    return int(value) if value.is_integer() else value


def figure_table(device: Device) -> Table:
    """Every figure of the spec with unit, source and condition; unverified ones say why."""
    return _figures(f"{device.name}: every figure", device.figures)


def energy_table(name: str, figures: Mapping[str, Figure]) -> Table:
    """The energies of single operations in a process."""
    return _figures(f"{name}: energy of single operations", figures)


def _figures(title: str, figures: Mapping[str, Figure]) -> Table:
    return Table(
        title=title,
        columns=(
            Column(key="figure", title="figure", right=False),
            Column(key="text", title="value"),
            Column(key="provenance", title="source", right=False),
            Column(key="condition", title="condition", right=False),
        ),
        rows=tuple(
            figure_row(path, figure) | {"provenance": provenance(figure)}
            for path, figure in figures.items()
        ),
    )


def figure_row(path: str, figure: Figure) -> dict[str, Any]:
    """One figure as JSON-ready data."""
    return {
        "figure": path,
        "value": figure.value,
        "unit": figure.unit,
        "text": figure.text,
        "source": figure.source,
        "condition": figure.condition,
        "verified": figure.verified,
        "reason": figure.reason,
    }


def provenance(figure: Figure) -> str:
    """Where a figure comes from, in a few words."""
    if not figure.verified:
        return f"unverified: {figure.reason}"
    return f"{figure.source} ({figure.reason})" if figure.reason else str(figure.source)


def cited_sources(device: Device) -> list[dict[str, Any]]:
    """The bibliography entries that the device's figures cite, in order of first use."""
    known = catalog.sources()
    cited = dict.fromkeys(f.source for f in device.figures.values() if f.source)
    return [{"id": name} | known.get(name, {}) for name in cited]


def roof_table(device: Device) -> Table:
    """Measured roofs beside what the datasheet promises; empty where none were measured."""
    words = ("promised", "reached")
    rows = tuple(row | _in_words(row) for row in roof_rows(device))
    return Table(
        title=f"{device.name}: measured roofs beside the datasheet",
        columns=(
            Column(key="quantity", title="roof", right=False),
            *(
                Column(key=w, title=t)
                for w, t in zip(words, ("datasheet", "measured"), strict=True)
            ),
            Column(key="fraction", title="fraction"),
            Column(key="sm_clock_hz", title="clock", unit="Hz"),
            Column(key="power_w", title="power", unit="W"),
            Column(key="date", title="date", right=False),
            Column(key="conditions", title="condition", right=False),
        ),
        rows=rows,
        caption="measured on a board of this kind; never fed back into an estimate under its name"
        if rows
        else "none measured yet: perfmodel probe measures the machine it runs on",
    )


def _in_words(row: Mapping[str, Any]) -> dict[str, str | None]:
    unit, datasheet = str(row["unit"]), row["datasheet"]
    return {
        "promised": None if datasheet is None else format_si(datasheet, unit),
        "reached": format_si(row["measured"], unit),
        "conditions": ", ".join(f"{k}={plain(v)}" for k, v in row["condition"].items()),
    }


def roof_rows(device: Device) -> list[dict[str, Any]]:
    """Each measured roof with the datasheet's figure, raw SI values."""
    return [_roof_row(device, roof) for roof in device_roofs(device)]


def device_roofs(device: Device) -> list[Roof]:
    """The roofs in ``specs/measured`` that were measured on this device, in file order."""
    files = [catalog.find("measured", name) for name in catalog.names("measured")]
    mine = {catalog.fold(n) for n in (device.name, *device.aliases)}
    return [
        roof
        for file in files
        for roof in _roofs(file, file.stat().st_mtime_ns)
        if catalog.fold(roof.device) in mine
    ]


@lru_cache(maxsize=64)
def _roofs(path: Path, mtime_ns: int) -> tuple[Roof, ...]:
    del mtime_ns  # part of the cache key: an edited file is read again
    return tuple(read_roofs(path))


def _roof_row(device: Device, roof: Roof) -> dict[str, Any]:
    promised = promised_roof(device, roof)
    return {
        "quantity": roof.quantity,
        "datasheet": promised,
        "measured": roof.value,
        "unit": roof.unit,
        "fraction": roof.value / promised if promised else None,
        "sm_clock_hz": roof.sm_clock_hz,
        "power_w": roof.power_w,
        "date": roof.date,
        "condition": dict(roof.condition),
    }


def promised_roof(device: Device, roof: Roof) -> float | None:
    """The datasheet's figure for what ``roof`` measures, None where it promises nothing."""
    head, _, tail = roof.quantity.partition("_")
    if roof.unit == "B/s":
        level = device.memory.level({"l1": "smem"}.get(head, head))
        return level.bandwidth_bytes_per_s if level else None
    if head in _SPECIAL:
        return device.compute.special_per_s or None
    unit, dtype = ("tensor", tail) if head == "tensor" else ("vector", _FMA.get(tail, ""))
    try:
        return device.compute.peak(unit, dtype) if head in ("tensor", "fma") else None
    except UnsupportedDtype:
        return None


def sheet_facts(device: Device, *, measured: bool = False) -> dict[str, Any]:
    """The whole sheet as JSON-ready data: identity, rates, memory, links, figures, sources."""
    facts: dict[str, Any] = {
        "name": device.name,
        "title": device.title,
        "kind": device.kind,
        "vendor": device.vendor,
        "architecture": device.architecture,
        "aliases": list(device.aliases),
        "rates": rate_table(device).records(),
        "memory": _records(device.memory.levels),
        "links": {
            which: _record(link)
            for which, link in (
                ("peer", device.peer_link),
                ("node", device.node_link),
                ("host", device.host_link),
            )
        },
        "prices": _records(device.prices),
        "board": _record(device.board),
        "figures": [figure_row(path, figure) for path, figure in device.figures.items()],
        "sources": cited_sources(device),
        "unverified": list(device.unverified),
    }
    return facts | {"measured": roof_rows(device)} if measured else facts


def _records(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [_record(v) or {} for v in values]


def _record(value: Any) -> dict[str, Any] | None:
    from dataclasses import asdict

    return None if value is None else {k: v for k, v in asdict(value).items() if v is not None}


def sheet_notes(device: Device) -> list[str]:
    """What a reader of the sheet should know: memory, aliases, sources, what nobody verified."""
    levels = [f"{x.name} {_size(x.bytes)}" for x in device.memory.levels]
    notes = [f"memory: {', '.join(levels)}"]
    if device.aliases:
        notes.append(f"also called: {', '.join(device.aliases)}")
    notes += [f"[{s['id']}] {_citation(s)}" for s in cited_sources(device)]
    count = len(device.unverified)
    return [*notes, f"{count} of {len(device.figures)} figures are unverified"]


def _size(size: float | None) -> str:
    return "of unknown size" if size is None else format_binary(size)


def _citation(source: Mapping[str, Any]) -> str:
    parts = [source.get(k) for k in ("title", "publisher", "where", "date")]
    return "; ".join(str(p) for p in parts if p) or "not in sources.toml"
