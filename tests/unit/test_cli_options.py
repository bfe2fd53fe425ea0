"""What people type on a command line becomes counts, lists and quantities."""

import pytest

from perfmodel.cli import _options as options
from perfmodel.errors import BadValue


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("2048", 2048), ("8k", 8192), ("8K", 8192), ("1m", 2**20), (" 7 ", 7)],
)
def test_count(text, value):
    """k is 1024 and m 2**20, as context lengths are said."""
    assert options.count(text, "context") == value


@pytest.mark.parametrize(
    "text", ["", "k", "1.5", "-1", "1e3", "8kk", "many", "\uff11\uff12", "9" * 30]
)
def test_no_count(text):
    """Anything else is refused with an example."""
    with pytest.raises(BadValue, match="2k"):
        options.count(text, "context")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2,4", [1, 2, 4]),
        ("1..8", [1, 2, 4, 8]),
        ("1..9", [1, 2, 4, 8, 9]),
        ("1k..4k", [1024, 2048, 4096]),
        ("8..32:8", [8, 16, 24, 32]),
        ("1,4..16,5", [1, 4, 8, 16, 5]),
        ("3..3", [3]),
    ],
)
def test_counts(text, values):
    """Lists, doubling ranges that end where they are told, ranges in steps."""
    assert options.counts(text, "batch") == values


@pytest.mark.parametrize("text", ["8..1", "0..4", "1..8:0", "1..", "..8", "1,,2", "1..10000000:1"])
def test_no_counts(text):
    """Empty, endless or absurd ranges are refused by the axis's name."""
    with pytest.raises(BadValue) as caught:
        options.counts(text, "batch")

    assert caught.value.field == "batch"


def test_none_is_a_value_of_its_own():
    """``none`` turns a chunk or a page off; nothing typed is nothing."""
    assert options.optional_count("none", "chunk") is None
    assert options.optional_count(None, "chunk") is None
    assert options.optional_count("2k", "chunk") == 2048


def test_lists_of_names():
    """By commas, by repeating, or both."""
    assert options.several(["a,b", "c"]) == ["a", "b", "c"]
    assert options.words(None) is None


def test_quantities():
    """GB is not GiB; ms is not s."""
    assert options.quantity("80 GB", "bytes", "memory") == 80e9
    assert options.quantity("80 GiB", "bytes", "memory") == 80 * 2**30
    assert options.quantity("50ms", "time", "tpot") == 0.05
    assert options.quantity(None, "time", "tpot") is None
