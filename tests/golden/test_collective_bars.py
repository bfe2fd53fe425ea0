"""How far collectives lie from tables that the fit has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.calibration.calibrate import class_table, rows_of
from perfmodel.calibration.dataset import gather
from perfmodel.calibration.heldback import unseen_rows
from perfmodel.measure import read_measurements
from perfmodel.roofline.classes import CLASS_MODELS

TABLES = ("aic_comm_a100.csv", "llmcompass_allreduce_4xa100.csv", "vidur_net_a100.csv")
BAR = 1.25
"""Shapes, tables and machines held back."""
ENGINE_BAR = 1.15
"""All-reduce kernels of engines, shapes held back."""


@pytest.fixture(scope="module")
def groups(data_dir):
    return gather([m for name in TABLES for m in read_measurements(data_dir / name)])


@pytest.fixture(scope="module")
def table(groups):
    """What calibration says of the class."""
    return class_table(CLASS_MODELS["collective"], rows_of("collective", groups))


def factor(ratios):
    return float(np.exp(np.mean(np.abs(np.log(ratios)))))


@pytest.mark.data
@pytest.mark.parametrize("split", ["shape", "file", "device"])
def test_collectives_held_back(table, split):
    """Over rows: within the bar, 85 to 95 % of them inside intervals made of the others."""
    held = table["held_back"][split]
    assert held["factor"] <= BAR
    assert 0.85 <= held["covered"]["a100-sxm-80gb"] <= 0.95


@pytest.mark.data
def test_each_table_predicted_from_the_others(groups):
    """Averaged over tables, as the bar counts."""
    found = unseen_rows(CLASS_MODELS["collective"], rows_of("collective", groups), "file")
    each = [factor(found.ratios[found.folds == f]) for f in TABLES]
    assert np.mean(each) <= BAR


@pytest.mark.data
def test_every_parameter_of_collectives_is_seen(table):
    """The pooled fit identifies each of them."""
    assert all(p["identified"] for p in table["parameters"].values())
    assert table["fit"]["factor"] <= 1.2


@pytest.mark.data
@pytest.mark.parametrize("name", ["collective_custom", "collective_trtllm"])
def test_kernels_of_engines_held_back(groups, name):
    """Kernels that read their peers, and NCCL beyond the sizes where engines leave them."""
    found = unseen_rows(CLASS_MODELS[name], rows_of(name, groups), "shape")
    assert factor(found.ratios) <= ENGINE_BAR
