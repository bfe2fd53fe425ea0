"""Residuals that a fit did not see: held back by shape, by model, by file and by device."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from perfmodel.calibration.fit import Declared, Sample, fit, ratios
from perfmodel.measure import Measurement

FOLDS = 4


def by_shape(m: Measurement) -> Hashable:
    """One of a few folds by a hash of the sizes, so that a repeated shape stays whole."""
    assert m.workload is not None
    return zlib.crc32(repr(m.workload.key()).encode()) % FOLDS


def by_model(m: Measurement) -> Hashable:
    """The language model whose layer a row belongs to; rows without one stay in every fit."""
    return m.model


def by_file(m: Measurement) -> Hashable:
    """The table a row stands in."""
    return m.file


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


def held_back_ratios(
    model: Declared, groups: Sequence[Selectable], split: str
) -> NDArray[np.float64] | None:
    """:func:`ratios_by` one of :data:`SPLITS`."""
    return ratios_by(model, groups, SPLITS[split])


def ratios_by(
    model: Declared, groups: Sequence[Selectable], fold: Callable[[Measurement], Hashable]
) -> NDArray[np.float64] | None:
    """measured / predicted of rows predicted by a fit without their fold.

    None where the rows make fewer than two folds, so that nothing can be held back that way.
    """
    folds = sorted({fold(r) for g in groups for r in g.rows} - {None}, key=repr)
    if len(folds) < 2:
        return None
    return np.concatenate([_fold_ratios(model, groups, fold, f) for f in folds])


def _fold_ratios(
    model: Declared,
    groups: Sequence[Selectable],
    fold: Callable[[Measurement], Hashable],
    out: Hashable,
) -> NDArray[np.float64]:
    seen = [s for g in groups if (s := g.select(lambda r: fold(r) != out))]
    unseen = [s for g in groups if (s := g.select(lambda r: fold(r) == out))]
    return ratios(unseen, fit(model, seen).values)
