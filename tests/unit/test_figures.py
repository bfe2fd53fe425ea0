"""Figures: Plotly takes every one of them, and merging dots loses no row."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("plotly", reason="needs: pip install 'perfmodel[dash]'")

from hypothesis import given
from hypothesis import strategies as st

import perfmodel as pm
from perfmodel import catalog
from perfmodel.planning.sensitivity import sensitivity
from perfmodel.report.figures.arena import arena_chart, latency_chart
from perfmodel.report.figures.base import CELL, COLOURS, heaps
from perfmodel.report.figures.compare import side_by_side, tornado
from perfmodel.report.figures.crossover import crossing
from perfmodel.report.figures.kernels import MOST_BARS, ladder, predicted_measured, residuals
from perfmodel.report.figures.plans import memory_stack, pareto
from perfmodel.report.figures.roofline import roofline
from perfmodel.report.kernels import timed_kernels
from perfmodel.report.roofs import ceilings, spots
from perfmodel.report.timed_mixers import timed_mixers
from perfmodel.validation import validate_files

PLACES = st.lists(st.tuples(st.floats(1e-7, 1e3), st.floats(1e-7, 1e3)), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def rows():
    """Every shipped measurement beside its prediction."""
    paths = [catalog.find("measured", name) for name in catalog.names("measured")]
    return [s for report in validate_files(paths) for s in report.scored]


def drawn_rooflines(rows):
    for name in ("h200-sxm", "stm32f746"):
        device = pm.device(name)
        answer = pm.estimate(pm.Gemm(m=64, n=64, k=64, dtype="int8"), device)
        mine = [r for r in rows if r.measurement.device == name]
        yield roofline(device, spots(answer), roofs=ceilings(device), measured=mine)


def drawn_timings(rows):
    timed = timed_kernels(rows)
    yield ladder([t for t in timed if t.sizes == timed[0].sizes])
    for some in (rows, rows[:10], []):
        yield residuals(some)
        yield from (predicted_measured(some, by=by) for by in ("scenario", "implementation"))


def drawn_answers(rows):
    plan = pm.plan("llama-3.1-8b", ["h200-sxm", "l4"], users=4, prompt=500, output=50)
    yield pareto(plan)
    yield memory_stack(plan.best.stack, plan.best.budget_bytes)
    crossover = pm.crossover("h200-sxm")
    dots = timed_mixers(rows)
    yield from (crossing(crossover, what, dots) for what in ("time", "memory", "cost"))
    copy = pm.Elementwise(elements=2**20, flops=0.0)
    yield side_by_side(pm.compare(copy, on=["h200-sxm", "l4"]))
    yield tornado("h200-sxm", sensitivity(pm.device("h200-sxm"), lambda d: pm.estimate(copy, d)))
    yield arena_chart(pm.arena("resnet8", "stm32l4r5"))
    yield latency_chart(pm.latency("resnet8", "stm32l4r5"))


@pytest.mark.parametrize("draw", [drawn_rooflines, drawn_timings, drawn_answers])
def test_plotly_takes_every_figure(draw, rows):
    """Every property of every figure is one that Plotly has; each figure says what it shows. The
    explorer relies on it: it sends figures as they are.
    """
    for picture in draw(rows):
        figure = picture.figure

        assert figure.layout.title.text
        assert len(picture.alt) > 20
        assert set(figure.to_dict()["layout"]) - {"template"} <= set(picture.spec["layout"])


@given(PLACES)
def test_heaps_hold_every_point_once(points):
    """Each point is in one heap, and no farther from where that is drawn than a cell is wide."""
    found = heaps(points)
    members = np.concatenate([h.members for h in found])
    logs = np.log10(points)

    assert sorted(members.tolist()) == list(range(len(points)))
    for heap in found:
        off = np.abs(logs[heap.members] - np.log10(heap.place))
        assert float(off.max()) <= CELL * (1 + 1e-9)


def test_a_heap_grows_with_its_points():
    """A dot of more points is larger, and points far apart are dots of their own."""
    one, many = heaps([(1.05, 1.05)]), heaps([(1.05, 1.05)] * 9)

    assert many[0].size > one[0].size
    assert many[0].place == pytest.approx((1.05, 1.05))
    assert len(heaps([(1.0, 1.0), (10.0, 1.0), (1.0, 10.0)])) == 3
    assert heaps([]) == []


def test_every_row_is_in_the_cloud(rows):
    """Of many rows, those outside their interval are drawn each; the text of the others counts
    them; names beyond the colours are told as others.
    """
    picture = predicted_measured(rows, by="implementation")
    clouds = picture.spec["data"][1:]
    texts = [t for c in clouds for t in c["text"]]
    counted = sum(int(t.split()[0]) if " rows: " in t else 1 for t in texts)
    drawn_open = sum(s.endswith("-open") for c in clouds for s in c["marker"]["symbol"])

    assert len(rows) > MOST_BARS
    assert counted == len(rows)
    assert drawn_open == sum(not r.inside for r in rows)
    assert len(clouds) == len(COLOURS)
    assert f"{len(rows)} timed rows" in picture.alt


def test_residuals_count_every_row(rows):
    """The bars of a histogram add up to the rows, by whether their interval holds."""
    inside, outside = residuals(rows).spec["data"]

    assert sum(inside["y"]) == sum(r.inside for r in rows)
    assert sum(outside["y"]) == sum(not r.inside for r in rows)
