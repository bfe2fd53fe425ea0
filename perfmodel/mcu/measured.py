"""Measured rows of networks on boards, as the questions they answer."""

from __future__ import annotations

import dataclasses

from perfmodel.errors import BadInput, BadValue
from perfmodel.hw.device import Device
from perfmodel.hw.load import load_device
from perfmodel.mcu.network import Network
from perfmodel.mcu.networks import network_named
from perfmodel.mcu.runtimes import runtime_named, runtime_on
from perfmodel.measure import Measurement
from perfmodel.workload.base import one_above_zero

LATENCY = "latency"
IN_ENERGY_MODE = "latency_in_energy_mode"
ENERGY = "energy"
SCENARIOS = (LATENCY, IN_ENERGY_MODE, ENERGY)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A network on a board at a clock, in a data type, by a runtime (None: not known)."""

    network: Network
    device: Device
    dtype: str
    runtime: str | None


def asks_network(m: Measurement) -> bool:
    """Whether a row times one of the built-in networks, or measures its energy."""
    return m.scenario in SCENARIOS and m.model is not None and "macs" in m.question


def question_of(m: Measurement) -> Question:
    """What a row of :func:`asks_network` asks.

    Raises:
        UnknownName: no such device or network.
        BadValue: the device is no board, or its clock is no number.
    """
    device = load_device(m.device)
    if device.board is None:
        msg = f"{device.name} is a {device.kind}, which runs no microcontroller network"
        raise BadValue(msg, field="device")
    return Question(
        network=network_named(m.model or ""),
        device=at_clock(device, _clock_hz(m.question.get("clock_mhz", ""))),
        dtype=m.dtype or "int8",
        runtime=_runtime(m, device.board.core),
    )


def at_clock(device: Device, clock_hz: float | None) -> Device:
    """The board with its core at another clock: rates scale with it; the same for None.

    Raises:
        BadValue: no finite clock above zero.
    """
    if clock_hz is None:
        return device
    clock = one_above_zero(clock_hz, "clock_hz")
    ratio = clock / device.compute.clock_vector_hz
    compute = dataclasses.replace(
        device.compute,
        clock_vector_hz=clock,
        clock_tensor_hz=device.compute.clock_tensor_hz * ratio,
        peaks={key: rate * ratio for key, rate in device.compute.peaks.items()},
    )
    return dataclasses.replace(device, compute=compute)


def _clock_hz(text: str) -> float | None:
    if not text:
        return None
    try:
        clock = float(text) * 1e6
    except ValueError:
        clock = 0.0
    if not 1e5 <= clock <= 1e10:
        msg = f"must be a clock in MHz, got {text[:40]!r}"
        raise BadValue(msg, field="clock_mhz", fix="120")
    return clock


def _runtime(m: Measurement, core: str) -> str | None:
    """The runtime that framework, variant and submitter name, if it runs on the core."""
    cells = (m.framework or "", m.question.get("variant", ""), m.question.get("submitter", ""))
    try:
        found = runtime_named(" ".join(cells))
        return found.name if runtime_on(core, found.name) else None
    except BadInput:
        return None
