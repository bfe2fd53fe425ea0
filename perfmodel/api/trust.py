"""How far to trust an answer: beside measurements, and term by term."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfmodel.answer import Estimate
    from perfmodel.planning.answers import PlanAnswer
    from perfmodel.planning.memory import CapacityAnswer
    from perfmodel.validation import FileReport


def validate(*files: str | Path) -> list[FileReport]:
    """Predictions beside measurements, one report per file.

    Tidy CSV, pytest-benchmark JSON or Measurement JSON. ``report.factor`` is
    exp(mean |ln(predicted / measured)|), averaged over scenarios and time ranges; rows that cannot
    be predicted are counted in ``report.refused_by_reason``.

    Raises:
        BadValue: an argument is no path.
        MissingFile, MalformedFile: a file is absent or cannot be read.
    """
    from perfmodel.catalog import name_or_path
    from perfmodel.validation import validate_files

    return validate_files([Path(name_or_path(f, "file")) for f in files])


def explain(answer: Estimate | CapacityAnswer | PlanAnswer) -> str:
    """The derivation of an answer as text, from the terms that made it.

    Raises:
        BadValue: not an answer of this package.
    """
    from perfmodel.report.explain import explain as told

    return told(answer)
