"""Prediction intervals from held-back residuals: split-conformal quantiles.

Residuals are ratios measured / predicted. For a wanted coverage 1 - a, the interval is
``[predicted * low, predicted * high]`` with ``low`` and ``high`` the finite-sample quantiles at
a/2 and 1 - a/2 of residuals that the fit did not see (Vovk, Gammerman, Shafer 2005, chapter 4;
Lei et al. 2018, section 2.2, applied to each side of the log ratio).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualQuantiles:
    """Multiplicative bounds of measured / predicted at ``coverage``, from ``rows`` residuals."""

    coverage: float
    low: float
    high: float
    rows: int


def conformal_quantiles(ratios: NDArray[np.float64], coverage: float = 0.9) -> ResidualQuantiles:
    """The interval factors of held-back ``ratios`` (measured / predicted, all positive).

    With n residuals the upper rank is ceil((n + 1)(1 - a/2)); where n is too small for that rank
    the extreme residual is taken, and the caller's ``rows`` tells how little stands behind it.

    Raises:
        BadValue: no residuals, one that is not positive, or a coverage outside (0, 1).
    """
    r = np.sort(np.asarray(ratios, np.float64).ravel())
    if r.size == 0 or not bool(np.all(np.isfinite(r) & (r > 0))):
        msg = "needs at least one positive ratio of measured to predicted"
        raise BadValue(msg, field="ratios")
    if not 0.0 < coverage < 1.0:
        msg = f"must lie between 0 and 1, got {coverage!r}"
        raise BadValue(msg, field="coverage")
    rank = int(np.ceil((r.size + 1) * (0.5 + coverage / 2)))
    k = min(rank, r.size)
    return ResidualQuantiles(
        coverage=coverage, low=float(r[r.size - k]), high=float(r[k - 1]), rows=int(r.size)
    )


def covered(ratios: NDArray[np.float64], q: ResidualQuantiles) -> float:
    """Share of ``ratios`` inside the interval factors ``q``."""
    r = np.asarray(ratios, np.float64)
    return float(np.mean((r >= q.low) & (r <= q.high)))
