"""``perfmodel doctor`` says what is there, what is missing, and how to get it."""

import csv
import io
import json
import re

import pytest

from perfmodel.cli import doctor, main


def test_json(capsys):
    """Versions, extras, spec folders with counts and devices seen."""
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)

    assert set(facts["extras"]) == {"dash", "host", "gpu", "edge", "hub", "dask", "docs"}
    assert facts["packages"]["numpy"]
    assert facts["specs"]["devices"] > 0
    assert facts["specs"]["models"] > 0


def test_calibration_is_dated(tmp_path, capsys):
    """Fitted parameters carry their date; assumed ones say that they are assumed."""
    folder = tmp_path / "calibration"
    folder.mkdir()
    (folder / "one.toml").write_text('[fit]\ndate = "2031-05-06"\n')
    (folder / "two.toml").write_text("[kinds]\n")
    main(["doctor", "--specs", str(tmp_path), "--json"])
    calibrated = json.loads(capsys.readouterr().out)["specs"]["calibrated"]
    main(["doctor", "--specs", str(tmp_path)])
    shown = capsys.readouterr().out

    assert (calibrated["one"], calibrated["two"]) == ("2031-05-06", None)
    assert "fitted 2031-05-06: one; " in shown
    assert re.search("assumed: .*two", shown)


def test_csv(capsys):
    """The same facts as rows."""
    assert main(["doctor", "--csv"]) == 0
    rows = {r["what"]: r["found"] for r in csv.DictReader(io.StringIO(capsys.readouterr().out))}

    assert "devices" in rows["specs"]


def test_missing_extra_shows_its_install_line(monkeypatch, capsys):
    """What is not installed comes with the line that installs it."""
    monkeypatch.setitem(doctor.EXTRAS, "dash", ("no_such_module_anywhere",))
    main(["doctor"])

    assert "pip install 'perfmodel[dash]'" in capsys.readouterr().out


def test_extras_are_those_of_the_package(root):
    """The extras looked for are the ones that pyproject.toml offers users."""
    import tomllib

    offered = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert set(doctor.EXTRAS) == set(offered["optional-dependencies"]) - {"dev"}


def test_own_specs_are_listed_first(tmp_path, capsys):
    """--specs DIR is in use while the command runs, and not after."""
    assert main(["doctor", "--json", "--specs", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["specs"]["folders"][0] == str(tmp_path)
    main(["doctor", "--json"])
    assert str(tmp_path) not in json.loads(capsys.readouterr().out)["specs"]["folders"]


def test_missing_specs_folder(tmp_path, capsys):
    """A folder that is not there is exit 3."""
    assert main(["doctor", "--specs", str(tmp_path / "none")]) == 3
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["exit 1", "echo 'NVIDIA H200, 595.00, 143771 MiB'"])
def test_gpus_come_from_the_driver_tool(tmp_path, monkeypatch, script):
    """GPUs are listed as nvidia-smi prints them; one that fails means none."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = doctor.examine()["gpus"]

    assert [g["name"] for g in seen] == ([] if "exit" in script else ["NVIDIA H200"])
