"""How far collectives lie from tables that the fit has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.calibration.calibrate import class_table, rows_of
from perfmodel.calibration.dataset import gather
from perfmodel.calibration.heldback import unseen_rows
from perfmodel.hw.load import load_device
from perfmodel.measure import read_measurements
from perfmodel.ops.collective import link_bytes
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.time import estimate
from perfmodel.validation.score import factor
from perfmodel.workload import Collective

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


PUBLISHED = [
    ("a100-sxm-80gb", "all_reduce", 2**34, 235),
    ("h200-sxm", "all_reduce", 2**34, 482),
    ("h200-sxm", "all_gather", 2**34, 361),
    ("h200-sxm", "reduce_scatter", 2**34, 363),
    ("b200-sxm", "all_reduce", 2**33, 838),
]
"""Bus bandwidth in GB/s of eight devices: stas00/ml-engineering@744d01e, network/README.md."""


@pytest.mark.parametrize(("name", "kind", "size", "bus"), PUBLISHED)
def test_large_collectives_of_devices_that_no_fit_saw(name, kind, size, bus):
    """Switches that add up, and links two generations on, from parameters fitted on A100s."""
    work = Collective(bytes=size, ranks=8, kind=kind)
    found = estimate(work, load_device(name))
    assert float(link_bytes(work) / found.time_s) / 1e9 == pytest.approx(bus, rel=0.1)
    assert found.low_s <= float(link_bytes(work)) / (bus * 1e9) <= found.high_s


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
    each = [factor(found.ratios[found.folds == f], 1.0) for f in TABLES]
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
    assert factor(found.ratios, 1.0) <= ENGINE_BAR
