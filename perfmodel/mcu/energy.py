"""Energy of an inference: board power over its time, operations of a process, life of a battery.

Two scales that never mix. A board's energy is its measured active power times the time of an
inference; it holds everything the board does. The 45 nm table (Horowitz, ISSCC 2014; Han et al.,
NeurIPS 2015) holds single operations and memory accesses without any of the instructions around
them; papers that count operations quote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perfmodel.answer import Estimate, Source
from perfmodel.catalog import find, read_toml
from perfmodel.errors import BadValue, MalformedFile, MissingFigure, UnknownName
from perfmodel.hw.device import Device
from perfmodel.hw.load import load_energies
from perfmodel.mcu.calibrated import mcu_calibration
from perfmodel.mcu.network import Network
from perfmodel.ops import count
from perfmodel.units import parse

MAC_ENERGY = "_mac_energy_per_op"
"""How names of measured energies per multiply-add end in device files."""
ACCESS_BYTES = 8.0
"""Bytes of one memory access of the 45 nm table."""
SRAM_BYTES = {"sram_8kib": 2.0**13, "sram_32kib": 2.0**15, "sram_1mib": 2.0**20}
"""Sizes of the table's memories, as their names say, smallest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one inference on a board, with its interval, and what it comes to."""

    energy_j: float
    low_j: float
    high_j: float
    power_w: float
    source: Source
    facts: Mapping[str, Any] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: ``energy_j, low_j, high_j, power_w, inferences_per_j, ...``."""
        return {
            "energy_j": self.energy_j,
            "low_j": self.low_j,
            "high_j": self.high_j,
            "power_w": self.power_w,
            "inferences_per_j": 1.0 / self.energy_j,
            "source": self.source,
            "facts": dict(self.facts),
            "assumptions": list(self.assumptions),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryLife:
    """How long a battery lasts at one inference every ``period_s``."""

    life_s: float
    inferences: float
    average_w: float
    duty: float
    battery_j: float
    assumptions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "life_days": self.life_s / 86400.0,
            "assumptions": list(self.assumptions),
        }


def inference_energy(time: Estimate, device: Device) -> Energy:
    """Active power of ``device`` times the ``time`` of one inference on it.

    The interval adds how far submitters' power readings of one board lie apart.

    Raises:
        MissingFigure: the spec states neither an active power nor a measured energy per
            multiply-add.
    """
    seconds, macs = float(time.time_s), float(time.facts["macs"])
    power, note = _active_w(device, macs, seconds)
    spread = mcu_calibration().energy
    low, high = (spread.low, spread.high) if spread else (1.0, 1.0)
    energy = power * seconds
    return Energy(
        energy_j=energy,
        low_j=power * float(time.low_s) * min(low, 1.0),
        high_j=power * float(time.high_s) * max(high, 1.0),
        power_w=power,
        source=time.source,
        facts={"pj_per_mac": energy / macs * 1e12, "published": published(device)},
        assumptions=(note, "supply and meter move the power of one board by 1.6 x"),
    )


def counted_energy(network: Network, dtype: str = "int8", table: str = "45nm") -> dict[str, float]:
    """Joules of one inference if nothing but its operations and its compulsory traffic cost energy.

    ``arithmetic``: a multiplication and an addition for each multiply-accumulate. ``memory``: each
    operator's inputs, weights and output once, from the smallest SRAM of the table that holds the
    network's live tensors and weights (its largest where none does).

    Raises:
        UnknownName: as :func:`operations_energy`.
    """
    moved = sum(float(count(w).bytes_total) for op in network.ops for w in op.workloads)
    held = network.weight_bytes + max(network.live_bytes())
    return {
        "arithmetic": operations_energy(network.macs, network.macs, dtype, table),
        "memory": traffic_energy(moved, _smallest(held), table),
    }


def _smallest(held_bytes: float) -> str:
    """The smallest SRAM of the 45 nm table with ``held_bytes``, else the largest."""
    return next((name for name, size in SRAM_BYTES.items() if held_bytes <= size), "sram_1mib")


def published(device: Device) -> dict[str, float]:
    """Measured pJ per multiply-add that the device's file quotes, by network."""
    return {
        path.removeprefix("measured.").removesuffix(MAC_ENERGY): figure.value * 1e12
        for path, figure in device.figures.items()
        if path.endswith(MAC_ENERGY)
    }


def _active_w(device: Device, macs: float, seconds: float) -> tuple[float, str]:
    if device.active_w is not None:
        figure = device.figure("power.active")
        where = figure.condition or figure.reason or "as its file states"
        return device.active_w, f"active power {figure.text}: {where}"
    quoted = published(device)
    if not quoted:
        msg = f"the spec of {device.name} states no active power"
        fix = "add power.active to a spec of your own (--specs DIR)"
        raise MissingFigure(msg, field="power.active", fix=fix)
    network, picojoules = next(iter(quoted.items()))
    note = f"no active power stated: {picojoules:g} pJ per multiply-add as measured on {network}"
    return picojoules * 1e-12 * macs / seconds, note


def battery_life(
    energy: Energy, time: Estimate, device: Device, *, battery_j: float, period_s: float
) -> BatteryLife:
    """How long ``battery_j`` lasts at one inference every ``period_s``, asleep in between.

    ``average = (E_inference + P_sleep (period - t)) / period``.

    Raises:
        BadValue: an inference takes longer than the period, or a size is not positive.
    """
    seconds = float(time.time_s)
    if battery_j <= 0.0:
        msg = "must hold some energy"
        raise BadValue(msg, field="battery", fix="'1000 mAh' or '3.7 Wh'")
    if period_s < seconds:
        msg = f"an inference takes {seconds:.3g} s, longer than every {period_s:.3g} s"
        raise BadValue(msg, field="every", fix="a longer period")
    sleep, note = _sleep_w(device)
    average = (energy.energy_j + sleep * (period_s - seconds)) / period_s
    life = battery_j / average
    return BatteryLife(
        life_s=life,
        inferences=life / period_s,
        average_w=average,
        duty=seconds / period_s,
        battery_j=battery_j,
        assumptions=(note, "all of the battery's energy is used, nothing leaks or is converted"),
    )


def _sleep_w(device: Device) -> tuple[float, str]:
    """Power between inferences: the file's sleep or idle figure, 0 where it has none."""
    if "extra.sleep_power" in device.figures:
        figure = device.figure("extra.sleep_power")
        return figure.value, f"asleep in between at {figure.text}"
    if device.idle_w is not None:
        return device.idle_w, f"idle in between at {device.idle_w:g} W"
    return 0.0, f"the spec of {device.name} states no sleep power: counted as 0"


def battery_energy(text: str) -> float:
    """Joules of a battery given as energy ("3.7 Wh") or charge ("1000 mAh", at nominal voltage).

    Raises:
        BadValue: neither.
    """
    if text.strip().endswith(("Ah", "C")):
        return parse(text, "charge", "battery") * _nominal_v()
    return parse(text, "energy", "battery")


def _nominal_v() -> float:
    path = find("energy", "battery")
    try:
        return parse(read_toml(path)["battery"]["voltage"]["value"], "voltage", "voltage")
    except (KeyError, TypeError) as error:
        msg = f"{path}: states no battery.voltage: {error}"
        raise MalformedFile(msg, fix="compare with the shipped file") from None


def operations_energy(
    multiplies: float, adds: float, dtype: str = "fp32", table: str = "45nm"
) -> float:
    """Joules of single multiplications and additions in a process (no memory, no instructions).

    Raises:
        UnknownName: the table has no such data type, or there is no such table.
    """
    energies = load_energies(table)
    known = [name.removesuffix("_mul_per_op") for name in energies if name.endswith("_mul_per_op")]
    if dtype not in known or f"{dtype}_add_per_op" not in energies:
        raise UnknownName("dtype of the energy table", dtype, known)
    mul, add = energies[f"{dtype}_mul_per_op"].value, energies[f"{dtype}_add_per_op"].value
    return multiplies * mul + adds * add


def traffic_energy(bytes_moved: float, memory: str = "sram_32kib", table: str = "45nm") -> float:
    """Joules of moving bytes between a memory of the table and the arithmetic, 64 bits at a time.

    Raises:
        UnknownName: the table has no such memory.
    """
    energies = load_energies(table)
    end = "_64bit_energy"
    name = {"dram": "dram_64bit_least_energy"}.get(memory, memory + end)
    if name not in energies:
        known = [n.removesuffix(end) for n in energies if n.endswith(end)]
        raise UnknownName("memory of the energy table", memory, [*known, "dram"])
    return bytes_moved / ACCESS_BYTES * energies[name].value
