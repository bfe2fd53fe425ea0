"""Units: what people write, and what they are told when it is wrong."""

from __future__ import annotations

import math

import pytest

from perfmodel.errors import BadValue
from perfmodel.units import BASE_UNIT, format_binary, format_si, parse, unit_factors


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("3.35 TB/s", "bandwidth", 3.35e12),
        ("3200 Gbit/s", "bandwidth", 400e9),
        ("80 GiB", "bytes", 80 * 2**30),
        ("80 GB", "bytes", 80e9),
        ("80GB", "bytes", 80e9),
        ("1.98 GHz", "frequency", 1.98e9),
        ("2s", "time", 2.0),
        ("50ms", "time", 0.05),
        ("2.43 us", "time", 2.43e-6),
        ("2.43 \u00b5s", "time", 2.43e-6),
        ("2.43 \u03bcs", "time", 2.43e-6),
        ("1.5 h", "time", 5400.0),
        ("312 TFLOP/s", "rate", 312e12),
        ("624 TOPS", "rate", 624e12),
        ("700 W", "power", 700.0),
        ("12.5 mW", "power", 0.0125),
        ("1.1 pJ/op", "energy_per_op", 1.1e-12),
        ("3.9 pJ/bit", "energy_per_byte", 31.2e-12),
        ("2.39 USD/h", "price", 2.39),
        ("128 B/clk", "bytes_per_clock", 128.0),
        ("4096 FLOP/clk", "ops_per_clock", 4096.0),
        ("87 %", "fraction", 0.87),
        ("132", "count", 132.0),
        (0.05, "time", 0.05),
        (16, "count", 16.0),
        ("1e3", "time", 1000.0),
    ],
)
def test_parse_reads(text, dimension, value):
    """Each spelling gives the SI float nearest to what is written (exact decimal scaling)."""
    assert parse(text, dimension, "x") == value


@pytest.mark.parametrize(
    ("bad", "dimension", "says"),
    [
        ("80 KB", "bytes", "'KB' is not a unit of bytes"),
        ("80 gb", "bytes", "kB, MB, GB"),
        ("1 GB", "time", "is not a unit of time"),
        ("10 parsec", "time", "ns, us, ms, s"),
        ("nan", "time", "not a quantity"),
        ("inf s", "time", "not a quantity"),
        (math.nan, "time", "finite"),
        (math.inf, "time", "finite"),
        (-1, "time", "negative"),
        ("-1 s", "time", "negative"),
        ("", "bytes", "not a quantity"),
        ("1 2 s", "time", "not a quantity"),
        ("1e999 s", "time", "absurdly large"),
        (10**400, "bytes", "absurdly large"),
        ("9" * 100, "bytes", "not a quantity"),
        ("1e99999999 s", "time", "not a quantity"),
        ("\u0664 s", "time", "not a quantity"),
        (True, "count", "not a quantity"),
        (None, "count", "not a quantity"),
        ([1], "count", "not a quantity"),
    ],
)
def test_parse_refuses(bad, dimension, says):
    """Every bad quantity is a BadValue naming the field, short enough for one line."""
    with pytest.raises(BadValue) as caught:
        parse(bad, dimension, "memory.dram")
    assert caught.value.field == "memory.dram"
    assert says in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (989.43e12, "FLOP/s", "989 TFLOP/s"),
        (0.05, "s", "50 ms"),
        (5400.0, "s", "5400 s"),
        (999.96e9, "B/s", "1 TB/s"),
        (-1.234e-5, "s", "-12.3 us"),
        (85_899_345_920, "B", "85.9 GB"),
        (2.39, "USD/h", "2.39 USD/h"),
        (1500.0, "USD/h", "1500 USD/h"),
        (0.87, "", "0.87"),
        (8_030_261_248, "", "8.03 G"),
        (0, "B", "0 B"),
        (math.inf, "s", "inf s"),
    ],
)
def test_format_si(value, unit, text):
    """Three significant digits, the fitting prefix, no trailing zeros."""
    assert format_si(value, unit) == text


def test_format_binary_never_says_gb():
    """Binary sizes carry the i: 80 GiB is 85,899,345,920 bytes."""
    assert format_binary(80 * 2**30) == "80 GiB"
    assert format_binary(512.0) == "512 B"
    assert parse(format_binary(227 * 2**10), "bytes", "x") == 227 * 1024


@pytest.mark.parametrize("dimension", list(BASE_UNIT))
def test_every_dimension_has_a_base_unit(dimension):
    """The SI unit itself is accepted, with factor one."""
    assert unit_factors(dimension)[BASE_UNIT[dimension]] == 1
