"""Residuals that a fit did not see: held back by shape, by model, by file and by device."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from perfmodel.calibration.dataset import Group
from perfmodel.calibration.fit import FEW, STARTS, Declared, Fit, Sample, fit, ratios, table_of
from perfmodel.measure import Measurement

FOLDS = 4
MOST_ROUNDING = 0.1
"""Share of a measurement that rounding may be, for it to make intervals and to test them."""
MANY_ROWS = 350
"""Rows from which a fit without a fold has one start, for the sake of time."""
LEAST_PART = 6
"""A fit without a fold keeps at least this part of the rows: one in so many."""


def by_shape(m: Measurement) -> Hashable:
    """One of a few folds by a hash of the sizes, so that a repeated shape stays whole."""
    assert m.workload is not None
    return zlib.crc32(repr(m.workload.key()).encode()) % FOLDS


def by_model(m: Measurement) -> Hashable:
    """The language model whose layer a row belongs to; rows without one stay in every fit."""
    return m.model


def by_file(m: Measurement) -> Hashable:
    """The table a row stands in."""
    return table_of(m)


def by_device(m: Measurement) -> Hashable:
    """The device as its table names it."""
    return m.device


SPLITS: dict[str, Callable[[Measurement], Hashable]] = {
    "shape": by_shape,
    "model": by_model,
    "file": by_file,
    "device": by_device,
}
"""Ways of holding rows back, mildest first."""


class Selectable(Sample, Protocol):
    """Measured rows of which some can be held back."""

    def select(self, keep: Callable[[Measurement], bool]) -> Self | None:
        """The rows that ``keep`` wants; None where it wants none."""


Rows = TypeVar("Rows", bound=Selectable)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unseen:
    """Rows predicted by a fit without their fold: measured / predicted, and what tells them apart.

    ``regimes`` as :attr:`~perfmodel.roofline.model.Terms.regimes` has them under that fit;
    ``rounding`` is the share of a measurement by which its table may have rounded it.
    """

    ratios: NDArray[np.float64]
    regimes: NDArray[np.str_]
    folds: NDArray[np.str_]
    devices: NDArray[np.str_]
    rounding: NDArray[np.float64]

    @property
    def precise(self) -> Unseen:
        """The rows that tell an interval from its table's rounding; all, if none does."""
        fine = self.rounding <= MOST_ROUNDING
        if not bool(np.any(fine)):
            return self
        return Unseen(**{f.name: getattr(self, f.name)[fine] for f in fields(Unseen)})


def unseen_rows(model: Declared, groups: Sequence[Group], split: str) -> Unseen | None:
    """Every row that one of :data:`SPLITS` holds back, predicted without its fold.

    None where the rows make fewer than two folds, so that nothing can be held back that way, or
    where less than half of them can be predicted without their own.
    """
    fold = SPLITS[split]
    labelled = sum(fold(r) is not None for g in groups for r in g.rows)
    told = ((_held(groups, fold, out), out, found) for out, found in _fits(model, groups, fold))
    parts = [_unseen(held, out, found) for held, out, found in told if held]
    if not parts or sum(p.ratios.size for p in parts) < labelled / 2:
        return None
    whole = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Unseen)}
    return Unseen(**whole)


def _held(
    groups: Sequence[Group], fold: Callable[[Measurement], Hashable], out: Hashable
) -> list[Group]:
    """The rows of a fold whose operator the others hold enough of: what a fit never saw it says
    nothing about, and predictions of it are marked as assumed."""
    ops = Counter(g.workload.op for g in groups for _ in g.rows)
    left = Counter(g.workload.op for g in groups for r in g.rows if fold(r) != out)
    known = {op for op, rows in ops.items() if left[op] >= _least(rows)}
    return _chosen([g for g in groups if g.workload.op in known], lambda r: fold(r) == out)


def _least(rows: int) -> float:
    """Of so many rows, how many have to be left for a fit."""
    return min(FEW, rows / LEAST_PART)


def _unseen(held: Sequence[Group], out: Hashable, found: Fit) -> Unseen:
    rows = [r for g in held for r in g.rows]
    return Unseen(
        ratios=ratios(held, found.values),
        rounding=np.array([0.5 * r.step / r.value for r in rows]),
        regimes=np.concatenate([g.regimes(found.values) for g in held]),
        folds=np.full(len(rows), str(out)),
        devices=np.array([g.device.name for g in held for _ in g.rows]),
    )


def ratios_by(
    model: Declared, groups: Sequence[Selectable], fold: Callable[[Measurement], Hashable]
) -> NDArray[np.float64] | None:
    """measured / predicted of rows predicted by a fit without their fold.

    None where the rows make fewer than two folds, so that nothing can be held back that way.
    """
    told = [
        ratios(_chosen(groups, lambda r: fold(r) == out), found.values)  # noqa: B023  # used here
        for out, found in _fits(model, groups, fold)
    ]
    return np.concatenate(told) if told else None


def _chosen(groups: Sequence[Rows], keep: Callable[[Measurement], bool]) -> list[Rows]:
    return [s for g in groups if (s := g.select(keep)) is not None]


def _fits(
    model: Declared, groups: Sequence[Selectable], fold: Callable[[Measurement], Hashable]
) -> Iterator[tuple[Hashable, Fit]]:
    """A fit without each fold, from the neutral start alone where rows are many; none where there
    is one fold, or where too little is left without it."""
    rows = sum(len(g.rows) for g in groups)
    starts = STARTS if rows <= MANY_ROWS else STARTS[:1]
    folds = sorted({fold(r) for g in groups for r in g.rows} - {None}, key=repr)
    for out in folds if len(folds) > 1 else ():
        seen = _chosen(groups, lambda r: fold(r) != out)  # noqa: B023  # used at once
        if sum(len(g.rows) for g in seen) >= _least(rows):
            yield out, fit(model, seen, starts)
