"""The accuracy page: baselines, tables, and what it admits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from perfmodel.cli import main
from perfmodel.measure import Measurement
from perfmodel.report.accuracy_page import accuracy_page
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.validation import FileReport, Scored, file_report, validate_files
from perfmodel.validation.baseline import compare, two_parameters

HEADER = "source,device,op,dtype,m,n,k,batch,measured,unit,roofline,flag\n"
ROWS = (
    "lab,a100-sxm-80gb,gemm,bf16,4096,4096,4096,1,0.55,ms,0.44,\n"
    "lab,a100-sxm-80gb,gemm,bf16,64,4096,4096,1,0.03,ms,0.017,\n"
    "lab,h100-sxm-80gb,gemm,bf16,4096,4096,4096,1,0.2,ms,0.139,\n"
    "lab,abacus,gemm,bf16,4096,4096,4096,1,0.2,ms,0.139,\n"
)


def scored(measured, bound, predicted=None, quantity="latency", **more):
    m = Measurement(
        file="t.csv", line=1, source="", device="t4", scenario="gemm", quantity=quantity,
        value=measured, **more,
    )  # fmt: skip
    value = measured if predicted is None else predicted
    return Scored(measurement=m, predicted=value, low=0.9 * value, high=1.1 * value,
                  kernel_class="gemm", bound=bound)  # fmt: skip


def report(rows) -> FileReport:
    return file_report("t.csv", rows)


def test_two_parameters_recover_what_made_the_rows():
    """t = roof / 0.5 + 20 us is found exactly."""
    roofs = np.geomspace(1e-6, 1e-2, 30)
    rows = [scored(r / 0.5 + 2e-5, float(r)) for r in roofs]
    assert two_parameters(rows) == pytest.approx([r.measurement.value for r in rows], rel=1e-4)


def test_throughputs_have_one_parameter():
    """A rate below its roof by one share for all rows."""
    rows = [scored(0.6 * r, r, quantity="throughput") for r in (10.0, 100.0, 1000.0)]
    assert two_parameters(rows) == pytest.approx([6.0, 60.0, 600.0])


def test_baselines_stand_beside_the_model():
    """A perfect model has factor 1 where the roofline is off by 2."""
    (row,) = compare([report([scored(2 * r, r) for r in (1e-5, 1e-4, 1e-3)])])
    assert (row.kernel_class, row.device) == ("gemm", "t4")
    assert row.errors.factor == pytest.approx(1.0)
    assert row.roofline == pytest.approx(2.0)
    assert row.two_parameters == pytest.approx(1.0, abs=0.01)


def test_doubtful_rows_and_rows_without_a_roofline():
    """Flagged rows are left out; without a roofline there is no baseline."""
    (row,) = compare([report([scored(1.0, None), scored(1.0, 0.1, predicted=9.0, flagged=True)])])
    assert row.errors.rows == 1
    assert row.roofline is None
    assert row.two_parameters is None


def test_the_page_names_every_class_device_and_refusal(tmp_path):
    """Classes with one device are told as extrapolation, refusals with their reason."""
    table = tmp_path / "lab.csv"
    table.write_text(HEADER + ROWS)
    page = accuracy_page(validate_files([table]))
    for told in ("| gemm | a100-sxm-80gb | 2 |", "| gemm | h100-sxm-80gb | 1 |",
                 "1 rows refused: unknown device abacus", "is an extrapolation"):  # fmt: skip
        assert told in page
    for name in CLASS_MODELS:
        assert f"`{name}`" in page
    lines = page.splitlines()
    pairs = [(a, b) for a, b in itertools.pairwise(lines) if a[:1] == b[:1] == "|"]
    assert all(a.count("|") == b.count("|") for a, b in pairs)


def test_the_command_writes_the_page(tmp_path, capsys):
    """``--markdown`` beside the answer."""
    table, page = tmp_path / "lab.csv", tmp_path / "docs" / "accuracy.md"
    table.write_text(HEADER + ROWS)
    assert main(["validate", str(table), "--markdown", str(page), "--json"]) == 0
    capsys.readouterr()
    assert page.read_text().startswith("# Accuracy\n")
