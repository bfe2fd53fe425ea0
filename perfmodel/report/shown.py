"""How an answer is laid out for people, and the words and units that all answers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfmodel.report.tables import ABSENT, Column, Table
from perfmodel.units import format_binary, format_si

BAR = 24
"""Characters of a full memory bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An answer for people: verdict, tables, notes. ``rows`` is the table that CSV prints: the
    first one, unless that shows a part only.
    """

    lead: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    rows: Table | None = None

    @property
    def csv(self) -> Table:
        """The main table with all its rows."""
        return self.rows or self.tables[0]


def seconds(value: float) -> str:
    """Seconds with a prefix and three digits."""
    return format_si(float(value), "s")


def percent(share: float) -> str:
    """A share as a percentage with three digits."""
    return f"{100 * share:.3g} %"


def dollars(value: float | None) -> str:
    """US dollars with three digits."""
    return ABSENT if value is None else f"${value:.3g}"


def parameters(number: int) -> str:
    """A number of parameters as people say it: 70.6 B."""
    return format_si(float(number), "").replace("G", "B")


def interval(low: float, high: float) -> str:
    """Both ends of an interval of seconds."""
    return f"{seconds(low)} .. {seconds(high)}"


def assumed(assumptions: Sequence[str]) -> tuple[str, ...]:
    """Assumptions as notes below the tables."""
    return tuple(f"assumed: {note}" for note in assumptions)


def stack_table(stack: Mapping[str, float], budget: float) -> Table:
    """What one device holds, each part against the budget, which is the last line."""
    columns = (
        Column(key="part", title="per device", right=False),
        Column(key="bytes", title="size", text=format_binary),
        Column(key="share", title="of memory", text="{:.1%}".format),
        Column(key="bar", title="", right=False),
    )
    sizes = {**stack, "total": sum(stack.values()), "memory (budget)": budget}
    rows = tuple(
        {"part": part, "bytes": size, **_share(size, budget)} for part, size in sizes.items()
    )
    return Table(title="memory stack", columns=columns, rows=rows)


def _share(size: float, budget: float) -> dict[str, float | str | None]:
    """``size`` against the budget, as a number and as a bar; nothing without a budget."""
    if budget <= 0.0:
        return {"share": None, "bar": ""}
    full = "#" * round(min(size / budget, 1.0) * BAR)
    return {"share": size / budget, "bar": full + (">" if size > budget else "")}
