"""Predictions beside measurements: the report's figures and the measured tables themselves."""

from __future__ import annotations

import json

import pytest

from perfmodel.cli import main
from perfmodel.measure import Measurement
from perfmodel.validation import Scored, errors, file_report, validate, validate_files

SERVING = "device,model,scenario,dtype,tp,batch,isl,osl,measured,unit\n"


def scored(measured, predicted, scenario="gemm", quantity="latency", flagged=False):
    m = Measurement(
        file="t.csv", line=1, source="", device="t4", scenario=scenario, quantity=quantity,
        value=measured, flagged=flagged,
    )  # fmt: skip
    return Scored(measurement=m, predicted=predicted, low=0.9 * predicted, high=1.1 * predicted)


def test_factor_is_symmetric():
    """Twice too much and twice too little are the same factor 2 and cancel in the bias."""
    found = errors([scored(1.0, 2.0), scored(1.0, 0.5)])

    assert found.factor == pytest.approx(2.0)
    assert found.bias == pytest.approx(1.0)
    assert found.mape == pytest.approx(0.75)
    assert found.coverage == 0.0


def test_launch_regime_and_throughput_are_groups_of_their_own():
    """Latency below 0.1 ms, above it, and throughput are never pooled; a file averages groups."""
    rows = [scored(1e-6, 2e-6), scored(1e-3, 1e-3), scored(10.0, 40.0, quantity="throughput")]
    report = file_report("t.csv", rows)

    assert set(report.groups) == {
        ("gemm", "< 0.1 ms"), ("gemm", ">= 0.1 ms"), ("gemm", "throughput"),
    }  # fmt: skip
    assert report.factor == pytest.approx((2.0 + 1.0 + 4.0) / 3)


def test_flagged_rows_are_reported_with_and_without():
    """A flagged row counts in one factor and not in the other."""
    report = file_report("t.csv", [scored(1.0, 1.0), scored(1.0, 4.0, flagged=True)]).to_dict()

    assert report["factor"] == pytest.approx(2.0)
    assert report["factor_unflagged"] == pytest.approx(1.0)


def test_refused_rows_are_counted_by_reason():
    """Nothing is dropped: rows = scored + refused, each refusal with its reason."""
    unknown = Measurement(
        file="t.csv", line=1, source="", device="abacus", scenario="gemm", quantity="latency",
        value=1.0,
    )  # fmt: skip
    report = file_report("t.csv", validate([unknown])).to_dict()

    assert report["rows"] == report["refused"] == 1
    assert report["refused_by_reason"] == {"unknown device abacus": 1}


def test_serving_composes_steps(tmp_path):
    """A static batch of one token per request is a prefill and one decode step."""
    from perfmodel.hw.load import load_device
    from perfmodel.models import timing
    from perfmodel.models.flow import Dtypes
    from perfmodel.models.hf import load_model

    table = tmp_path / "s.csv"
    row = "a100-sxm-80gb,llama-2-7b,static_batch_throughput,fp16,1,8,128,1,100,out tok/s/GPU\n"
    table.write_text(SERVING + row)
    (report,) = validate_files([table])
    shape, device = load_model("llama-2-7b"), load_device("a100-sxm-80gb")
    types = Dtypes(act="fp16", weight="fp16", kv="fp16")
    prefill = timing.step(shape, device, phase="prefill", batch=8, prompt=128, dtypes=types)
    decode = timing.step(shape, device, phase="decode", batch=8, context=129, dtypes=types)

    expected = 8 / float(prefill.time_s + decode.time_s)
    assert report.scored[0].predicted == pytest.approx(expected, rel=1e-12)
    assert report.scored[0].low < report.scored[0].predicted < report.scored[0].high


def test_python_and_command_line_agree(tmp_path, capsys):
    """``pm.validate`` returns the reports that the verb prints."""
    import perfmodel as pm

    table = tmp_path / "s.csv"
    table.write_text(SERVING + "a100-sxm-80gb,llama-2-7b,ttft_batch1,fp16,1,1,128,1,50,ms\n")
    assert main(["validate", str(table), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["files"] == [r.to_dict() for r in pm.validate(table)]


def test_cli_json(tmp_path, capsys):
    """The verb prints the keys that scripts rely on; a table that scores nothing exits 1."""
    table = tmp_path / "s.csv"
    table.write_text(SERVING + "abacus,llama-2-7b,ttft_batch1,fp16,1,1,128,1,1,ms\n")

    assert main(["validate", str(table), "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)["files"]
    keys = {"file", "rows", "scored", "refused", "refused_by_reason", "factor", "mape",
            "median_ape", "p90_ape", "coverage", "groups"}  # fmt: skip
    assert keys <= set(report)


@pytest.mark.data
def test_measured_tables_beat_the_plain_roofline(data_dir):
    """On every measured table the mean factor is below the naive roofline's."""
    reports = [r.to_dict() for r in validate_files(sorted(data_dir.glob("*.csv")))]
    compared = [r for r in reports if r["naive_factor"] is not None]

    assert compared
    for r in compared:
        assert r["factor"] < r["naive_factor"], r["file"]
