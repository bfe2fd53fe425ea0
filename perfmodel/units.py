"""Text with a unit <-> SI floats: ``"3.35 TB/s"``, ``"80 GiB"``, ``"1.98 GHz"``, ``"50ms"``.

People and spec files write units; everything inside is SI (seconds, bytes, FLOP, Hz, joules).
GB is 1e9 bytes and GiB 2**30. Prefixes are case-sensitive, as in SI (mW is not MW). Scaling is
done in decimal, so that what is printed with enough digits reads back as the same float.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import cache
from typing import Literal, TypeAlias

from perfmodel.errors import BadValue

Dimension: TypeAlias = Literal[
    "time",
    "bytes",
    "bandwidth",
    "frequency",
    "rate",
    "power",
    "energy",
    "energy_per_op",
    "energy_per_byte",
    "charge",
    "voltage",
    "price",
    "bytes_per_clock",
    "ops_per_clock",
    "length",
    "fraction",
    "count",
]

BASE_UNIT: dict[Dimension, str] = {
    "time": "s",
    "bytes": "B",
    "bandwidth": "B/s",
    "frequency": "Hz",
    "rate": "FLOP/s",
    "power": "W",
    "energy": "J",
    "energy_per_op": "J/op",
    "energy_per_byte": "J/B",
    "charge": "C",
    "voltage": "V",
    "price": "USD/h",
    "bytes_per_clock": "B/clk",
    "ops_per_clock": "op/clk",
    "length": "m",
    "fraction": "",
    "count": "",
}
"""The SI unit of each dimension: what plain numbers mean and what :func:`parse` returns."""

_PREFIXES = {
    "p": -12, "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15,
}  # fmt: skip
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_BIT = Decimal("0.125")
_SPELLINGS: dict[Dimension, tuple[str, ...]] = {
    "rate": ("FLOP/s", "FLOPS", "OP/s", "OPS"),
    "energy_per_op": ("J/op", "J/FLOP", "J/MAC"),
    "ops_per_clock": ("op/clk", "FLOP/clk", "MAC/clk"),
}
_OTHERS: dict[Dimension, dict[str, Decimal]] = {
    "time": {"min": Decimal(60), "h": Decimal(3600)},
    "energy": {f"{p}Wh": 3600 * Decimal(10) ** e for p, e in _PREFIXES.items() if -3 <= e <= 3},
    "charge": {f"{p}Ah": 3600 * Decimal(10) ** e for p, e in _PREFIXES.items() if -6 <= e <= 3},
    "energy_per_byte": {f"{p}J/bit": 8 * Decimal(10) ** e for p, e in _PREFIXES.items()},
    "bandwidth": {f"{p}bit/s": _BIT * Decimal(10) ** e for p, e in _PREFIXES.items() if e >= 0},
    "price": {"$/h": Decimal(1)},
    "fraction": {"%": Decimal("0.01")},
}
_WHOLE = ("bytes", "bandwidth", "bytes_per_clock")
"""Dimensions that take binary prefixes, and none below one."""
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(\S*)\s*", re.ASCII)
_LARGEST = Decimal(10) ** 300
_MICRO = str.maketrans("\u00b5\u03bc", "uu")
_SHOWN_STEPS = {
    "s": (-12, 0),
    "USD/h": (0, 0),
    **dict.fromkeys(("", "B", "B/s", "B/clk", "op/clk"), (0, 15)),
}
"""Least and greatest power of ten that :func:`format_si` puts into the prefix."""


@cache
def unit_factors(dimension: Dimension) -> dict[str, Decimal]:
    """Every spelling that ``dimension`` accepts and its factor to the SI unit."""
    base = BASE_UNIT[dimension]
    least = 0 if dimension in _WHOLE else -12
    most = 0 if not base or dimension in ("price", "time") else 15
    factors = {
        f"{prefix}{spelling}": Decimal(10) ** exponent
        for spelling in _SPELLINGS.get(dimension, (base,))
        for prefix, exponent in _PREFIXES.items()
        if (least if base else 0) <= exponent <= most
    }
    if dimension in _WHOLE:
        factors |= {f"{p}{base}": Decimal(f) for p, f in _BINARY.items()}
    return factors | _OTHERS.get(dimension, {})


def parse(value: object, dimension: Dimension, field: str) -> float:
    """``value`` in SI: text with a unit, or a number that is in the SI unit already.

    Raises:
        BadValue: not a quantity, negative, NaN or infinite, or a unit of another dimension;
            names ``field`` and the units that it takes.
    """
    number = _decimal(value, dimension, field)
    if number < 0:
        msg = f"must not be negative, got {_shown(value)}"
        raise BadValue(msg, field=field)
    if number > _LARGEST:
        msg = f"is absurdly large: {_shown(value)}"
        raise BadValue(msg, field=field)
    return float(number)


def _decimal(value: object, dimension: Dimension, field: str) -> Decimal:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(value)
        if number.is_finite():
            return number
        msg = f"must be a finite number, got {value}"
        raise BadValue(msg, field=field)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) and len(value) <= 60 else None
    if match is None:
        msg = f"is not a quantity: {_shown(value)}"
        raise BadValue(msg, field=field, fix=_example(dimension))
    digits, unit = match[1], match[2].translate(_MICRO)
    factors = unit_factors(dimension)
    if unit and unit not in factors:
        msg = f"{unit[:20]!r} is not a unit of {dimension.replace('_', ' ')}"
        raise BadValue(msg, field=field, fix=_example(dimension))
    return Decimal(digits) * factors.get(unit, Decimal(1))


def _example(dimension: Dimension) -> str:
    units = [u for u in unit_factors(dimension) if u]
    return f"a number and a unit, one of {', '.join(units)}" if units else "a plain number"


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, int) else f"{Decimal(value):.6g}"
    return text if len(text) <= 60 else text[:57] + "..."


def format_si(value: float, unit: str, digits: int = 3) -> str:
    """``value`` with the decimal prefix that suits it: ``format_si(3.35e12, "B/s")`` is
    ``"3.35 TB/s"``. ``digits`` are significant; trailing zeros are dropped.
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g} {unit}".rstrip()
    rounded = Decimal(f"{value:.{digits - 1}e}")
    least, most = _SHOWN_STEPS.get(unit, (-12, 15))
    step = min(max(3 * (rounded.adjusted() // 3), least), most)
    prefix = next(p for p, e in _PREFIXES.items() if e == step)
    return f"{rounded.scaleb(-step).normalize():f} {prefix}{unit}".rstrip()


def format_binary(value: float, digits: int = 3) -> str:
    """Bytes with a binary prefix: ``format_binary(85_899_345_920)`` is ``"80 GiB"``."""
    prefix, factor = next(
        ((p, f) for p, f in reversed(_BINARY.items()) if abs(value) >= f), ("", 1)
    )
    return f"{value / factor:.{max(digits, 4)}g} {prefix}B"
