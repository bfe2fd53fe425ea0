"""Device files -> :class:`~perfmodel.hw.device.Device`; tables of energies -> figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from perfmodel import catalog
from perfmodel.errors import MalformedFile
from perfmodel.hw.board import Board
from perfmodel.hw.compute import Compute
from perfmodel.hw.device import Device, Figure
from perfmodel.hw.link import Link, Price
from perfmodel.hw.memory import Memory, MemoryLevel

if TYPE_CHECKING:  # pydantic is imported when the first file is read, not before
    from pydantic import BaseModel

    from perfmodel.hw.spec import BoardSpec, ComputeSpec, DeviceSpec, LevelSpec, LinkSpec


def load_device(name: str | Path) -> Device:
    """The device called ``name``: a shipped name, an alias, a name from ``--specs``, or a path.

    Raises:
        UnknownName: no such device; offers the nearest names.
        MissingFile: a path that does not exist.
        MalformedFile: the file says something that a device file cannot; names file and field.
    """
    path = catalog.find("hw", name)
    stat = path.stat()
    return _cached(path, stat.st_mtime_ns, stat.st_size, catalog.aliases_of("hw", path.stem))


def device_names() -> tuple[str, ...]:
    """Every device that :func:`load_device` finds by name."""
    return catalog.names("hw")


@lru_cache(maxsize=256)
def _cached(path: Path, mtime_ns: int, size: int, aliases: tuple[str, ...]) -> Device:
    del mtime_ns, size  # part of the cache key: an edited file is read again
    return read_device(path, aliases)


def read_device(path: Path, aliases: tuple[str, ...] = ()) -> Device:
    """The device that the file at ``path`` describes; raises as :func:`load_device`."""
    return device_from(catalog.read_toml(path), path, aliases)


def device_from(table: Mapping[str, Any], path: Path, aliases: tuple[str, ...] = ()) -> Device:
    """The device that ``table`` describes, called after ``path``; raises MalformedFile."""
    from pydantic import ValidationError

    from perfmodel.hw.figures import first_error
    from perfmodel.hw.spec import DeviceSpec

    try:
        spec = DeviceSpec.model_validate(table)
        figures = _sourced(dict(_figures(spec)), spec.source)
    except ValidationError as error:
        field, message = first_error(error)
        _refuse(path, field, message)
    except _NoSource as error:
        _refuse(path, error.field, "has neither a source nor verified = false with a reason")
    return _build(spec, path.stem, aliases, figures)


def load_energies(name: str | Path = "45nm") -> dict[str, Figure]:
    """Energies of single operations in one process, by name; raises as :func:`load_device`."""
    path = catalog.find("energy", name)
    table = catalog.read_toml(path)
    from perfmodel.hw.figures import read_named

    try:
        return _sourced(read_named(table.get("energy")), table.get("source"))
    except ValueError as error:
        _refuse(path, "energy", str(error))
    except _NoSource as error:
        _refuse(path, error.field, "has neither a source nor verified = false with a reason")


def _refuse(path: Path, field: str, message: str) -> NoReturn:
    msg = f"{message} [{path}]"
    fix = "specs/hw/_template.toml and specs/hw.schema.json show every field"
    raise MalformedFile(msg, field=field or "device", fix=fix) from None


class _NoSource(Exception):
    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def _figures(node: Any, path: str = "") -> Iterator[tuple[str, Figure]]:
    """Every figure below ``node`` with its dotted path, in file order."""
    if isinstance(node, Figure):
        yield path, node
        return
    if isinstance(node, Mapping):
        children = [(str(k), v) for k, v in node.items()]
    elif isinstance(node, list):
        children = [(str(i), v) for i, v in enumerate(node)]
    elif hasattr(node, "model_fields_set"):
        children = [(n, getattr(node, n)) for n in type(node).model_fields]
    else:
        return
    for name, child in children:
        yield from _figures(child, f"{path}.{name}" if path else name)


def _sourced(figures: dict[str, Figure], default: str | None) -> dict[str, Figure]:
    """The figures with the file's source where they name none."""
    for path, figure in figures.items():
        if figure.verified and figure.source is None:
            if default is None:
                raise _NoSource(path)
            figures[path] = dataclasses.replace(figure, source=default)
    return figures


def _build(
    spec: DeviceSpec, name: str, aliases: tuple[str, ...], figures: dict[str, Figure]
) -> Device:
    compute = _compute(spec.compute)
    power, launch = spec.power, spec.launch
    return Device(
        name=name,
        title=spec.title,
        kind=spec.kind,
        vendor=spec.vendor,
        architecture=spec.architecture,
        aliases=aliases,
        compute=compute,
        memory=Memory(levels=tuple(_level(n, level, compute) for n, level in spec.memory.items())),
        peer_link=_link(spec.peer_link),
        node_link=_link(spec.node_link),
        host_link=_link(spec.host_link),
        tdp_w=_value(power, "tdp"),
        idle_w=_value(power, "idle"),
        active_w=_value(power, "active"),
        process_m=_value(power, "process"),
        launch_stream_s=_value(launch, "stream"),
        launch_graph_s=_value(launch, "graph"),
        prices=tuple(
            Price(usd_per_hour=p.usd_per_hour.value, provider=p.provider, date=p.date, kind=p.kind)
            for p in spec.price
        ),
        board=_board(spec.board, compute, spec.memory) if spec.board else None,
        os_reserve_bytes=_value(spec, "os_reserve") or 0.0,
        figures=figures,
    )


def _value(node: BaseModel | None, name: str) -> float | None:
    figure = getattr(node, name, None)
    return figure.value if isinstance(figure, Figure) else None


def _count(node: BaseModel, name: str) -> int | None:
    value = _value(node, name)
    return None if value is None else int(value)


def _compute(spec: ComputeSpec) -> Compute:
    peaks = {}
    for key, rate in spec.rates():
        derived = spec.derived(key[0], rate)
        quoted = rate.peak.value if rate.peak else None
        peak = quoted if derived is None or rate.use == "quoted" else derived
        assert peak is not None  # RateSpec has refused a rate that states neither
        peaks[key] = peak
    special = _value(spec, "special_per_clk") or 0.0
    return Compute(
        units=int(spec.units.value),
        clock_tensor_hz=spec.clock_hz("tensor"),
        clock_vector_hz=spec.clock_hz("vector"),
        peaks=peaks,
        special_per_s=special * spec.units.value * spec.clock_hz("vector"),
        threads_per_unit=_count(spec, "threads_per_unit"),
        sustained={dtype: f.value for dtype, f in spec.sustained.items()},
        warp_share=_value(spec, "warp_share") or 1.0,
    )


def _level(name: str, spec: LevelSpec, compute: Compute) -> MemoryLevel:
    """A level's totals: per-unit and per-clock figures times units and vector clock."""
    per_unit = _value(spec, "per_unit")
    size = _value(spec, "capacity")
    bandwidth = _value(spec, "bandwidth")
    whole = _value(spec, "bandwidth_per_clk")
    single = _value(spec, "bandwidth_per_clk_unit")
    if size is None and per_unit is not None:
        size = per_unit * compute.units
    if bandwidth is None and whole is not None:
        bandwidth = whole * compute.clock_vector_hz
    if bandwidth is None and single is not None:
        bandwidth = single * compute.units * compute.clock_vector_hz
    return MemoryLevel(
        name=name,
        bytes=size,
        bandwidth_bytes_per_s=bandwidth,
        per_unit_bytes=per_unit,
    )


def _link(spec: LinkSpec | None) -> Link | None:
    if spec is None:
        return None
    return Link(
        name=spec.name,
        bandwidth_bytes_per_s=spec.bandwidth.value,
        latency_s=_value(spec, "latency") or 0.0,
        domain=_count(spec, "domain") or 1,
        reduction=_value(spec, "reduction") or 0.0,
    )


def _board(spec: BoardSpec, compute: Compute, memory: Mapping[str, LevelSpec]) -> Board:
    main = list(memory.values())[-1]
    return Board(
        core=spec.core,
        clock_hz=compute.clock_vector_hz,
        sram_bytes=_value(main, "capacity") or 0.0,
        flash_bytes=_value(spec, "flash"),
        flash_wait_states=_count(spec, "flash_wait_states"),
        flash_line_bytes=_count(spec, "flash_line"),
        external_ram_bytes=_value(spec, "external_ram"),
        external_flash_bytes=_value(spec, "external_flash"),
    )
