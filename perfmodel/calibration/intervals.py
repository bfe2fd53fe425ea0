"""Prediction intervals from held-back residuals: split-conformal quantiles.

Residuals are ratios measured / predicted. For a wanted coverage 1 - a, the interval is
``[predicted * low, predicted * high]`` with ``low`` and ``high`` the finite-sample quantiles at
a/2 and 1 - a/2 of residuals that the fit did not see (Vovk, Gammerman, Shafer 2005, chapter 4;
Lei et al. 2018, section 2.2, applied to each side of the log ratio). Regimes that a model predicts
less surely than others have quantiles of their own (Mondrian conformal prediction, ibid.).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue
from perfmodel.roofline.model import LONG, WORK
from perfmodel.roofline.residuals import among

LEAST_RATIOS = 20
"""Residuals of a regime below which it shares those of all rows."""


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


def regime_quantiles(
    ratios: NDArray[np.float64],
    regimes: NDArray[np.str_],
    coverage: float = 0.9,
    devices: NDArray[np.str_] | None = None,
) -> dict[str, ResidualQuantiles]:
    """Quantiles of each regime with enough rows; raises as :func:`conformal_quantiles`.

    Long and other work are told apart where both have enough, of several ``devices`` if they are
    given: what one device does to long work is not what another does.
    """
    apart = all(_enough(regimes == name, devices) for name in (LONG, WORK))
    regimes = regimes if apart else among(regimes, ())
    own = {str(name): ratios[regimes == name] for name in np.unique(regimes)}
    return {
        name: conformal_quantiles(r, coverage) for name, r in own.items() if r.size >= LEAST_RATIOS
    }


def _enough(at: NDArray[np.bool_], devices: NDArray[np.str_] | None) -> bool:
    several = devices is None or np.unique(devices[at]).size > 1
    return bool(np.sum(at) >= LEAST_RATIOS) and several


def covered_unseen(
    ratios: NDArray[np.float64],
    regimes: NDArray[np.str_],
    folds: NDArray[np.str_],
    coverage: float = 0.9,
    unseen: float = 1.0,
    few: NDArray[np.float64] | None = None,
    devices: NDArray[np.str_] | None = None,
) -> NDArray[np.bool_]:
    """Which ratios lie inside an interval made of the residuals of all other folds; that of a
    regime without rows there is the pooled one, ``unseen`` times as wide on the log scale.

    ``few`` stretches the interval of each row: what its device being new to the others adds.
    ``devices`` as :func:`regime_quantiles` takes them.
    """
    inside, stretch = np.zeros(ratios.size, bool), np.ones(ratios.size) if few is None else few
    for fold in np.unique(folds):
        out = folds == fold
        if bool(np.all(out)):
            continue
        pooled = conformal_quantiles(ratios[~out], coverage)
        there = None if devices is None else devices[~out]
        own = regime_quantiles(ratios[~out], regimes[~out], coverage, there)
        other = _stretched(pooled, unseen if own else 1.0)
        own = {name: _stretched(q, 1.0) for name, q in own.items()}
        shrunk = ratios[out] ** (1.0 / stretch[out])
        inside[out] = _inside_regimes(shrunk, among(regimes[out], own), other, own)
    return inside


def _stretched(q: ResidualQuantiles, by: float) -> ResidualQuantiles:
    return replace(q, low=min(q.low, 1.0) ** by, high=max(q.high, 1.0) ** by)


def _inside_regimes(
    ratios: NDArray[np.float64],
    regimes: NDArray[np.str_],
    pooled: ResidualQuantiles,
    own: Mapping[str, ResidualQuantiles],
) -> NDArray[np.bool_]:
    return np.array(
        [
            bool(_inside(r, own.get(str(name), pooled)))
            for r, name in zip(ratios, regimes, strict=True)
        ],
        bool,
    )


def _inside(ratios: NDArray[np.float64], q: ResidualQuantiles) -> NDArray[np.bool_]:
    return np.asarray((ratios >= q.low) & (ratios <= q.high))
