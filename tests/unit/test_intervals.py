"""Intervals: by regime, by distance from the data, by whether the device was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel import catalog
from perfmodel.calibration.heldback import Unseen
from perfmodel.calibration.intervals import covered_unseen, regime_quantiles
from perfmodel.hw.load import load_device
from perfmodel.roofline.choice import kernel_class
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.coverage import octaves_outside, spans_of
from perfmodel.roofline.model import Run
from perfmodel.roofline.parameters import class_parameters, distance
from perfmodel.roofline.residuals import Residuals
from perfmodel.roofline.time import estimate
from perfmodel.workload import (
    Attention,
    Collective,
    Conv,
    DeltaRule,
    Elementwise,
    Gemm,
    Norm,
    Ssd,
)

EXAMPLES = (
    *(Gemm(m=96, n=512, k=300, dtype=d) for d in ("bf16", "fp32", "int8")),
    Gemm(m=96, n=512, k=300, weight_dtype="int4"),
    *(
        Attention(batch=4, q_len=q, kv_len=4096, heads=32, kv_heads=8, head_dim=128)
        for q in (1, 512)
    ),
    *(DeltaRule(batch=2, seq_len=n, key_heads=4, key_dim=64, value_dim=64) for n in (1, 300)),
    Norm(rows=64, cols=4096),
    Elementwise(elements=10_000),
    Conv(in_channels=64, out_channels=64, width=300),
    Collective(bytes=1e6, ranks=4),
)


def widths(work, device="h200-sxm"):
    """Both ends of the interval, as log ratios to the estimate."""
    found = estimate(work, load_device(device))
    return np.log(found.time_s / found.low_s), np.log(found.high_s / found.time_s), found


def test_the_interval_widens_with_distance_from_the_data():
    """A size beyond the data widens the interval by every octave, and the answer says so."""
    inside = Gemm(m=4096, n=4096, k=4096, dtype="bf16")
    far = replace(inside, k=np.array([4096, 2**17, 2**18]))
    low, high, found = widths(far)
    assert np.all(np.diff(high) > 0)
    assert np.all(np.diff(low) >= 0)
    assert any("octaves" in a for a in found.assumptions)
    assert not any("octaves" in a for a in widths(inside)[2].assumptions)
    assert widths(inside)[1] == pytest.approx(high[0], rel=1e-12)


def test_the_interval_is_that_of_the_regime():
    """Rows that are not 16-byte aligned run kernels that the model knows less surely."""
    even, odd = (Gemm(m=4096, n=n, k=4096, dtype="bf16") for n in (4096, 4095))
    assert widths(odd)[1] > 1.2 * widths(even)[1]
    assert (
        estimate(odd, load_device("h200-sxm")).time_s
        > 2 * estimate(even, load_device("h200-sxm")).time_s
    )


def test_a_device_that_nobody_measured_has_the_wider_interval():
    """Held back by shape where the fit saw the device, by device where it did not."""
    work = Gemm(m=4096, n=4096, k=4096, dtype="bf16")
    known, new = widths(work, "h100-sxm-80gb"), widths(work, "l40s")
    assert known[0] + known[1] < new[0] + new[1]
    assert known[2].coverage == new[2].coverage == 0.9


@pytest.mark.parametrize("work", EXAMPLES, ids=kernel_class)
def test_no_prediction_knows_a_device_by_its_name(work):
    """Deleting a device's rows can change others through the pooled parameters alone: a time is a
    function of the spec's figures and of parameters that name no device."""
    model = CLASS_MODELS[kernel_class(work)]
    device = load_device("a100-sxm-80gb")
    renamed = replace(device, name="another", title="Another", aliases=())
    values = {p.name: p.start for p in model.parameters}
    for run in (Run(), Run(launch="eager"), Run(launch="stream", warm=True)):
        first, second = (model.predict(work, d, values, run).time_s for d in (device, renamed))
        assert first == second


def test_no_parameter_is_named_after_a_device():
    """Neither a class's declaration nor a fitted file ties a value to one device."""
    devices = {d.split("-")[0] for d in catalog.names("hw") if not d.startswith("_")}
    for model in CLASS_MODELS.values():
        for p in model.parameters:
            assert not devices & set(p.name.split("_"))


@given(octaves=st.floats(0.0, 12.0), size=st.integers(1, 2**20))
def test_octaves_outside(octaves, size):
    """A size k octaves above the data's greatest lies k octaves outside, inside it lies none."""
    seen = spans_of([Gemm(m=1, n=1, k=1), Gemm(m=size, n=size, k=size)])
    spans = {op: {k: (v[0], v[1]) for k, v in own.items()} for op, own in seen.items()}
    assert octaves_outside(Gemm(m=size, n=1, k=size), spans) == {}
    beyond = octaves_outside(Gemm(m=size * 2**12, n=1, k=1), spans)
    assert beyond["m"] == pytest.approx(12.0)


@given(widening=st.floats(1.0, 5.0), low=st.floats(0.2, 1.0), high=st.floats(1.0, 5.0))
def test_widening_never_narrows(widening, low, high):
    """An interval stretched on the log scale contains the one it came from, and the estimate."""
    told = Residuals(coverage=0.9, low=low, high=high, regimes={"odd": (low / 2, high * 2)})
    names = np.array(["work", "odd"])
    below, above = told.factors(names, np.float64(widening))
    first, last = told.factors(names, np.float64(1.0))
    assert np.all(below <= first)
    assert np.all(above >= last)
    assert np.all(below <= 1.0)
    assert np.all(above >= 1.0)
    assert below[1] < below[0] or low == 1.0


def test_regimes_of_their_own_cover_what_a_pooled_interval_does_not():
    """Rows of which a tenth is ten times as uncertain: folds held back are covered in each."""
    rng = np.random.default_rng(5)
    odd = np.arange(2000) % 10 == 0
    ratios = np.exp(rng.normal(0.0, np.where(odd, 1.0, 0.1)))
    regimes, folds = np.where(odd, "odd", "even"), np.arange(2000) % 4
    inside = covered_unseen(ratios, regimes, folds.astype(str))
    assert inside[odd].mean() == pytest.approx(0.9, abs=0.05)
    assert inside[~odd].mean() == pytest.approx(0.9, abs=0.03)
    alone = covered_unseen(ratios, np.full(2000, ""), folds.astype(str))
    assert alone[odd].mean() < 0.5


def test_few_rows_of_a_regime_share_the_pooled_interval():
    """Nineteen residuals are too few for a tail of one in twenty."""
    found = regime_quantiles(np.ones(49), np.array(["a"] * 30 + ["b"] * 19))
    assert set(found) == {"a"}


def test_few_devices_widen_the_interval_of_another():
    """The less devices were measured, the wider; never for one of them, never below their own."""
    told = distance()
    factors = [told.unseen_device(n) for n in range(1, 9)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == 1.0
    work = Gemm(m=4096, n=4096, k=4096, dtype="fp8")
    known, new = widths(work, "h200-sxm"), widths(work, "h100-sxm-80gb")
    assert any("not among them" in a for a in new[2].assumptions)
    assert not any("not among them" in a for a in known[2].assumptions)
    assert new[0] + new[1] > known[0] + known[1]


def test_devices_that_were_not_held_back_stand_for_one():
    """Three devices timed chunked mixers, but each its own: nothing says how one tells another."""
    w = Ssd(batch=1, seq_len=8192, heads=64, head_dim=64, state=128, groups=1)
    fitted = class_parameters("recurrent_chunk")
    assert len(fitted.devices) > 1
    assert fitted.residuals.held_back != "device"
    assert any("not among them" in a for a in estimate(w, load_device("l40s")).assumptions)


def test_a_new_device_is_covered_by_the_stretched_interval():
    """Two devices, each off by its own bias: what one says of the other needs the stretch."""
    rng = np.random.default_rng(3)
    folds = np.repeat(["a", "b"], 500)
    ratios = np.exp(rng.normal(np.where(folds == "a", -0.05, 0.05), 0.1))
    regimes = np.full(1000, "work")
    bare = covered_unseen(ratios, regimes, folds).mean()
    wide = covered_unseen(ratios, regimes, folds, few=np.full(1000, 2.4)).mean()
    assert bare < 0.8
    assert wide > 0.95


def unseen(rounding):
    """As many rows as roundings, alike but for them."""
    same = np.full(len(rounding), "a")
    return Unseen(
        ratios=np.arange(1.0, 1.0 + len(rounding)), regimes=same, folds=same, devices=same,
        rounding=np.array(rounding),
    )  # fmt: skip


def test_rows_that_a_table_rounds_away_tell_no_interval():
    """A microsecond to the microsecond may be half as much again; without finer rows all count."""
    assert unseen([0.0, 0.5, 0.05, 0.2]).precise.ratios.tolist() == [1.0, 3.0]
    assert unseen([0.5, 0.2]).precise.ratios.tolist() == [1.0, 2.0]


def test_long_work_has_its_own_interval_where_rows_are_enough():
    """Twenty residuals of either kind, of several devices, part them; fewer share one, and are
    looked up in it."""
    rng = np.random.default_rng(7)
    ratios = np.exp(rng.normal(0.0, np.repeat([0.3, 0.05], 60)))
    kinds = np.repeat(["work", "long"], 60)
    apart = regime_quantiles(ratios, kinds)
    assert apart["long"].high < apart["work"].high
    assert set(regime_quantiles(ratios, kinds, devices=np.full(120, "only"))) == {"work"}
    assert set(regime_quantiles(ratios, kinds, devices=np.resize(["a", "b"], 120))) == {*apart}
    few = regime_quantiles(ratios[:70], kinds[:70])
    assert set(few) == {"work"}
    assert few["work"].rows == 70
    shared = Residuals(coverage=0.9, low=0.5, high=2.0, regimes={"work": (0.8, 1.2)})
    ends = shared.factors(np.array(["long", "work"]), np.ones(2), unseen=2.5)
    assert ends[1].tolist() == pytest.approx([1.2, 1.2])
