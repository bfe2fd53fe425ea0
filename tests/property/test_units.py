"""Laws of units."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import BadValue
from perfmodel.units import BASE_UNIT, format_si, parse, unit_factors

VALUES = st.floats(min_value=1e-15, max_value=1e18, allow_nan=False, allow_infinity=False)


@given(VALUES, st.sampled_from(list(BASE_UNIT)))
def test_parse_inverts_format(value, dimension):
    """With 17 digits, what is printed reads back as the very same float."""
    unit = BASE_UNIT[dimension]
    text = format_si(value, unit, digits=17)
    # Counts and fractions print large values with a prefix for people; files write plain numbers.
    if unit or value < 1000:
        assert parse(text, dimension, "x") == value


@given(VALUES, st.sampled_from(sorted(set(BASE_UNIT.values()) - {""})))
def test_format_keeps_three_digits(value, unit):
    """The printed figure is within half a unit of its third digit."""
    dimension = next(d for d, u in BASE_UNIT.items() if u == unit)
    assert abs(parse(format_si(value, unit), dimension, "x") / value - 1) <= 0.005 + 1e-12


@given(VALUES, st.sampled_from(list(BASE_UNIT)))
def test_units_scale_linearly(value, dimension):
    """``x unit`` is ``x`` times ``1 unit`` for every unit of the dimension."""
    for unit in unit_factors(dimension):
        one = parse(f"1 {unit}", dimension, "x")
        assert abs(parse(f"{value!r} {unit}", dimension, "x") / (value * one) - 1) < 1e-14


@given(st.one_of(st.text(max_size=80), st.integers(), st.floats(), st.none(), st.booleans()))
def test_anything_is_read_or_refused(value):
    """No input whatever raises anything but BadValue, and what is read is finite and >= 0."""
    for dimension in list(BASE_UNIT):
        try:
            result = parse(value, dimension, "x")
        except BadValue:
            continue
        assert 0 <= result < float("inf")
