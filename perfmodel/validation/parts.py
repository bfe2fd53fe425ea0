"""Rows asked in one call, of which one that cannot be answered must not refuse the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perfmodel.measure import Measurement


def halves(rows: Sequence[Measurement]) -> tuple[Sequence[Measurement], ...]:
    """Two halves to ask apart; none of a single row."""
    middle = len(rows) // 2
    return (rows[:middle], rows[middle:]) if middle else ()


def within(rows: Sequence[Measurement]) -> Callable[[Measurement], bool]:
    """Whether a measurement is one of ``rows``."""
    ids = {id(m) for m in rows}
    return lambda m: id(m) in ids
