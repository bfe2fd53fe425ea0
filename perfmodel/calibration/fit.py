"""Least squares on log residuals: a kernel class's parameters from measurements of any devices.

Residuals are ln(predicted / measured), weighted so that every table counts alike, under a soft-L1
loss (outliers of other people's tables must not steer a physical parameter). A parameter with a
prior adds one residual, its log distance from ``start``. Several neutral and displaced starts guard
against local minima; all of it is deterministic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import MissingCalibration
from perfmodel.measure import Measurement
from perfmodel.roofline.model import Parameter

SOFT = 0.15
"""Log residual beyond which a row starts to count less than quadratically (about 15 %)."""

STARTS = (None, 0.25, 0.75)
"""The declared start, and points at these fractions of each parameter's range."""

FEW = 20
"""Rows of a file below which it does not count as a whole one."""

NOISE = 0.08
"""Log residual of a row that counts as much as one standard width of a prior."""

ASIDE = 1.0
"""Where the cube of coordinates begins. Differences are taken over a share of a coordinate: one
near zero would be moved by nothing, and its parameter taken for one that no row depends on."""

LEAST_SHARE = 1e-6
"""Share of a start below which a parameter is no further off it."""

STEP = 1e-4
"""Share of a coordinate over which differences are taken."""

UNSEEN = 1e-6
"""Relative singular value below which the data say nothing about a direction."""

IDENTIFIED_SHARE = 0.5
"""A parameter whose standard error exceeds this share of its range is not identified."""


class Declared(Protocol):
    """What a fit needs to know of a model: its name and its parameters."""

    @property
    def name(self) -> str:
        """As reports name it."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is fitted, with its range."""


class Sample(Protocol):
    """Measured rows that one call predicts under given parameter values."""

    @property
    def rows(self) -> tuple[Measurement, ...]:
        """What was measured, in order."""

    @property
    def measured_s(self) -> NDArray[np.float64]:
        """Seconds measured, row by row."""

    def predicted_s(self, values: dict[str, float]) -> NDArray[np.float64]:
        """Seconds predicted, row by row, under parameter ``values``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Fitted values with their standard errors, and how well they describe what was fitted."""

    values: dict[str, float]
    errors: dict[str, float]
    identified: dict[str, bool]
    factor: float
    rows: int


def ratios(groups: Sequence[Sample], values: dict[str, float]) -> NDArray[np.float64]:
    """measured / predicted of every row of ``groups`` under ``values``."""
    return np.concatenate([g.measured_s / g.predicted_s(values) for g in groups])


def fit(model: Declared, groups: Sequence[Sample], starts: Sequence[float | None] = STARTS) -> Fit:
    """The parameters of ``model`` that describe ``groups`` best, from several ``starts``.

    Raises:
        MissingCalibration: no rows.
    """
    from scipy.optimize import least_squares

    if not groups:
        msg = f"no measured rows of class {model.name}"
        raise MissingCalibration(msg, field="data", fix="another data folder")
    scale = _Scale(model.parameters)
    weights = _file_weights(groups)
    task = _Task(scale, groups, weights)
    bounds, soft = (ASIDE, ASIDE + 1.0), SOFT * float(np.median(weights))
    options = {"bounds": bounds, "loss": "soft_l1", "f_scale": soft, "ftol": 1e-5, "xtol": 1e-5}
    solutions = [
        least_squares(task.residuals, scale.start(s), jac=task.slopes, max_nfev=60, **options)
        for s in starts
    ]
    best = min(solutions, key=lambda s: float(s.cost))
    told = task.residuals(best.x)
    values = scale.values(
        _neutral_where_unseen(best.x, best.jac, scale.start(None), task.residuals)
    )
    log = np.log(ratios(groups, values))
    spread = standard_errors(best.jac, told)
    seen = standard_errors(best.jac[: log.size], told[: log.size])  # without priors
    return Fit(
        values=values,
        errors={
            p.name: float(e * (p.high - p.low))
            for p, e in zip(model.parameters, spread, strict=True)
        },
        identified={
            p.name: bool(e < IDENTIFIED_SHARE) for p, e in zip(model.parameters, seen, strict=True)
        },
        factor=float(np.exp(np.sum(np.abs(log) * weights**2) / np.sum(weights**2))),
        rows=int(log.size),
    )


def _pull(p: Parameter, value: float) -> float:
    """Widths of its prior by which a parameter lies off its start; finite at zero."""
    return float(np.log(max(value, LEAST_SHARE * p.start) / p.start) / p.prior)


def _neutral_where_unseen(
    x: NDArray[np.float64],
    jac: NDArray[np.float64],
    start: NDArray[np.float64],
    residuals: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """``x``, but parameters that no row depends on stay neutral whatever start won.

    A slope of zero is not enough: on the flat part of a knee the neutral value may lie elsewhere.
    """
    found, told = x.copy(), residuals(x)
    for i in np.flatnonzero(~np.any(jac != 0.0, axis=0)):
        neutral = found.copy()
        neutral[i] = start[i]
        if np.array_equal(residuals(neutral), told):
            found = neutral
    return found


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps parameters to a unit cube that begins at :data:`ASIDE`, where steps are comparable."""

    parameters: tuple[Parameter, ...]

    def values(self, x: NDArray[np.float64]) -> dict[str, float]:
        return {
            p.name: float(p.low + (u - ASIDE) * (p.high - p.low))
            for p, u in zip(self.parameters, x, strict=True)
        }

    def start(self, share: float | None) -> NDArray[np.float64]:
        if share is not None:
            return np.full(len(self.parameters), ASIDE + share)
        x = [(p.start - p.low) / (p.high - p.low) for p in self.parameters]
        inside: NDArray[np.float64] = ASIDE + np.clip(np.array(x), 1e-3, 1.0 - 1e-3)
        return inside


class _Task:
    """Residuals of a fit and their slopes: weighted log ratios of all rows, then the priors'."""

    def __init__(
        self, scale: _Scale, groups: Sequence[Sample], weights: NDArray[np.float64]
    ) -> None:
        self.scale, self.groups = scale, groups
        ends = np.cumsum([len(g.rows) for g in groups])
        self.parts = [
            slice(int(e) - len(g.rows), int(e)) for e, g in zip(ends, groups, strict=True)
        ]
        self.weights = weights
        self.measured = [np.log(g.measured_s) for g in groups]
        self.pull = NOISE * float(np.median(weights))
        self.asked = [self._asks(g) for g in groups]

    def _asks(self, group: Sample) -> frozenset[str]:
        """The parameters that ``group``'s prediction looks at; no other changes it."""
        values = _Listening(self.scale.values(self.scale.start(None)))
        group.predicted_s(values)
        return frozenset(values.heard)

    def residuals(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """At the point ``x`` of the unit cube."""
        values = self.scale.values(x)
        own = [self._own(i, values) for i in range(len(self.groups))]
        pulls = [_pull(p, values[p.name]) * self.pull for p in self._held]
        return np.concatenate([*own, np.array(pulls)])

    def slopes(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Differences of the residuals over :data:`STEP` of each coordinate, inside the cube; only
        groups that look at a parameter are asked again."""
        here, rows = self.residuals(x), self.weights.size
        slopes = np.zeros((here.size, x.size))
        for i, p in enumerate(self.scale.parameters):
            beside = x.copy()
            step = STEP * x[i] if x[i] * (1.0 + STEP) <= ASIDE + 1.0 else -STEP * x[i]
            beside[i] += step
            values, moved = self.scale.values(beside), here.copy()
            for j in range(len(self.groups)):
                if p.name in self.asked[j]:
                    moved[self.parts[j]] = self._own(j, values)
            if p.prior:
                at = rows + self._held.index(p)
                moved[at] = _pull(p, values[p.name]) * self.pull
            slopes[:, i] = (moved - here) / (beside[i] - x[i])
        return slopes

    @property
    def _held(self) -> list[Parameter]:
        return [p for p in self.scale.parameters if p.prior]

    def _own(self, i: int, values: dict[str, float]) -> NDArray[np.float64]:
        log = np.log(self.groups[i].predicted_s(values)) - self.measured[i]
        own: NDArray[np.float64] = log * self.weights[self.parts[i]]
        return own


class _Listening(dict[str, float]):
    """Values that note which of them were asked for."""

    def __init__(self, values: dict[str, float]) -> None:
        super().__init__(values)
        self.heard: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.heard.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As ``dict.get``."""
        self.heard.add(name)
        return super().get(name, default)


def table_of(m: Measurement) -> str:
    """The table a row stands in; what this repository measured on a device is one table, into
    however many files it went."""
    return f"perfmodel {m.device}" if m.source == "perfmodel" else m.file


def _file_weights(groups: Sequence[Sample]) -> NDArray[np.float64]:
    """Square roots of row weights: every table has the same total, but for those of fewer rows than
    :data:`FEW`, which count by their rows."""
    files = [table_of(r) for g in groups for r in g.rows]
    sizes = Counter(files)
    return np.array([max(sizes[f], FEW) ** -0.5 for f in files])


def standard_errors(
    jac: NDArray[np.float64], residuals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard errors in unit-cube coordinates from the Gauss-Newton covariance; a direction that
    the data do not see gets an infinite error."""
    _, s, vt = np.linalg.svd(jac, full_matrices=False)
    freedom = max(1, residuals.size - s.size)
    variance = float(residuals @ residuals) / freedom
    seen = s > s.max() * UNSEEN
    directions = vt.T**2
    squares = directions[:, seen] @ (1.0 / s[seen] ** 2)
    lost = directions[:, ~seen].sum(axis=1) > UNSEEN
    spread: NDArray[np.float64] = np.where(lost, np.inf, np.sqrt(variance * squares))
    return spread
