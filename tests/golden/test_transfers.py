"""Each measured device predicted from the others: factors and coverage that the project claims."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from perfmodel.calibration.calibrate import COVERAGE, covered_rows, read_rows, rows_of
from perfmodel.calibration.dataset import gather
from perfmodel.calibration.heldback import unseen_rows
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.validation.score import factor

BARS = {"gemm": 1.10, "gemm_int8": 1.18, "gemm_fp32": 1.18, "norm": 1.18, "pointwise": 1.18}
FULL_WIDTH = ("a100-pcie-40gb", "t4", "v100-pcie-32gb")
"""Devices whose pointwise rows are fp32."""
LEAST, MOST, ENOUGH = 0.85, 0.95, 200


@cache
def groups(data_dir: Path, root: Path):
    """Every measured row of one operator on a device."""
    return gather(read_rows([data_dir, root / "specs" / "measured"]))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("cls", "bar"), BARS.items())
def test_devices_held_back(data_dir, root, cls, bar):
    """No row of the device in the fit: the factor of the class, closer for fp32 pointwise ones.

    A 90 % interval made of the other devices covers 85 to 95 % of each with rows enough, and of
    fewer what chance allows around that.
    """
    held = unseen_rows(CLASS_MODELS[cls], rows_of(cls, groups(data_dir, root)), "device")
    assert factor(held.ratios, 1.0) <= bar
    if cls == "pointwise":
        for name in FULL_WIDTH:
            assert factor(held.ratios[held.devices == name], 1.0) <= 1.10, name
    inside = covered_rows(held.precise)
    for name in np.unique(held.precise.devices):
        own = held.precise.devices == name
        few = own.sum() < ENOUGH
        chance = 2.0 * (COVERAGE * (1 - COVERAGE) / own.sum()) ** 0.5 if few else 0.0
        assert LEAST - chance <= inside[own].mean() <= MOST + chance, name
