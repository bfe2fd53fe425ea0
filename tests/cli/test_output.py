"""One way to print an answer: JSON, CSV or tables and notes."""

import json

import numpy as np
import pytest

from perfmodel.cli._output import emit
from perfmodel.errors import BadValue
from perfmodel.report.tables import Column, Table

TABLE = Table(
    title="times",
    columns=(Column(key="name", title="name", right=False), Column(key="s", title="t", unit="s")),
    rows=({"name": "a", "s": 0.001},),
)
LONG = "note " * 100


def test_json_is_the_whole_answer(capsys):
    """NumPy values become plain ones; what JSON cannot say becomes null; text stays readable."""
    answer = {"x": np.float64(1.5), "y": [np.int64(2), float("inf")], "z": {"µ": float("nan")}}
    emit(answer, [TABLE], as_json=True)
    text = capsys.readouterr().out

    assert json.loads(text) == {"x": 1.5, "y": [2, None], "z": {"µ": None}}
    assert "µ" in text


def test_csv_is_the_first_table(capsys):
    """Raw values under their keys."""
    emit({}, [TABLE], as_csv=True)

    assert capsys.readouterr().out == "name,s\na,0.001\n"


def test_tables_and_notes(capsys):
    """People read tables, then notes; on a pipe nothing is wrapped, padded or coloured."""
    emit({}, [TABLE], notes=(LONG, "[x]"))
    lines = capsys.readouterr().out.splitlines()

    assert lines[0] == "times"
    assert any("1 ms" in line for line in lines)
    assert lines[-2:] == [LONG.rstrip(), "[x]"]
    assert all(line == line.rstrip() for line in lines)


def test_formats_exclude_each_other():
    """Both at once is badly posed."""
    with pytest.raises(BadValue, match="exclude"):
        emit({}, [TABLE], as_json=True, as_csv=True)
