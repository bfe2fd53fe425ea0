"""Residuals that a fit did not see: held back by shape, by model, by file and by device."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from perfmodel.calibration.dataset import Group
from perfmodel.calibration.fit import fit, ratios
from perfmodel.measure import Measurement
from perfmodel.roofline.model import ClassModel

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


def held_back_ratios(
    model: ClassModel, groups: Sequence[Group], split: str
) -> NDArray[np.float64] | None:
    """measured / predicted of rows predicted by a fit without their fold.

    None where the rows make fewer than two folds, so that nothing can be held back that way.
    """
    fold = SPLITS[split]
    folds = sorted({fold(r) for g in groups for r in g.rows} - {None}, key=repr)
    if len(folds) < 2:
        return None
    found = [_fold_ratios(model, groups, fold, f) for f in folds]
    return np.concatenate(found)


def _fold_ratios(
    model: ClassModel,
    groups: Sequence[Group],
    fold: Callable[[Measurement], Hashable],
    out: Hashable,
) -> NDArray[np.float64]:
    seen = [s for g in groups if (s := g.select(lambda r: fold(r) != out))]
    unseen = [s for g in groups if (s := g.select(lambda r: fold(r) == out))]
    return ratios(unseen, fit(model, seen).values)
