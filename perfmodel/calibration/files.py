"""Calibration files: fitted classes as TOML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfmodel.catalog import read_toml
from perfmodel.files import toml_key, toml_value, write_atomically

DIGITS = 5
"""Significant digits kept: below any parameter's standard error, above platforms' differences."""


def rounded(value: float) -> float:
    """``value`` to the digits that calibration files keep."""
    return float(f"{value:.{DIGITS}g}")


def write_class(path: Path, table: Mapping[str, Any], date: str) -> bool:
    """Write one class's file with ``fit.date``; leave it alone where only the date would change.

    Returns whether the file was written.
    """
    if path.is_file():
        dated = str(read_toml(path).get("fit", {}).get("date", ""))
        if path.read_text(encoding="utf-8") == to_toml(_dated(table, dated)):
            return False
    write_atomically(path, to_toml(_dated(table, date)))
    return True


def to_toml(table: Mapping[str, Any]) -> str:
    """Nested mappings of strings, numbers, booleans and lists of strings as TOML."""
    return "\n".join(_section((), table)).strip() + "\n"


def _dated(table: Mapping[str, Any], date: str) -> dict[str, Any]:
    return {**table, "fit": {**table["fit"], "date": date}}


def _section(path: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    leaves = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    lines = [f"\n[{'.'.join(toml_key(p) for p in path)}]"] if path and leaves else []
    lines += [f"{toml_key(k)} = {toml_value(v)}" for k, v in leaves.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _section((*path, key), value)
    return lines
