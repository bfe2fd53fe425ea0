"""Norms and softmax as torch runs them: latency of few rows, issue of many, what is read again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.hw.load import load_device
from perfmodel.measure.readers import read_measurements
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.model import Run
from perfmodel.workload import Norm

H200 = load_device("h200-sxm")
NORM = CLASS_MODELS["norm"]
HEADER = "source,device,op,dtype,batch,m,n,k,measured,unit\n"


def norm(rows, cols, kind="layer", dtype="bf16", run=Run(), **changes):  # noqa: B008  # frozen
    """The class's own time, parameters at their starts but for ``changes``."""
    w = Norm(rows=rows, cols=cols, kind=kind, dtype=dtype)
    return NORM.predict(w, H200, NORM.start | changes, run)


def test_many_short_rows_take_their_instructions_time():
    """A million rows of 128: what a multiprocessor issues for each, not its latency."""
    found = norm(1 << 20, 128, row_clk=0.0, pass_clk=0.0)
    cycles = NORM.start["row_issue_clk"] + NORM.start["pass_issue_clk"] / 8.0
    seconds = (1 << 20) / H200.compute.units * cycles / H200.compute.clock_vector_hz
    assert found.terms["rows"] == pytest.approx(seconds)


@given(rows=st.integers(1, 1 << 16), cols=st.integers(1, 1 << 15))
def test_a_norm_without_a_mean_is_never_slower(rows, cols):
    """It issues and waits for a share of what a layer norm does."""
    assert norm(rows, cols, "rms").time_s <= norm(rows, cols, "layer").time_s


@pytest.mark.parametrize(("cols", "readings"), [(1024, 1), (8192, 1), (8190, 3), (16384, 3)])
def test_rows_in_shared_memory_are_read_once(cols, readings):
    """fp32 rows below 48 KiB that vectors make up; others come from memory three times where no
    cache holds them."""
    uncached = replace(H200, memory=replace(H200.memory, levels=H200.memory.levels[-1:]))
    w = Norm(rows=1 << 16, cols=cols, kind="softmax", dtype="fp32")
    values = NORM.start | {"dram_fraction": 1.0, "byte_pj": 20.0}
    found = NORM.predict(w, uncached, values, Run())
    moved = (1 << 16) * cols * 4 * (readings + 1)
    assert found.terms["memory"] == pytest.approx(moved / H200.memory.bandwidth_bytes_per_s)


def test_one_eager_call_between_events_pays_the_way_to_it(tmp_path):
    """NeuSight's tables time single calls; the host's path adds to each, whatever its size."""
    path = tmp_path / "rows.csv"
    path.write_text(HEADER + "neusight,T4,softmax,fp32,1,8192,1024,0,0.333,ms\n")
    (read,) = read_measurements(path)
    assert read.launch == "alone"
    for rows in (1, 1 << 14):
        once, queued = (norm(rows, 1024, run=Run(launch=x)) for x in ("alone", "graph"))
        assert once.time_s - queued.time_s == pytest.approx(NORM.start["alone_s"])
    assert np.all(queued.time_s > 0.0)
