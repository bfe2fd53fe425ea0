"""Which of several answers are beaten by no other on every criterion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_mask(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True for each row of ``costs[point, criterion]`` (less is better) that no row dominates.

    A row dominates another when it is nowhere worse and somewhere better; equal rows both stay.
    A criterion that cannot be answered (NaN) decides nothing between two rows.
    """
    mine, other = costs[:, None, :], costs[None, :, :]
    unknown = np.isnan(mine) | np.isnan(other)
    nowhere_better = np.all(unknown | (mine >= other), axis=2)
    somewhere_worse = np.any(mine > other, axis=2)
    dominated = np.any(nowhere_better & somewhere_worse, axis=1)
    beaten: NDArray[np.bool_] = np.asarray(dominated)
    return ~beaten
