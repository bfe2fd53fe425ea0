"""The base of all operators: arrays checked, stored read-only and broadcast."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue
from perfmodel.workload.dtypes import dtype_name

Size: TypeAlias = int | NDArray[Any]
"""A positive count: a number, or an array that broadcasts with the workload's other fields."""

Real: TypeAlias = float | NDArray[Any]
"""A finite number, or an array that broadcasts with the workload's other fields."""

Array: TypeAlias = np.float64 | NDArray[np.float64]
"""What formulas return: float64, zero-dimensional for a single point."""

MAX_SIZE = 2**53
"""Sizes above this cannot be told apart in float64, so they are refused as absurd."""


def check_size(value: object, field: str, *, least: int = 1) -> Size:
    """``value`` as an int, or as a read-only int64 array, if it is a count of at least ``least``.

    Raises:
        BadValue: not an integer, NaN, below ``least`` or above :data:`MAX_SIZE`.
    """
    array = _as_number(value, field)
    if not bool(np.all(np.isfinite(array))) or bool(np.any(array != np.floor(array))):
        msg = f"must be a whole number, got {shown(value)}"
        raise BadValue(msg, field=field, fix=f"an integer of at least {least}")
    if bool(np.any(array < least)):
        msg = f"must be at least {least}, got {shown(value)}"
        raise BadValue(msg, field=field, fix=f"an integer of at least {least}")
    if bool(np.any(array > MAX_SIZE)):
        msg = f"is absurdly large: {shown(value)}"
        raise BadValue(msg, field=field, fix="a size below 2**53")
    if np.ndim(array) == 0:
        return int(array)
    return _frozen(array.astype(np.int64))


def check_real(value: object, field: str, *, least: float = 0.0) -> Real:
    """``value`` as a float, or as a read-only float64 array, if finite and at least ``least``.

    Raises:
        BadValue: not a number, NaN, infinite or below ``least``.
    """
    array = _as_number(value, field).astype(np.float64)
    if not bool(np.all(np.isfinite(array))) or bool(np.any(array < least)):
        msg = f"must be a finite number of at least {least:g}, got {shown(value)}"
        raise BadValue(msg, field=field)
    return float(array) if np.ndim(array) == 0 else _frozen(array)


def one_size(value: object, field: str) -> int:
    """As :func:`check_size` for a single number."""
    size = check_size(value, field)
    return size if isinstance(size, int) else _refuse_array(field)


def one_real(value: object, field: str) -> float:
    """As :func:`check_real` for a single number."""
    number = check_real(value, field)
    return number if isinstance(number, float) else _refuse_array(field)


def one_above_zero(value: object, field: str) -> float:
    """As :func:`one_real`, more than zero."""
    number = one_real(value, field)
    if number <= 0:
        msg = f"must be more than zero, got {number:g}"
        raise BadValue(msg, field=field)
    return number


def _refuse_array(field: str) -> NoReturn:
    msg = "must be one number, got an array"
    raise BadValue(msg, field=field, fix="one call per value, or perfmodel.sweep")


def _as_number(value: object, field: str) -> NDArray[Any]:
    array = np.asarray(value)
    if isinstance(value, int) and array.dtype.kind == "O":  # beyond 64 bits
        msg = f"is absurdly large: {shown(value)}"
        raise BadValue(msg, field=field, fix="a size below 2**53")
    if array.dtype.kind not in "iuf" or array.size == 0:
        msg = f"must be a number or an array of numbers, got {shown(value)}"
        raise BadValue(msg, field=field)
    return array


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    owned = array.copy()
    owned.flags.writeable = False
    return owned


def shown(value: object) -> str:
    """A value as an error message shows it, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Workload:
    """Base of all operators. Subclasses name their size, data type and choice fields."""

    op: ClassVar[str] = ""
    """The operator's name on the command line and in files."""

    SIZES: ClassVar[dict[str, int]] = {}
    """Count fields and the least value of each."""

    DTYPES: ClassVar[tuple[str, ...]] = ()

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}

    FLAGS: ClassVar[tuple[str, ...]] = ()
    """Fields that are true or false."""

    def __post_init__(self) -> None:
        optional = (f.name for f in fields(self) if f.default is None)
        left_out = {name for name in optional if getattr(self, name) is None}
        for name, least in self.SIZES.items():
            if name not in left_out:
                self._set(name, check_size(getattr(self, name), name, least=least))
        for name in self.DTYPES:
            if name not in left_out:
                self._set(name, dtype_name(getattr(self, name), name))
        for name, allowed in self.CHOICES.items():
            self._check_choice(name, allowed)
        for name in self.FLAGS:
            self._check_flag(name)
        self._complete()
        self._check_broadcast()

    def _complete(self) -> None:
        """Fill defaults that depend on other fields and check how fields relate."""

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if not isinstance(value, str) or value not in allowed:
            msg = f"must be one of {', '.join(allowed)}, got {shown(value)}"
            raise BadValue(msg, field=name, fix=allowed[0])

    def _check_flag(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, bool):
            msg = f"must be true or false, got {shown(value)}"
            raise BadValue(msg, field=name, fix="true or false")

    def _check_broadcast(self) -> None:
        shapes = [np.shape(getattr(self, f.name)) for f in fields(self)]
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            arrays = {
                f.name: np.shape(getattr(self, f.name))
                for f in fields(self)
                if np.ndim(getattr(self, f.name))
            }
            msg = f"the arrays of {self.op} do not broadcast: {arrays}"
            raise BadValue(msg, field=next(iter(arrays))) from None

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape of all fields: ``()`` for a single point."""
        return np.broadcast_shapes(*(np.shape(getattr(self, f.name)) for f in fields(self)))

    def key(self) -> tuple[object, ...]:
        """A hashable identity: the op and every field (arrays by content)."""
        return (self.op, *(_hashable(getattr(self, f.name)) for f in fields(self)))

    def to_dict(self) -> dict[str, object]:
        """``{"op": ..., field: value}`` with arrays as lists, for JSON and TOML."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"op": self.op} | {
            k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()
        }


def _hashable(value: object) -> object:
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    return value


def check_divides(divisor: Size, whole: Size, field: str, of: str) -> None:
    """Refuse a ``field`` that does not divide the field ``of`` (raises BadValue)."""
    if bool(np.any(np.asarray(whole) % np.asarray(divisor))):
        msg = f"must divide {of}, got {shown(divisor)} for {of} = {shown(whole)}"
        raise BadValue(msg, field=field, fix=f"a divisor of {of}")
