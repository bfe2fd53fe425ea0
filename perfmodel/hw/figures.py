"""How spec files write a figure: a quantity, or a table of it and where it comes from.

A figure is a quantity (``"3.35 TB/s"``, ``132``) or a table ``{ value, source, condition,
verified, reason }``. A figure that nobody could verify says ``verified = false`` and the
``reason``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainValidator,
    StringConstraints,
    ValidationError,
    model_validator,
)

from perfmodel.errors import BadValue
from perfmodel.hw.device import Figure
from perfmodel.units import BASE_UNIT, Dimension, parse

MOST_FRACTION = 1.5
"""A fraction of a peak above this was meant as a percentage or a rate."""


_DESCRIBE = "perfmodel.hw.spec" in sys.orig_argv
"""Field descriptions are for the schema that this command prints; reading them costs each start-up
20 ms."""


class Strict(BaseModel):
    """A table of a spec file: unknown fields are refused, values taken as they are written."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=_DESCRIBE,
        defer_build=True,
    )


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class FigureSpec(Strict):
    """One figure with its provenance; a plain quantity stands for ``{ value = quantity }``."""

    value: str | int | float
    """The quantity with its unit, or a number in SI units."""
    source: Text | None = None
    """An id of sources.toml; the file's own ``source`` if absent."""
    condition: Text | None = None
    """Under what condition, or by which formula."""
    verified: bool = True
    """False where no public source was at hand; then ``reason`` says where it comes from."""
    reason: Text | None = None
    """Why it is unverified, or why a quoted peak differs from the derived one."""

    @model_validator(mode="after")
    def _reasoned(self) -> FigureSpec:
        if not self.verified and not self.reason:
            msg = "an unverified figure needs a reason"
            raise ValueError(msg)
        if not self.verified and self.source:
            msg = "a figure has either a source or verified = false"
            raise ValueError(msg)
        return self


def _reader(dimension: Dimension, *, zero: bool = False) -> Callable[[Any], Figure]:
    def read(raw: Any) -> Figure:
        if isinstance(raw, Figure):
            return raw
        if isinstance(raw, bool) or not isinstance(raw, str | int | float | dict):
            msg = f"must be a quantity or a table with a value, got a {type(raw).__name__}"
            raise ValueError(msg)
        try:
            spec = FigureSpec.model_validate(raw if isinstance(raw, dict) else {"value": raw})
        except ValidationError as error:
            raise ValueError(first_error(error)[1]) from None
        return _figure(spec, dimension, zero=zero)

    return read


def _figure(spec: FigureSpec, dimension: Dimension, *, zero: bool) -> Figure:
    value = parse(spec.value, dimension, "")
    if value == 0 and not zero:
        msg = "must be positive"
        raise BadValue(msg)
    if dimension == "count" and (value != int(value) or value > 2**53):
        msg = f"must be a whole number, got {spec.value}"
        raise BadValue(msg)
    if dimension == "fraction" and value > MOST_FRACTION:
        msg = f"is not a fraction: {spec.value}"
        raise BadValue(msg, fix="0.87 or '87 %'")
    return Figure(
        value=value,
        unit=BASE_UNIT[dimension],
        text=str(spec.value),
        source=spec.source,
        condition=spec.condition,
        verified=spec.verified,
        reason=spec.reason,
    )


_INPUT: Any = str | int | float | FigureSpec
Count = Annotated[Figure, PlainValidator(_reader("count"), _INPUT)]
CountOrNone = Annotated[Figure, PlainValidator(_reader("count", zero=True), _INPUT)]
Frequency = Annotated[Figure, PlainValidator(_reader("frequency"), _INPUT)]
OpsPerClock = Annotated[Figure, PlainValidator(_reader("ops_per_clock"), _INPUT)]
Rate = Annotated[Figure, PlainValidator(_reader("rate"), _INPUT)]
Bytes = Annotated[Figure, PlainValidator(_reader("bytes"), _INPUT)]
BytesPerClock = Annotated[Figure, PlainValidator(_reader("bytes_per_clock"), _INPUT)]
Bandwidth = Annotated[Figure, PlainValidator(_reader("bandwidth"), _INPUT)]
Time = Annotated[Figure, PlainValidator(_reader("time"), _INPUT)]
Length = Annotated[Figure, PlainValidator(_reader("length"), _INPUT)]
Power = Annotated[Figure, PlainValidator(_reader("power"), _INPUT)]
Fraction = Annotated[Figure, PlainValidator(_reader("fraction"), _INPUT)]
HourlyPrice = Annotated[Figure, PlainValidator(_reader("price"), _INPUT)]

MEASURED: dict[str, Dimension] = {
    "_fraction": "fraction",
    "_bandwidth": "bandwidth",
    "_per_clk": "bytes_per_clock",
    "_latency": "time",
    "_cycles": "count",
    "_clock": "frequency",
    "_power": "power",
    "_rate": "rate",
    "_per_byte": "energy_per_byte",
    "_per_op": "energy_per_op",
    "_energy": "energy",
    "_bytes": "bytes",
}
"""What the end of a measured figure's name says about its dimension."""


def read_named(raw: Any) -> dict[str, Figure]:
    """A table of figures whose names end in what they are (raises ValueError naming the figure)."""
    if not isinstance(raw, dict):
        msg = "must be a table of figures"
        raise ValueError(msg)
    return {name: _read_one(name, value) for name, value in raw.items()}


def _read_one(name: str, value: Any) -> Figure:
    dimension = next((d for end, d in MEASURED.items() if name.endswith(end)), None)
    if dimension is None:
        msg = f"{name}: the name must end in one of {', '.join(MEASURED)}"
        raise ValueError(msg)
    try:
        return _reader(dimension)(value)
    except ValueError as error:
        msg = f"{name}: {error}"
        raise ValueError(msg) from None


NamedFigures = Annotated[
    dict[str, Figure], PlainValidator(read_named, dict[str, str | int | float | FigureSpec])
]


def first_error(error: ValidationError) -> tuple[str, str]:
    """Field path and message of the first problem that pydantic found."""
    details = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in details["loc"] if part != "[key]")
    message = details["msg"].removeprefix("Value error, ")
    return field, message[:1].lower() + message[1:]
