"""Cores as their inner loops see them: specs/mcu/cores.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel.catalog import find, read_toml
from perfmodel.errors import BadValue, MalformedFile, UnknownName, UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.workload import is_integer_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Simd:
    """How a core multiplies one data type; the fields of specs/mcu/cores.toml."""

    lanes: int
    macs: int
    mac_cycles: float
    widen: float
    block: tuple[int, int]
    depthwise_macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """Instruction costs of a core in the inner loops of neural-network kernels."""

    name: str
    title: str
    source: str
    issue: float
    load: float
    branch: float
    requant: float
    row_call: float
    note: str
    cluster: int = 1
    """Cores that share the work of one operator."""
    in_place: bool = False
    """Whether convolutions visit each kernel position where it lies, gathering no patches."""
    dma_bytes_per_cycle: float = 0.0
    """Between the second- and the first-level memory of a cluster."""
    akin: str = ""
    """A core with the same instructions, whose measurements carry over."""
    simd: Mapping[str, Simd]

    def of(self, dtype: str) -> Simd:
        """The loops of ``dtype``; raises UnsupportedDtype where the core has none."""
        if dtype not in self.simd:
            msg = f"{self.title} has no kernels for {dtype}"
            raise UnsupportedDtype(msg, fix="one of " + ", ".join(self.simd))
        return self.simd[dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreTable:
    """All cores, scalar instructions per element by operator, and flash where no board says."""

    cores: Mapping[str, Core]
    operators: Mapping[str, Mapping[str, float]]
    flash_line_bytes: float
    flash_array_hz: float

    def per_element(self, operator: str, dtype: str) -> float:
        """Instructions per element of an operator that is no product."""
        return self.operators["int" if is_integer_dtype(dtype) else "float"][operator]


def core_table() -> CoreTable:
    """The cores of specs/mcu/cores.toml; raises MalformedFile."""
    path = find("mcu", "cores")
    return _read(path, path.stat().st_mtime_ns)


def core_of(device: Device) -> Core:
    """The core of a microcontroller board.

    Raises:
        BadValue: the device is no microcontroller.
        UnknownName: nobody described the core.
    """
    if device.board is None:
        msg = f"{device.name} is a {device.kind}, which runs no microcontroller network"
        raise BadValue(msg, field="device", fix="a board such as stm32l4r5")
    cores = core_table().cores
    if device.board.core not in cores:
        raise UnknownName("core", device.board.core, cores, fix="describe it in mcu/cores.toml")
    return cores[device.board.core]


@lru_cache(maxsize=4)
def _read(path: Path, mtime_ns: int) -> CoreTable:
    del mtime_ns  # part of the cache key: an edited file is read again
    table = read_toml(path)
    try:
        return CoreTable(
            cores={n: _core(n, e, table["source"]) for n, e in table["cores"].items()},
            operators=table["operators"],
            flash_line_bytes=float(table["flash"]["line_bytes"]),
            flash_array_hz=float(table["flash"]["array_hz"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: not a table of cores: {type(error).__name__} {error}"
        raise MalformedFile(msg, fix="compare with the shipped file") from None


def _core(name: str, entry: Mapping[str, Any], source: str) -> Core:
    simd = {k: v for k, v in entry.items() if isinstance(v, dict)}
    plain = {k: v for k, v in entry.items() if k not in simd}
    return Core(
        name=name,
        simd={k: Simd(**{**v, "block": tuple(v["block"])}) for k, v in simd.items()},
        **{"source": source, **plain},
    )
