"""``perfmodel arena``: exit codes, formats, options."""

from __future__ import annotations

import csv
import io
import json

import pytest

from perfmodel.cli import main


def ask(capsys, *args):
    code = main(["arena", *args])
    return code, *capsys.readouterr()


def test_it_fits(capsys):
    """A network that fits: exit code 0, a verdict first, savings and chart below."""
    code, out, _ = ask(capsys, "mcuformer:dim=216,heads=4,patch=16", "--on", "stm32f746")

    assert code == 0
    assert out.startswith("mcuformer on stm32f746: fits")
    assert "token overwriting" in out
    assert "in external flash" in out


def test_it_does_not_fit(capsys):
    """One that does not: exit code 1 and the whole answer all the same."""
    options = ["--no-fuse", "--no-stream", "--no-overwrite", "--json"]
    code, out, _ = ask(capsys, "mcuformer", "--on", "stm32f746", *options)
    told = json.loads(out)

    assert code == 1
    assert told["fits"] is False
    assert told["suggestions"]
    assert [m["move"] for m in told["moves"]] == ["none", "inplace", "reorder"]


def test_csv_lists_every_buffer(capsys):
    """The CSV has a row for each buffer."""
    code, out, _ = ask(capsys, "resnet8", "--on", "stm32f746", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))

    assert code == 0
    assert {"buffer", "memory", "offset", "bytes", "first", "last"} <= set(rows[0])


def test_options_reach_the_plan(capsys):
    """Rows, reserve, code and alignment change the answer as they say."""
    options = ["--rows", "4", "--reserve", "10 KiB", "--code", "1 KiB", "--align", "64", "--json"]
    _, out, _ = ask(capsys, "ds-cnn", "--on", "stm32f746", *options)
    told = json.loads(out)
    reserve = {m["memory"]: m["reserve_bytes"] for m in told["memories"]}

    assert (reserve["sram"], reserve["flash"]) == (10_240, 1024)
    assert all(p["offset"] % 64 == 0 for p in told["offsets"])


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["resnet9", "--on", "stm32f746"], 2),
        (["resnet8", "--on", "t4"], 2),
        (["resnet8", "--on", "stm32f746", "--patch", "0"], 2),
        (["resnet8", "--on", "stm32f746", "--align", "x"], 2),
        (["mcuformer:dim=0", "--on", "stm32f746"], 2),
        (["absent.tflite", "--on", "stm32f746"], 3),
    ],
)
def test_refusals(capsys, args, code):
    """Badly posed questions end in one message and exit code 2, absent files in 3."""
    found, _, err = ask(capsys, *args)

    assert found == code
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_damaged_file(capsys, tmp_path):
    """A file that is no model ends in exit code 2 and one message."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x07junk" * 50)
    code, _, err = ask(capsys, str(path), "--on", "stm32f746")

    assert code == 2
    assert "not a valid ONNX file" in err
