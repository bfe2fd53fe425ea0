"""How far a power limit lets a unit run at its peak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.roofline.model import Parameter, Values

REFERENCE_M = 7e-9
"""Process at which ``energy_pj_per_flop`` is stated."""

ENERGY_PJ = Parameter(
    name="energy_pj_per_flop",
    unit="pJ/FLOP",
    low=0.1,
    high=30.0,
    start=1.0,
    meaning="board energy per FLOP at which the board power just sustains the peak, in 7 nm",
)
POWER_EXPONENT = Parameter(
    name="power_exponent",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.25,
    meaning="how the sustained share of the peak falls with too little power (0: it does not; 1/3: "
    "power grows with the cube of the clock)",
)
REST_W = Parameter(
    name="rest_w",
    unit="W",
    low=0.0,
    high=60.0,
    start=25.0,
    meaning="board power that no FLOP spends while it works: memory, leakage, regulators",
    prior=0.15,
)
LEAST_SHARE = 0.6
"""Share of the board's power that is left to work, however small the board: its regulators and
memory are sized with it."""
BYTE_PJ = Parameter(
    name="byte_pj",
    unit="pJ/B",
    low=20.0,
    high=400.0,
    start=150.0,
    meaning="board energy per byte that main memory moves, on its way to registers and back, in "
    "7 nm",
    prior=0.1,
)
"""A board of 5 nm that streams 3.76 TB/s draws 572 W, 77 of them at rest (H200, gpu-benches): 132
pJ/B; two thirds of that is wires and arithmetic on the chip, which older processes pay more for."""
PROCESS_EXPONENT = Parameter(
    name="process_exponent",
    unit="1",
    low=0.0,
    high=2.0,
    start=1.0,
    meaning="how energy per FLOP falls with the feature size (1: with capacitance, at one voltage)",
    prior=0.4,
)
STREAM_POWER = (BYTE_PJ, replace(PROCESS_EXPONENT, start=0.5, prior=0.2), REST_W)
"""What limits streams by power; wires gain less from a finer process than transistors."""


def power_limited_bandwidth(device: Device, values: Values) -> np.float64:
    """Bytes/s that the board power allows, ``(TDP - rest) / e``: infinite without a TDP, or where
    the class has no ``byte_pj``.

    Clocks fall until memory and chip together draw what the board gives: streams on boards of 70 W
    stop short of what their memory could.
    """
    if device.tdp_w is None or "byte_pj" not in values:
        return np.float64(np.inf)
    energy = np.float64(values["byte_pj"]) * np.float64(1e-12) * _process(device, values)
    return _left_w(device, values) / energy


def _process(device: Device, values: Values) -> np.float64:
    """Energy of the device's process over that of :data:`REFERENCE_M`."""
    size = np.float64((device.process_m or REFERENCE_M) / REFERENCE_M)
    return np.float64(np.power(size, np.float64(values.get("process_exponent", 0.0))))


def _left_w(device: Device, values: Values) -> np.float64:
    """Board power that is left to work; a TDP is known."""
    assert device.tdp_w is not None
    left = np.maximum(device.tdp_w - values.get("rest_w", 0.0), LEAST_SHARE * device.tdp_w)
    return np.float64(left)


def power_limited_rate(peak: np.float64, device: Device, values: Values) -> np.float64:
    """FLOP/s that the board power allows: ``peak ((TDP - rest) / (e peak))^x``, infinite without a
    TDP; ``rest`` is what the board draws whatever it computes, where the class has ``rest_w``.

    Under dynamic voltage and frequency scaling power grows faster than linearly with the clock, so
    the clock falls as a power x < 1 of the missing watts. ``e`` scales with the manufacturing
    process (``process_exponent``) where the class has that parameter and the spec the process.
    Only work on real operands costs this energy: rows that pad a tile are zeros, which do not
    toggle.
    """
    if device.tdp_w is None:
        return np.float64(np.inf)
    energy = np.float64(values["energy_pj_per_flop"]) * np.float64(1e-12)
    demand = energy * _process(device, values) * peak
    share = np.power(_left_w(device, values) / demand, np.float64(values["power_exponent"]))
    return np.float64(peak * share)
