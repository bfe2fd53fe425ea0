"""``perfmodel devices`` and ``perfmodel show``."""

from __future__ import annotations

import csv
import io
import json

import pytest

from perfmodel.cli import main
from perfmodel.hw.load import device_names, load_device
from perfmodel.measure import Roof
from perfmodel.report.devices import promised_roof


def answer(capsys, *args):
    assert main([*args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_devices_lists_all(capsys):
    """Every device is listed with raw SI values."""
    rows = answer(capsys, "devices")
    assert [r["name"] for r in rows] == list(device_names())
    h100 = next(r for r in rows if r["name"] == "h100-sxm-80gb")
    assert h100["memory_bytes"] == 80 * 2**30
    assert h100["bf16_flop_per_s"] == pytest.approx(989.4e12, rel=1e-3)


def test_devices_of_a_kind(capsys):
    """--kind keeps one kind; an unknown kind is refused with those that exist."""
    rows = answer(capsys, "devices", "--kind", "mcu")
    assert {r["kind"] for r in rows} == {"mcu"}
    assert main(["devices", "--kind", "fpga"]) == 2
    assert "gpu" in capsys.readouterr().err


def test_devices_csv(capsys):
    """The same rows as CSV."""
    assert main(["devices", "--kind", "tpu", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {r["name"] for r in rows} == {"tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e"}


def test_show_prints_figures_with_their_source(capsys):
    """Each figure comes with unit, source, condition and what is unverified."""
    assert main(["show", "h100-sxm-80gb"]) == 0
    text = capsys.readouterr().out
    for part in ("3.35 TB/s", "hpctech-h100", "rating clock of the tensor peaks", "80 GiB"):
        assert part in text
    assert "unverified: no public source at hand" in text


def test_show_json(capsys):
    """Rates carry the ridge point, 989.4e12 / 3.35e12 = 295 FLOP/B, and 700 W / peak = 0.71 pJ."""
    sheet = answer(capsys, "show", "H100-SXM-80GB")
    bf16 = next(r for r in sheet["rates"] if (r["unit"], r["dtype"]) == ("tensor", "bf16"))
    assert bf16["ridge_per_byte"] == pytest.approx(295.3, rel=1e-3)
    assert bf16["least_j_per_op"] == pytest.approx(0.7075e-12, rel=1e-3)
    assert bf16["sustained_fraction"] == 0.803
    figures = {f["figure"]: f for f in sheet["figures"]}
    assert figures["compute.clock_tensor"]["value"] == 1.83e9
    assert {f["source"] for f in sheet["figures"] if f["verified"]} == {
        s["id"] for s in sheet["sources"]
    }
    assert len(sheet["unverified"]) == sum(not f["verified"] for f in sheet["figures"])


def test_show_measured_beside_the_datasheet(capsys, tmp_path):
    """Measured roofs stand beside what the datasheet promises, with clock and power."""
    (tmp_path / "measured").mkdir()
    roof = {"kind": "roof", "quantity": "dram_read", "value": 4.41e12, "unit": "B/s"}
    roof |= {"condition": {"bytes": 2**30}, "spread": 0.01, "sm_clock_hz": 1.98e9, "power_w": 500.0}
    header = {"schema": 1, "date": "2026-11-04", "device": {"name": "NVIDIA H200"}}
    text = json.dumps(header | {"measurements": [roof]})
    (tmp_path / "measured" / "h200-sxm-roofs.json").write_text(text)
    sheet = answer(capsys, "show", "h200", "--measured", "--specs", str(tmp_path))
    mine = [m for m in sheet["measured"] if m["date"] == "2026-11-04"]
    assert mine[0]["datasheet"] == 4.8e12
    assert mine[0]["fraction"] == pytest.approx(4.41 / 4.8)
    assert main(["show", "h200", "--measured", "--specs", str(tmp_path)]) == 0
    assert "4.41 TB/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("quantity", "unit", "promised"),
    [
        ("dram_copy", "B/s", 4.8e12),
        ("l2_read", "B/s", 5120 * 1.98e9),
        ("smem_read", "B/s", 128 * 132 * 1.98e9),
        ("tensor_bf16", "FLOP/s", 4096 * 132 * 1.83e9),
        ("fma_f32", "FLOP/s", 256 * 132 * 1.98e9),
        ("ex2_f32", "op/s", 16 * 132 * 1.98e9),
        ("dram_latency", "s", None),
        ("launch_graph", "s", None),
        ("tensor_int4", "OP/s", None),
        ("unheard_of", "B/s", None),
    ],
)
def test_promised_roofs(quantity, unit, promised):
    """What the datasheet promises for a measured quantity, None where it promises nothing."""
    roof = Roof(device="h200-sxm", quantity=quantity, value=1.0, unit=unit, date="2026")
    expected = None if promised is None else pytest.approx(promised)
    assert promised_roof(load_device("h200-sxm"), roof) == expected


def test_show_toml_is_a_spec(capsys, tmp_path):
    """--toml prints a spec file that loads again under another name."""
    assert main(["show", "a100-sxm-80gb", "--toml"]) == 0
    path = tmp_path / "my-a100.toml"
    path.write_text(capsys.readouterr().out)
    assert (
        answer(capsys, "show", str(path))["rates"]
        == answer(capsys, "show", "a100-sxm-80gb")["rates"]
    )


def test_show_energies(capsys):
    """A table of energies shows like a device's figures."""
    rows = answer(capsys, "show", "45nm")
    assert {"figure": "int8_mul_per_op", "source": "horowitz-2014"}.items() <= rows[3].items()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["show", "h1000-sxm"], 2, "did you mean"),
        (["show", "absent.toml"], 3, "no such file"),
        (["show", "t4", "--specs", "absent"], 3, "no such folder"),
        (["show", "t4", "--json", "--csv"], 2, "exclude"),
    ],
)
def test_refusals(capsys, args, code, says):
    """Bad names end in exit code 2, absent files in 3, each in one message."""
    assert main(args) == code
    assert says in capsys.readouterr().err
