"""Fits, intervals and calibration files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.calibration.calibrate import class_table, read_rows
from perfmodel.calibration.dataset import gather
from perfmodel.calibration.files import to_toml, write_class
from perfmodel.calibration.fit import fit
from perfmodel.calibration.heldback import SPLITS, ratios_by, unseen_rows
from perfmodel.calibration.intervals import conformal_quantiles
from perfmodel.catalog import read_toml
from perfmodel.cli import main
from perfmodel.errors import BadValue, MissingCalibration, MissingFile
from perfmodel.files import write_atomically
from perfmodel.measure import Measurement
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.workload import Elementwise, Norm

TRUE = {"fixed_clk": 3000.0, "dram_fraction": 0.8}


def timed(m, value):
    """The same row with another measured time."""
    return Measurement(**{s: getattr(m, s) for s in m.__slots__} | {"value": value})


def synthetic(device="h100-sxm-80gb", file="a.csv", rows=40, noise=0.0, seed=0):
    """Norms timed by the class model itself under known parameters, with log-normal noise."""
    rng = np.random.default_rng(seed)
    model = CLASS_MODELS["pointwise"]
    made = []
    for i in range(rows):
        w = Norm(rows=int(2 ** rng.uniform(0, 16)), cols=int(2 ** rng.uniform(6, 14)))
        m = Measurement(
            file=file, line=i, source="synthetic", device=device, scenario="norm",
            quantity="latency", value=1.0, workload=w,
        )  # fmt: skip
        (group,) = gather([m])
        value = group.predicted_s(model.start | TRUE)[0] * np.exp(noise * rng.standard_normal())
        made.append(
            Measurement(**{s: getattr(m, s) for s in m.__slots__} | {"value": float(value)})
        )
    return made


def test_fit_recovers_what_made_the_data():
    """Noise-free times give back what made them: the launch, and bytes per bandwidth (norms alone
    cannot tell one from the other).
    """
    found = fit(CLASS_MODELS["pointwise"], gather(synthetic()))

    made = CLASS_MODELS["pointwise"].start | TRUE
    traffic = found.values["norm_element_bytes"] / found.values["dram_fraction"]
    assert found.factor == pytest.approx(1.0, abs=2e-3)
    assert found.values["fixed_clk"] == pytest.approx(3000.0, rel=0.03)
    assert traffic == pytest.approx(made["norm_element_bytes"] / made["dram_fraction"], rel=0.03)


def test_fit_is_deterministic():
    """The same rows give the same values."""
    groups = gather(synthetic(noise=0.1))
    first, second = (fit(CLASS_MODELS["pointwise"], groups).values for _ in range(2))

    assert first == second


def test_fit_stays_in_the_physical_range():
    """Times far below what physics allows cannot push a fraction above its bound."""
    rows = [timed(m, m.value / 50) for m in synthetic()]
    found = fit(CLASS_MODELS["pointwise"], gather(rows))

    for p in CLASS_MODELS["pointwise"].parameters:
        assert p.low <= found.values[p.name] <= p.high


def test_unseen_parameter_is_flagged():
    """No eager row: the eager overhead is not identified; the launch cycles are."""
    found = fit(CLASS_MODELS["pointwise"], gather(synthetic(noise=0.02)))

    assert not found.identified["eager_s"]
    assert found.identified["fixed_clk"]


def test_fit_without_rows_is_refused():
    """Nothing to fit on is missing data."""
    with pytest.raises(MissingCalibration):
        fit(CLASS_MODELS["pointwise"], [])


def test_held_back_rows_are_predicted_without_themselves():
    """By device: two devices made by the same law predict each other; one alone cannot."""
    both = gather(synthetic("h100-sxm-80gb", "a.csv") + synthetic("a100-sxm-80gb", "b.csv", seed=1))
    model = CLASS_MODELS["pointwise"]
    ratios = ratios_by(model, both, SPLITS["device"])

    assert ratios is not None
    assert np.exp(np.mean(np.abs(np.log(ratios)))) < 1.05
    assert ratios_by(model, both[:1], SPLITS["device"]) is None


@given(st.integers(1, 400), st.floats(0.5, 0.99), st.integers(0, 10**6))
def test_conformal_interval_covers_its_own_residuals(n, coverage, seed):
    """At least the wanted share lies inside when there are enough residuals; low <= high."""
    r = np.exp(np.random.default_rng(seed).normal(size=n))
    q = conformal_quantiles(r, coverage)

    assert q.low <= q.high
    covered = np.mean((r >= q.low) & (r <= q.high))
    assert covered >= min(coverage, (n - 1) / n) - 2 / n


@pytest.mark.parametrize("ratios", [[], [0.0], [-1.0], [np.nan], [np.inf]])
def test_bad_residuals(ratios):
    """Ratios must be positive and finite."""
    with pytest.raises(BadValue):
        conformal_quantiles(np.array(ratios))


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, 2.0])
def test_bad_coverage(coverage):
    """A coverage lies strictly between 0 and 1."""
    with pytest.raises(BadValue):
        conformal_quantiles(np.ones(5), coverage)


def test_toml_round_trip(tmp_path):
    """What is written is what the catalog reads."""
    table = {"a": 1.5, "b": {"c/d e": {"x": True, "y": ['q"uote', "z"]}}, "n": 3}
    path = tmp_path / "t.toml"
    write_atomically(path, to_toml(table))

    assert read_toml(path) == table


def test_unchanged_fit_is_not_rewritten(tmp_path):
    """A second run on the same data leaves the file, its date included."""
    table = class_table(CLASS_MODELS["pointwise"], gather(synthetic(rows=25, noise=0.05)))
    path = tmp_path / "pointwise.toml"

    assert write_class(path, table, "2026-01-01")
    before = path.read_bytes()
    assert not write_class(path, table, "2026-02-02")
    assert path.read_bytes() == before


def test_an_operator_of_one_device_is_not_asked_of_the_others():
    """Norms that both devices timed predict each other; adds of one of them stand alone."""
    rows = synthetic("h100-sxm-80gb", "a.csv") + synthetic("a100-sxm-80gb", "b.csv", seed=1)
    adds = [
        Measurement(
            file="a.csv",
            line=i,
            source="synthetic",
            device="h100-sxm-80gb",
            scenario="add",
            quantity="latency",
            value=1e-3,
            workload=Elementwise(elements=1 << (10 + i)),
        )
        for i in range(10)
    ]
    model, groups = CLASS_MODELS["pointwise"], gather(rows + adds)
    by_device = unseen_rows(model, groups, "device")
    by_shape = unseen_rows(model, groups, "shape")
    assert by_device is not None
    assert by_shape is not None
    assert (by_device.ratios.size, by_shape.ratios.size) == (len(rows), len(rows + adds))


def test_a_class_of_one_shape_is_left_out():
    """Nothing can be held back of it, so no interval could be told."""
    one = synthetic(rows=1)
    assert class_table(CLASS_MODELS["pointwise"], gather(one * 8)) is None


def test_folder_without_tables(tmp_path):
    """An empty folder is missing data."""
    with pytest.raises(MissingFile):
        read_rows([tmp_path])


def test_one_class_can_be_fitted_alone(tmp_path, capsys):
    """The named class and no other; an unknown one is refused before anything is fitted."""
    rows = "source,device,op,dtype,m,n,measured,unit\n" + "".join(
        f"t,T4,relu,fp32,{1 << i},4096,{0.01 + 1e-4 * 2**i},ms\n" for i in range(6, 12)
    )
    (tmp_path / "rows.csv").write_text(rows)
    out = tmp_path / "fitted"
    asked = ["calibrate", "--data", str(tmp_path), "--out", str(out)]
    assert main([*asked, "--only", "pointwise"]) == 0
    assert [f.name for f in out.glob("*.toml")] == ["pointwise.toml"]
    assert main([*asked, "--only", "pointwize"]) == 2
    assert "did you mean pointwise" in capsys.readouterr().err
