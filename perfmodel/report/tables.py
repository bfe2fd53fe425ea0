"""A small table, built once and shown as rich text, CSV, JSON records or Markdown.

People read numbers with a unit and three significant digits; machines get the raw SI values
under keys whose ending names the unit.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.units import format_si

if TYPE_CHECKING:
    import rich.table

ABSENT = "-"
PROSE = 36
"""Characters beyond which a page breaks a cell into lines."""
DIGITS = 3
"""Significant digits that people read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: ``key`` into the rows and in machine output, ``title`` for people.

    A value is shown with the SI prefix that suits its ``unit``, or as ``text`` turns it into
    words (``perfmodel.units.format_binary`` for GiB), or plainly. None is shown as ``-``.
    """

    key: str
    title: str
    unit: str | None = None
    text: Callable[[Any], str] | None = None
    right: bool = True

    def cell(self, row: Mapping[str, Any]) -> str:
        """What a person reads in this column of ``row``."""
        value = row.get(self.key)
        if value is None:
            return ABSENT
        if self.text is not None:
            return self.text(value)
        return plain(value) if self.unit is None else format_si(float(value), self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of raw values and how to show them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    caption: str | None = None

    def records(self) -> list[dict[str, Any]]:
        """The rows as JSON-ready dictionaries of raw values, in column order."""
        return [{c.key: row.get(c.key) for c in self.columns} for row in self.rows]

    def cells(self) -> list[list[str]]:
        """The rows as people read them."""
        return [[c.cell(row) for c in self.columns] for row in self.rows]

    def to_csv(self) -> str:
        """Raw values as CSV with a header of keys; an absent value is an empty field."""
        out = io.StringIO()
        writer = csv.DictWriter(out, [c.key for c in self.columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records())
        return out.getvalue()

    def to_markdown(self) -> str:
        """A GitHub-flavoured Markdown table of what people read."""
        head = [c.title for c in self.columns]
        rule = ["---:" if c.right else "---" for c in self.columns]
        lines = [head, rule, *self.cells()]
        return "\n".join("| " + " | ".join(_escaped(cells)) + " |" for cells in lines) + "\n"

    def to_html(self) -> str:
        """An HTML table of what people read, its title as the caption."""
        from html import escape

        kinds = [_kind(c, cells) for c, cells in zip(self.columns, self._by_column(), strict=True)]
        head = "".join(
            f'<th scope="col" class="{kind}">{escape(c.title)}</th>'
            for c, kind in zip(self.columns, kinds, strict=True)
        )
        lines = (
            "".join(f'<td class="{k}">{escape(c)}</td>' for c, k in zip(cells, kinds, strict=True))
            for cells in self.cells()
        )
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return (
            f"<table><caption>{escape(self.title)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _by_column(self) -> list[tuple[str, ...]]:
        return list(zip(*self.cells(), strict=True)) or [()] * len(self.columns)

    def to_rich(self) -> rich.table.Table:
        """A ``rich`` table of what people read."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(
            title=escape(self.title),
            caption=escape(self.caption) if self.caption else None,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for column in self.columns:
            justify = "right" if column.right else "left"
            table.add_column(escape(column.title), justify=justify)  # type: ignore[arg-type]
        for cells in self.cells():
            table.add_row(*map(escape, cells))
        return table


def plain(value: Any) -> str:
    """A value without a unit: ``yes``, ``1,024``, ``0.683``, ``12,300`` (3 significant digits)."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if not isinstance(value, float | np.floating):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.{DIGITS}g}")
    if rounded != 0 and not 1e-4 <= abs(rounded) < 1e9:
        return f"{rounded:.{DIGITS}g}"
    decimals = 0 if rounded == 0 else max(0, DIGITS - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def _kind(column: Column, cells: tuple[str, ...]) -> str:
    """How a page lays a column out: numbers right, prose in lines of its own length."""
    if column.right:
        return "num"
    return "prose" if any(len(cell) > PROSE for cell in cells) else "word"


def _escaped(cells: list[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]
