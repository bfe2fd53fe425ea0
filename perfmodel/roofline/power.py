"""How far a power limit lets a unit run at its peak."""

from __future__ import annotations

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.roofline.model import Parameter, Values

ENERGY_PJ = Parameter(
    name="energy_pj_per_flop",
    unit="pJ/FLOP",
    low=0.1,
    high=30.0,
    start=1.0,
    meaning="board energy per FLOP at which the board power just sustains the peak",
)
POWER_EXPONENT = Parameter(
    name="power_exponent",
    unit="1",
    low=0.0,
    high=1.0,
    start=0.25,
    meaning="how the sustained share of the peak falls with too little power (0: it does not)",
)


def sustained_rate(peak: np.float64, device: Device, values: Values) -> np.float64:
    """FLOP/s that the device sustains: ``peak * min(fraction, (TDP / (e peak))^x)``.

    The inner loop's ``tensor_fraction`` limits, or the board power does: under dynamic voltage and
    frequency scaling power grows faster than linearly with the clock, so the clock falls as a power
    x < 1 of the missing watts. Without a board power in the spec only the inner loop limits.
    """
    fraction = np.float64(values["tensor_fraction"])
    if device.tdp_w is None:
        return peak * fraction
    demand = np.float64(values["energy_pj_per_flop"]) * np.float64(1e-12) * peak
    share = np.power(np.float64(device.tdp_w) / demand, np.float64(values["power_exponent"]))
    return np.float64(peak * np.minimum(share, fraction))
