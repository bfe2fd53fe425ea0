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


def power_share(peak: np.float64, device: Device, values: Values) -> np.float64:
    """Share of ``peak`` (FLOP/s) that the board power sustains, 1 where the power is not known.

    ``min(1, (TDP / (e peak))^x)``: under dynamic voltage and frequency scaling power grows faster
    than linearly with the clock, so the clock falls as a power x < 1 of the missing watts.
    """
    if device.tdp_w is None:
        return np.float64(1.0)
    demand = np.float64(values["energy_pj_per_flop"]) * np.float64(1e-12) * peak
    share = np.power(np.float64(device.tdp_w) / demand, np.float64(values["power_exponent"]))
    return np.float64(np.minimum(share, 1.0))
