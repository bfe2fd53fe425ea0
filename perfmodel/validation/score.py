"""How far predictions lie from measurements: factor, MAPE, p90 and interval coverage.

``factor = exp(mean |ln(predicted / measured)|)``: 1.10 is "typically within 10 %", symmetric in
over- and under-prediction. Times of at least 0.1 ms and below it (the launch regime) are grouped
apart, and latency is never pooled with throughput; a file's factor averages its groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.measure import Measurement

LAUNCH_REGIME_S = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A measurement beside its prediction (SI, same unit), or the reason there is none."""

    measurement: Measurement
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    refusal: str | None = None
    kernel_class: str = ""
    bound: float | None = None
    """The plain roofline of the row: the model's lower bound of a time, the table's own if none."""

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the predicted interval, as far as its table's rounding
        tells."""
        if self.low is None or self.high is None:
            return False
        half = self.measurement.step / 2.0
        return self.low - half <= self.measurement.value <= self.high + half

    @property
    def group(self) -> tuple[str, str]:
        """``(scenario, range)``: what may be averaged together."""
        m = self.measurement
        if m.quantity != "latency":
            return m.scenario, m.quantity
        return m.scenario, "< 0.1 ms" if m.value < LAUNCH_REGIME_S else ">= 0.1 ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Error figures of a set of rows."""

    rows: int
    factor: float
    mape: float
    median_ape: float
    p90_ape: float
    coverage: float
    bias: float
    """exp(mean ln(predicted / measured)): above 1 predicts too much."""
    naive_factor: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__slots__}


def errors(rows: Sequence[Scored]) -> Errors:
    """Error figures over scored rows (at least one)."""
    measured = np.array([r.measurement.value for r in rows])
    predicted = np.array([r.predicted for r in rows], np.float64)
    log = np.log(predicted / measured)
    ape = np.abs(predicted / measured - 1.0)
    return Errors(
        rows=len(rows),
        factor=factor(predicted, measured),
        mape=float(np.mean(ape)),
        median_ape=float(np.median(ape)),
        p90_ape=float(np.quantile(ape, 0.9)),
        coverage=float(np.mean([r.inside for r in rows])),
        bias=float(np.exp(np.mean(log))),
        naive_factor=_naive(rows, measured),
    )


def factor(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    """exp(mean |ln(predicted / measured)|)."""
    return float(np.exp(np.mean(np.abs(np.log(predicted / measured)))))


def _naive(rows: Sequence[Scored], measured: NDArray[np.float64]) -> float | None:
    naive = np.array([r.measurement.naive or np.nan for r in rows])
    known = np.isfinite(naive)
    if not bool(known.any()):
        return None
    return factor(naive[known], measured[known])


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """Everything said about one file of measurements."""

    file: str
    rows: int
    refused_by_reason: dict[str, int]
    scored: tuple[Scored, ...]
    groups: dict[tuple[str, str], Errors]
    unflagged: dict[tuple[str, str], Errors]

    @property
    def factor(self) -> float | None:
        """Mean of the groups' factors; None where nothing was scored."""
        return _mean([e.factor for e in self.groups.values()])

    def to_dict(self) -> dict[str, Any]:
        """The JSON that scripts rely on."""
        whole = errors(self.scored) if self.scored else None
        refused = self.rows - len(self.scored)
        figures = ("mape", "median_ape", "p90_ape", "coverage")
        return {
            "file": self.file,
            "rows": self.rows,
            "scored": len(self.scored),
            "refused": refused,
            "refused_by_reason": self.refused_by_reason,
            "factor": self.factor,
            "factor_unflagged": _mean([e.factor for e in self.unflagged.values()]),
            "naive_factor": _mean([e.naive_factor for e in self.groups.values()]),
            **{name: _mean([getattr(e, name) for e in self.groups.values()]) for name in figures},
            "quantities": sorted({s.measurement.quantity for s in self.scored}),
            "flagged": sum(s.measurement.flagged for s in self.scored),
            "bias": whole.bias if whole else None,
            "groups": [
                {"scenario": s, "range": r} | e.to_dict() for (s, r), e in self.groups.items()
            ],
        }


def file_report(file: str, rows: Sequence[Scored]) -> FileReport:
    """Group, score and count the refusals of one file's rows."""
    scored = [r for r in rows if r.refusal is None]
    return FileReport(
        file=file,
        rows=len(rows),
        refused_by_reason=dict(Counter(r.refusal for r in rows if r.refusal is not None)),
        scored=tuple(scored),
        groups=_grouped(scored),
        unflagged=_grouped([r for r in scored if not r.measurement.flagged]),
    )


def _grouped(rows: Iterable[Scored]) -> dict[tuple[str, str], Errors]:
    groups: dict[tuple[str, str], list[Scored]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return {key: errors(members) for key, members in sorted(groups.items())}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
