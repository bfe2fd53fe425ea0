"""What is remembered of workloads, and that fits do not change by it."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from perfmodel.calibration.dataset import gather
from perfmodel.calibration.fit import ASIDE, STEP, _file_weights, _Scale, _Task
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.workload import Gemm, remembered
from perfmodel.workload.memo import MOST_POINTS

A100, H200 = load_device("a100-sxm-80gb"), load_device("h200-sxm")


def counting():
    """A remembered function and the list of what it was asked."""
    asked = []

    @remembered
    def name(workload, device=None):
        asked.append((workload, device))
        return [workload.op]

    return name, asked


def test_an_answer_is_worked_out_once():
    """Per workload and further object; equal workloads are apart."""
    name, asked = counting()
    one, same = Gemm(m=1, n=2, k=3), Gemm(m=1, n=2, k=3)
    assert name(one) is name(one)
    assert name(one, A100) is name(one, A100)
    name(one, H200)
    name(same)
    assert asked == [(one, None), (one, A100), (one, H200), (same, None)]


def test_large_grids_are_asked_each_time():
    """A sweep's arrays do not outlive it."""
    name, asked = counting()
    grid = Gemm(m=np.arange(1, MOST_POINTS + 2), n=2, k=3)
    assert name(grid) is not name(grid)
    assert len(asked) == 2


def test_nothing_keeps_a_workload_alive():
    """What is remembered of a workload ends with it."""
    name, asked = counting()
    work = Gemm(m=1, n=2, k=3)
    name(work)
    asked.clear()
    gone = weakref.ref(work)
    del work
    gc.collect()
    assert gone() is None


def test_slopes_are_differences_of_all_rows():
    """Asking only the rows that look at a parameter gives what asking all of them gives."""
    model = CLASS_MODELS["gemm"]
    shapes = [(64, 4096, 4096), (4096, 4096, 4096), (100, 333, 77), (8, 1024, 65536)]
    rows = [
        Measurement(file=f"{d.name}.csv", line=i, source="lab", device=d.name, scenario="gemm",
                    quantity="latency", value=1e-4 * (i + 1), workload=Gemm(m=m, n=n, k=k),
                    launch=launch)
        for d, launch in ((A100, "graph"), (H200, "eager"))
        for i, (m, n, k) in enumerate(shapes)
    ]  # fmt: skip
    groups = gather(rows)
    scale = _Scale(model.parameters)
    task = _Task(scale, groups, _file_weights(groups))
    x = np.clip(scale.start(None), ASIDE + 0.01, ASIDE + 0.9)
    here = task.residuals(x)
    slopes = task.slopes(x)
    for i in range(x.size):
        beside = x.copy()
        beside[i] += STEP * x[i]
        expected = (task.residuals(beside) - here) / (beside[i] - x[i])
        assert np.array_equal(slopes[:, i], expected), model.parameters[i].name
