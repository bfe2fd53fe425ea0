"""A sweep is its points: arrays equal single calls, whatever cuts or carries the grid."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfmodel as pm
from perfmodel import sweeps

MODELS = ["llama-3-8b", "llama-3-70b"]
GRID = {
    "batch": [1, 3, 16, 128],
    "context": [1, 100, 4096, 100_000],
    "tp": [1, 2, 8],
    "dtype": ["bf16", "fp8"],
}


@pytest.fixture(scope="module")
def grid():
    """A grid of decode steps of two models."""
    return pm.sweep(MODELS, "h100-sxm-80gb", lean=True, **GRID)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_array_equals_scalar(grid, data):
    """Each point of a sweep is the single step's answer, bit for bit."""
    at = tuple(data.draw(st.integers(0, len(v) - 1)) for v in grid.axes.values())
    point = {k: v[i].item() for (k, v), i in zip(grid.axes.items(), at, strict=True)}
    one = pm.step(point.pop("model"), point.pop("device"), phase="decode", **point)

    for name in sweeps.QUANTITIES:
        assert getattr(grid, name)[at] == getattr(one, name)
    assert grid.bound[at] == str(one.bound)


def test_shape_and_axes(grid):
    """One dimension per axis: models, devices, categories, then sizes as given."""
    assert list(grid.axes) == ["model", "device", "dtype", "batch", "context", "tp"]
    assert grid.time_s.shape == (2, 1, 2, 4, 4, 3)
    assert np.isfinite(grid.time_s).all()


def test_frame_has_a_row_per_point(grid):
    """The data frame repeats each axis over the others, in the arrays' order."""
    frame = grid.to_frame()
    row = frame[
        (frame["model"] == "llama-3-70b")
        & (frame["dtype"] == "fp8")
        & (frame["batch"] == 16)
        & (frame["context"] == 4096)
        & (frame["tp"] == 8)
    ]

    assert len(frame) == grid.size
    assert row["time_s"].item() == grid.time_s[1, 0, 1, 2, 2, 2]
    assert row["bound"].item() == grid.bound[1, 0, 1, 2, 2, 2]


def test_a_frame_by_default():
    """Without ``lean`` the answer is the data frame itself."""
    frame = pm.sweep("llama-3-8b", "h100-sxm-80gb", batch=[1, 2], context=[10])

    assert frame["batch"].tolist() == [1, 2]


@pytest.mark.parametrize("block", [1, 7, 100, 10**9])
def test_blocks_change_nothing(grid, monkeypatch, block):
    """However small the pieces that a grid is cut into."""
    monkeypatch.setattr(sweeps, "BLOCK", block)
    again = pm.sweep(MODELS, "h100-sxm-80gb", lean=True, **GRID)

    assert np.array_equal(again.time_s, grid.time_s)
    assert np.array_equal(again.bound, grid.bound)


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executors(grid, monkeypatch, kind):
    """Threads and processes give the same arrays."""
    monkeypatch.setattr(sweeps, "BLOCK", 12)
    with kind(2) as executor:
        again = pm.sweep(MODELS, "h100-sxm-80gb", lean=True, executor=executor, **GRID)

    assert np.array_equal(again.time_s, grid.time_s)


def test_dask_executor(grid):
    """A local Dask cluster's executor too: blocks travel to its two processes and back."""
    distributed = pytest.importorskip("distributed", reason="pip install 'perfmodel[dask]'")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        again = pm.sweep(MODELS, "h100-sxm-80gb", lean=True, executor=client.get_executor(), **GRID)

    assert np.array_equal(again.time_s, grid.time_s)


def test_progress_counts_points(monkeypatch):
    """Progress is told after each block and ends at the whole."""
    monkeypatch.setattr(sweeps, "BLOCK", 2)
    seen = []
    pm.sweep(
        "llama-3-8b", "h100-sxm-80gb", lean=True, batch=[1, 2, 3], context=[1, 2],
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip

    assert seen == [(2, 6), (4, 6), (6, 6)]


def test_an_operator():
    """A workload's own fields are axes, numbers and data types alike."""
    gemm = pm.Gemm(m=1, n=4096, k=4096)
    found = pm.sweep(gemm, "h100-sxm-80gb", lean=True, dtype=["bf16", "int8"], m=[1, 64, 4096])
    one = pm.estimate(pm.Gemm(m=64, n=4096, k=4096, dtype="int8"), "h100-sxm-80gb")

    assert list(found.axes) == ["op", "device", "dtype", "m"]
    assert found.time_s[0, 0, 1, 1] == one.time_s


def test_a_device_that_cannot():
    """NaN with a reason, beside devices that can; a refusal when none can."""
    asked = {"batch": [1], "context": [10], "dtype": "fp8", "lean": True}
    found = pm.sweep("llama-3-8b", ["h100-sxm-80gb", "v100-sxm2-32gb"], **asked)

    assert np.isnan(found.time_s).ravel().tolist() == [False, True]
    assert list(found.refused) == [("llama-3-8b", "v100-sxm2-32gb", "fp8")]
    with pytest.raises(pm.UnsupportedDtype):
        pm.sweep("llama-3-8b", "v100-sxm2-32gb", **asked)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"bach": [1]}, pm.UnknownName),
        ({"batch": []}, pm.BadValue),
        ({"batch": [1.5]}, pm.BadValue),
        ({"batch": [0]}, pm.BadValue),
        ({"batch": [[1, 2]]}, pm.BadValue),
        ({"tp": [3]}, pm.ImpossibleSplit),
        ({"dtype": "bf17"}, pm.UnknownName),
        ({"of": []}, pm.BadValue),
        ({"on": []}, pm.BadValue),
        ({"of": ["llama-3-8b", pm.Gemm(m=1, n=1, k=1)]}, pm.BadValue),
    ],
)
def test_bad_grids(wrong, error):
    """Each is refused."""
    asked = {"of": "llama-3-8b", "on": "h100-sxm-80gb", "batch": [1], "context": [10]} | wrong
    with pytest.raises(error):
        pm.sweep(asked.pop("of"), asked.pop("on"), **asked)
