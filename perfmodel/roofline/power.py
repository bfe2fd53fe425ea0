"""How far a power limit lets a unit run at its peak."""

from __future__ import annotations

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
LEAST_SHARE = 0.25
"""Share of the board's power that is left to work, however small the board."""
PROCESS_EXPONENT = Parameter(
    name="process_exponent",
    unit="1",
    low=0.0,
    high=2.0,
    start=1.0,
    meaning="how energy per FLOP falls with the feature size (1: with capacitance, at one voltage)",
    prior=0.4,
)


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
    size = np.float64((device.process_m or REFERENCE_M) / REFERENCE_M)
    scale = np.power(size, np.float64(values.get("process_exponent", 0.0)))
    demand = np.float64(values["energy_pj_per_flop"]) * np.float64(1e-12) * scale * peak
    left = np.maximum(device.tdp_w - values.get("rest_w", 0.0), LEAST_SHARE * device.tdp_w)
    share = np.power(np.float64(left) / demand, np.float64(values["power_exponent"]))
    return np.float64(peak * share)
