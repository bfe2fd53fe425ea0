"""Every error this package raises on purpose.

::

    PerfModelError
    ├── BadInput            (exit code 2: the question is badly posed)
    │   ├── BadValue        a field out of range, of the wrong type, NaN, unknown unit
    │   ├── UnknownName     no such device, model, op, kernel; carries the nearest names
    │   ├── UnsupportedDtype  the device has no such rate
    │   ├── ImpossibleSplit   a parallel split that the model's shape forbids
    │   └── MalformedFile   a file that cannot be read as what it should be
    └── MissingData         (exit code 3: something named is absent)
        ├── MissingFile     a named file does not exist
        ├── MissingFigure   a spec lacks a figure that the question needs
        ├── MissingCalibration  no fitted parameters for this kernel class
        └── MissingExtra    an optional dependency is not installed

"The answer is no" (a model that does not fit, a plan that nothing satisfies) is an answer,
not an error: exit code 1 with the full result.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import ClassVar


class PerfModelError(Exception):
    """Base of all errors raised on purpose; its text is one message fit for a user.

    Args:
        message: what is wrong, naming what was asked.
        field: the input it is about (``"batch"``, ``"compute.clock_hz"``); the class's
            ``about`` where none is named.
        fix: what to try instead; printed after ``try:``.
    """

    exit_code = 2
    about: ClassVar[str | None] = None

    def __init__(self, message: str, *, field: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field or self.about
        self.fix = fix

    def __str__(self) -> str:
        hint = f" (try: {self.fix})" if self.fix else ""
        return f"{self.headline}{hint}"

    @property
    def headline(self) -> str:
        """The message, led by its field where it does not name it already."""
        if self.field is None or re.search(_whole_word(self.field), self.message):
            return self.message
        return f"{self.field}: {self.message}"

    def to_dict(self) -> dict[str, str | None]:
        """The error as JSON-ready data: ``error, message, field, fix``."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "field": self.field,
            "fix": self.fix,
        }


class BadInput(PerfModelError):
    """The question is badly posed."""

    exit_code = 2


class BadValue(BadInput, ValueError):
    """A field out of range, of the wrong type, NaN, or with an unknown unit."""


class UnknownName(BadInput, LookupError):
    """A name that nothing answers to.

    Args:
        kind: what was looked up (``"device"``, ``"model"``).
        name: what was asked for.
        known: the names that exist; the nearest are offered.
    """

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, fix: str | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        self.nearest = tuple(nearest_names(name, self.known))
        offer = f"did you mean {', '.join(self.nearest)}?" if self.nearest else _listed(self.known)
        super().__init__(f"unknown {kind} {name!r}; {offer}", field=kind, fix=fix)


class UnsupportedDtype(BadInput):
    """The device has no rate for this data type."""

    about = "dtype"


class ImpossibleSplit(BadInput):
    """A parallel split that the model's shape or the node forbids."""

    about = "split"


class MalformedFile(BadInput):
    """A file that cannot be read as what it should be."""

    about = "file"


class MissingData(PerfModelError):
    """Something the question names is absent."""

    exit_code = 3


class MissingFile(MissingData):
    """A named file does not exist or cannot be opened."""

    about = "file"


class MissingFigure(MissingData):
    """A spec lacks a figure that the question needs."""

    about = "device"


class MissingCalibration(MissingData):
    """No fitted parameters for this kernel class."""

    about = "calibration"


class MissingExtra(MissingData):
    """An optional dependency is not installed; ``fix`` is the install line."""

    about = "extra"


def nearest_names(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The ``n`` known names closest in spelling to ``name`` (case and separators ignored)."""
    folded = {_fold(k): k for k in known}
    return [folded[m] for m in difflib.get_close_matches(_fold(name), folded, n=n, cutoff=0.5)]


def _whole_word(text: str) -> str:
    return rf"(?<![\w-]){re.escape(text)}(?![\w-])"


def _fold(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


def _listed(known: tuple[str, ...], most: int = 12) -> str:
    tail = f", … ({len(known)} in all)" if len(known) > most else ""
    return f"known: {', '.join(known[:most])}{tail}" if known else "none exist"
