"""Tables: what people read, and what machines get."""

import csv
import io

import numpy as np
import pytest

from perfmodel.report.tables import Column, Table, plain

COLUMNS = (
    Column(key="device", title="device", right=False),
    Column(key="time_s", title="time", unit="s"),
    Column(key="fits", title="fits?"),
    Column(key="memory_bytes", title="memory", text=lambda b: f"{b / 2**30:g} GiB"),
)
ROWS = (
    {"device": "a|b", "time_s": 0.0123456, "fits": True, "memory_bytes": 2**31},
    {"device": "c", "time_s": None, "fits": False, "memory_bytes": 0},
)
TABLE = Table(title="answers", columns=COLUMNS, rows=ROWS)


def test_cells_have_units_and_three_digits():
    """A person reads a unit and three significant digits; what is absent is a dash."""
    assert TABLE.cells() == [["a|b", "12.3 ms", "yes", "2 GiB"], ["c", "-", "no", "0 GiB"]]


def test_records_are_raw():
    """JSON gets the raw values, in column order, None where absent."""
    assert TABLE.records() == [dict(row) for row in ROWS]


def test_csv_reads_back():
    """CSV holds full-precision raw values under their keys."""
    read = list(csv.DictReader(io.StringIO(TABLE.to_csv())))

    assert list(read[0]) == [c.key for c in COLUMNS]
    assert float(read[0]["time_s"]) == 0.0123456
    assert read[1]["time_s"] == ""


def test_markdown():
    """Markdown aligns numbers right and escapes the bar."""
    assert TABLE.to_markdown().splitlines() == [
        "| device | time | fits? | memory |",
        "| --- | ---: | ---: | ---: |",
        "| a\\|b | 12.3 ms | yes | 2 GiB |",
        "| c | - | no | 0 GiB |",
    ]


def test_rich_shows_markup_literally():
    """Text in square brackets is shown, not taken for markup."""
    from rich.console import Console

    table = Table(title="[x]", columns=(Column(key="a", title="[b]"),), rows=({"a": "[/c]"},))
    console = Console(width=40, record=True, file=io.StringIO())
    console.print(table.to_rich())
    shown = console.export_text()

    assert all(text in shown for text in ("[x]", "[b]", "[/c]"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "yes"),
        (np.bool_(False), "no"),
        (1024, "1,024"),
        (np.int64(7), "7"),
        (0.68349, "0.683"),
        (0.999999, "1.00"),
        (12345.6, "12,300"),
        (0.0, "0"),
        (-2.5, "-2.50"),
        (1.5e-7, "1.5e-07"),
        (float("inf"), "inf"),
        ("text", "text"),
    ],
)
def test_plain(value, shown):
    """Unitless values: thousands separated, floats to three significant digits."""
    assert plain(value) == shown
