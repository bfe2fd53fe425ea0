"""Errors: what they say, what a program reads from them, and the code a command ends with."""

import pytest

from perfmodel import errors
from perfmodel.errors import BadValue, MissingFile, PerfModelError, UnknownName, nearest_names


def test_text_names_field_and_fix():
    """The text is one message: the field, what is wrong, what to try."""
    error = BadValue("must be positive, got -1", field="batch", fix="1")

    assert str(error) == "batch: must be positive, got -1 (try: 1)"


def test_field_is_not_said_twice():
    """A message that names its field is not led by it again."""
    assert str(BadValue("--json excludes --csv", field="--csv")) == "--json excludes --csv"
    assert str(BadValue("must be positive", field="m")) == "m: must be positive"


def test_every_error_is_about_something():
    """Where no field is named, the class says what it is about."""
    assert MissingFile("no such file: x").field == "file"
    assert str(MissingFile("cannot read x")) == "file: cannot read x"


def test_unknown_name_offers_the_nearest():
    """What was meant is offered, whatever the case and separators."""
    error = UnknownName("device", "H100_SXM 80gb", ["h100-sxm-80gb", "t4"])

    assert error.nearest[0] == "h100-sxm-80gb"
    assert "did you mean h100-sxm-80gb" in str(error)
    assert error.field == "device"


def test_unknown_name_lists_when_nothing_is_near():
    """Without a near miss the known names are listed, cut where they are many."""
    few = UnknownName("op", "zzz", ["gemm", "conv"])
    many = UnknownName("op", "zzz", [f"name-{i}" for i in range(30)])

    assert "known: conv, gemm" in str(few)
    assert "(30 in all)" in str(many)
    assert "none exist" in str(UnknownName("op", "zzz", []))


def test_to_dict():
    """A program reads the class, the message, the field and the fix."""
    assert MissingFile("no such file: x", field="model", fix="a path").to_dict() == {
        "error": "MissingFile",
        "message": "no such file: x",
        "field": "model",
        "fix": "a path",
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("BadValue", 2),
        ("UnsupportedDtype", 2),
        ("ImpossibleSplit", 2),
        ("MalformedFile", 2),
        ("MissingFile", 3),
        ("MissingFigure", 3),
        ("MissingCalibration", 3),
        ("MissingExtra", 3),
    ],
)
def test_exit_codes(error, code):
    """2 where the question is badly posed, 3 where something named is absent."""
    assert getattr(errors, error)("x").exit_code == code


def test_standard_kin():
    """Callers may catch the standard library's class instead."""
    assert issubclass(BadValue, ValueError)
    assert issubclass(UnknownName, LookupError)
    assert issubclass(BadValue, PerfModelError)


def test_nearest_names_ignores_case_and_separators():
    """Spelling differences of case, dash, underscore and blank do not count."""
    assert nearest_names("LLAMA_3 8B", ["llama-3-8b", "qwen"]) == ["llama-3-8b"]
