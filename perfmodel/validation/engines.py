"""Predictions of served rows from an engine's fitted factors, and the fit of those factors.

The fit is least squares on log residuals of whole served figures: host time per engine, and the
factors that all engines share (:mod:`perfmodel.models.host`). Rows are held back by shape, by
model and by file.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.calibration.files import rounded
from perfmodel.calibration.fit import IDENTIFIED_SHARE, standard_errors
from perfmodel.calibration.intervals import conformal_quantiles
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement
from perfmodel.models.engines import Engine
from perfmodel.models.host import (
    FEATURES,
    OF_ENGINE,
    SHARED,
    EngineTimes,
    engine_times,
    host_fit,
)
from perfmodel.roofline.model import Parameter
from perfmodel.roofline.residuals import Residuals
from perfmodel.validation.score import Scored
from perfmodel.validation.serving import REFUSED, Rows, compose

Floats = NDArray[np.float64]

SOFT = 0.1
"""Log residual beyond which a row counts less than quadratically."""
COVERAGE = 0.9
FOLDS = 4
LEAST_RATIOS = 20
"""Held-back rows of a scenario below which it takes the interval of all of them."""
HARD = ("model", "device")
"""How rows are held back for intervals: a model or a device that the fit has not seen, whichever a
scenario is worse at."""


def predict_serving(measurements: Sequence[Measurement]) -> list[Scored]:
    """Every row of a serving scenario, predicted or refused with the reason."""
    composed, reasons = compose(measurements)
    scored = [s for rows in composed for s in _scored(rows)]
    for m in measurements:
        told = reasons.get(id(m))
        if m.scenario in REFUSED:
            told = f"{m.scenario}: {REFUSED[m.scenario]}"
        if told is not None:
            scored.append(Scored(measurement=m, refusal=told))
    return scored


def _scored(rows: Rows) -> Iterator[Scored]:
    times = EngineTimes() if rows.engine is None else engine_times(rows.engine)[0]
    value = rows.composed.value(times.coefficients)
    spread = _residuals(rows)
    slow, fast = max(spread.high, 1.0), min(spread.low, 1.0)
    if rows.composed.amount is not None:
        slow, fast = 1.0 / fast, 1.0 / slow
    for m, v in zip(rows.measurements, value, strict=True):
        yield Scored(
            measurement=m,
            predicted=float(v),
            low=float(v) * fast,
            high=float(v) * slow,
            kernel_class="serving",
            bound=m.naive,
        )


def _residuals(rows: Rows) -> Residuals:
    """Residuals of times: of the scenario, of bare kernels without an engine; wide if unfitted."""
    fitted = host_fit()
    if fitted is None:
        return Residuals(coverage=COVERAGE, low=0.5, high=2.0)
    name = "bare" if rows.engine is None else rows.scenario
    return fitted.residuals.get(name, fitted.residuals["step"])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """All rows of a fit as one matrix: features, the time measured, the engine of each."""

    features: Floats
    measured_s: Floats
    engines: tuple[Engine, ...]
    rows: tuple[Measurement, ...]

    def ratios(self, times: Mapping[str, EngineTimes]) -> Floats:
        """measured / predicted time of every row; ``times`` by engine, host class, or ""."""
        factors = {name: t.coefficients for name, t in times.items()}
        used = np.stack(
            [factors.get(e.name, factors.get(e.host, factors[""])) for e in self.engines]
        )
        predicted = np.einsum("rk,rk->r", self.features, used)
        ratios: Floats = self.measured_s / predicted
        return ratios

    def select(self, keep: Callable[[Measurement], bool]) -> Served:
        """The rows that ``keep`` wants."""
        at = [i for i, m in enumerate(self.rows) if keep(m)]
        return Served(
            features=self.features[at],
            measured_s=self.measured_s[at],
            engines=tuple(self.engines[i] for i in at),
            rows=tuple(self.rows[i] for i in at),
        )


def gather_served(measurements: Sequence[Measurement]) -> Served:
    """Rows of serving scenarios that name an engine; flagged ones are left out."""
    composed, _ = compose([m for m in measurements if not m.flagged])
    kept = [c for c in composed if c.engine is not None]
    measured = []
    for c in kept:
        values = np.array([m.value for m in c.measurements])
        amount = c.composed.amount
        measured.append(values if amount is None else amount / values)
    return Served(
        features=np.concatenate([c.composed.features for c in kept])
        if kept
        else np.empty((0, len(FEATURES))),
        measured_s=np.concatenate(measured) if kept else np.empty(0),
        engines=tuple(c.engine for c in kept for _ in c.measurements if c.engine),
        rows=tuple(m for c in kept for m in c.measurements),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostFactors:
    """Fitted factors by engine with standard errors, in the order of ``names``."""

    names: tuple[tuple[str, Parameter], ...]
    hosts: Mapping[str, str]
    """Host class of each engine."""
    values: Floats
    errors: Floats

    def times(self) -> dict[str, EngineTimes]:
        """Factors by engine, the median of each host class, and under "" the shared ones alone."""
        own = _times(self.names, self.values)
        shared = own[""]
        for host in sorted(set(self.hosts.values())):
            members = [own[name] for name, h in self.hosts.items() if h == host]
            middle = {
                p.name: float(np.median([getattr(t, p.name) for t in members])) for p in OF_ENGINE
            }
            own[host] = replace(shared, **middle)
        return own


def fit_served(served: Served) -> HostFactors:
    """The factors that describe ``served`` best, every scenario weighing the same."""
    from scipy.optimize import least_squares

    names = _names(served)
    low, high = (np.array([getattr(p, side) for _, p in names]) for side in ("low", "high"))
    start = np.array([p.start for _, p in names])
    sizes = Counter(m.scenario for m in served.rows)
    weights = np.array([sizes[m.scenario] ** -0.5 for m in served.rows])

    def residuals(x: Floats) -> Floats:
        log: Floats = np.log(served.ratios(_times(names, x))) * weights
        return log

    found = least_squares(
        residuals, start, bounds=(low, high), loss="soft_l1", x_scale=(high - low) / 10.0,
        f_scale=SOFT * float(np.median(weights)), xtol=1e-10, ftol=1e-10,
    )  # fmt: skip
    errors = standard_errors(found.jac * (high - low), residuals(found.x)) * (high - low)
    hosts = {e.name: e.host for e in served.engines}
    return HostFactors(names=names, hosts=hosts, values=found.x, errors=errors)


def _names(served: Served) -> tuple[tuple[str, Parameter], ...]:
    """Host times of every engine that the rows name, then the shared factors."""
    engines = sorted({e.name for e in served.engines})
    return (*((e, p) for e in engines for p in OF_ENGINE), *(("", p) for p in SHARED))


def _times(names: Sequence[tuple[str, Parameter]], x: Floats) -> dict[str, EngineTimes]:
    shared = {p.name: float(v) for (e, p), v in zip(names, x, strict=True) if not e}
    own: dict[str, dict[str, float]] = {}
    for (engine, p), v in zip(names, x, strict=True):
        if engine:
            own.setdefault(engine, {})[p.name] = float(v)
    return {"": EngineTimes(**shared)} | {
        name: EngineTimes(**shared, **values) for name, values in own.items()
    }


def by_shape(m: Measurement) -> Hashable:
    """One of a few folds by a hash of lengths and batch."""
    told = [m.question.get(c) for c in ("batch", "isl", "osl", "tp")]
    return zlib.crc32(repr(told).encode()) % FOLDS


SPLITS: dict[str, Callable[[Measurement], Hashable]] = {
    "shape": by_shape,
    "model": lambda m: m.model,
    "file": lambda m: m.file,
    "device": lambda m: m.device,
}
"""Ways of holding served rows back, mildest first."""


def held_back(served: Served, split: str) -> tuple[Floats, tuple[Measurement, ...]]:
    """measured / predicted of rows predicted by a fit without their fold, and those rows."""
    fold = SPLITS[split]
    ratios, rows = [], []
    for out in sorted({fold(m) for m in served.rows}, key=repr):
        seen = served.select(lambda m, out=out: fold(m) != out)  # type: ignore[misc]  # bound here
        unseen = served.select(lambda m, out=out: fold(m) == out)  # type: ignore[misc]
        if seen.rows:
            ratios.append(unseen.ratios(fit_served(seen).times()))
            rows += list(unseen.rows)
    return (np.concatenate(ratios) if ratios else np.empty(0)), tuple(rows)


def host_table(measurements: Sequence[Measurement]) -> dict[str, Any] | None:
    """``host.toml`` as fitted on the served rows among ``measurements``; None without any."""
    served = gather_served(measurements)
    if len(served.rows) < LEAST_RATIOS:
        return None
    found = fit_served(served)
    held = {split: held_back(served, split) for split in SPLITS}
    devices = [load_device(d) for d in sorted({m.device for m in served.rows})]
    factor = _factors(served.ratios(found.times()), served.rows)
    residuals = dict(_residual_tables(served, held))
    return {
        "fit": {
            "data": sorted({m.file for m in served.rows}),
            "rows": len(served.rows),
            "devices": sorted({d.name for d in devices}),
            "vendors": sorted({d.vendor for d in devices}),
            "dtypes": sorted({m.dtype for m in served.rows if m.dtype}),
            "factor": rounded(float(np.mean(list(factor.values())))),
        },
        "residuals": residuals,
        "held_back": {
            split: {k: rounded(v) for k, v in _factors(*told).items()}
            for split, told in held.items()
            if told[0].size
        },
        "covered": {
            split: _covered(residuals, *told) for split, told in held.items() if told[0].size
        },
        "shared": {p.name: _entry(found, i) for i, (e, p) in enumerate(found.names) if not e},
        "engines": _engine_tables(found),
    }


def _factors(ratios: Floats, rows: Sequence[Measurement]) -> dict[str, float]:
    """Factor of each scenario."""
    own = _by_scenario(ratios, rows) if len(rows) else {}
    return {name: float(np.exp(_spread(r))) for name, r in own.items()}


def _residual_tables(
    served: Served, held: Mapping[str, tuple[Floats, tuple[Measurement, ...]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Quantiles by scenario, of all of them, and of bare kernels without any engine."""
    told = {split: _by_scenario(*held[split]) for split in HARD if held[split][0].size}
    for name in sorted({m.scenario for m in served.rows}):
        hard = max((s for s in told if name in told[s]), key=lambda s: _spread(told[s][name]))
        if told[hard][name].size >= LEAST_RATIOS:
            yield name, _quantiles(told[hard][name], hard)
    hard = max(told, key=lambda s: _spread(held[s][0]))
    yield "step", _quantiles(held[hard][0], hard)
    yield "bare", _quantiles(served.ratios({"": EngineTimes()}), "nothing is fitted")


def _covered(
    residuals: Mapping[str, Mapping[str, Any]], ratios: Floats, rows: Sequence[Measurement]
) -> dict[str, float]:
    """Share of rows held back that lie inside the interval of their scenario."""
    q = {name: residuals.get(name, residuals["step"]) for name in {m.scenario for m in rows}}
    return {
        name: rounded(float(np.mean((r >= q[name]["low"]) & (r <= q[name]["high"]))))
        for name, r in _by_scenario(ratios, rows).items()
    }


def _by_scenario(ratios: Floats, rows: Sequence[Measurement]) -> dict[str, Floats]:
    names = np.array([m.scenario for m in rows])
    return {str(name): ratios[names == name] for name in np.unique(names)}


def _spread(ratios: Floats) -> float:
    return float(np.mean(np.abs(np.log(ratios))))


def _quantiles(ratios: Floats, held: str) -> dict[str, Any]:
    q = conformal_quantiles(ratios, COVERAGE)
    return {
        "held_back": held,
        "coverage": q.coverage,
        "low": rounded(q.low),
        "high": rounded(q.high),
        "rows": q.rows,
    }


def _entry(found: HostFactors, i: int) -> dict[str, Any]:
    _, p = found.names[i]
    known = bool(found.errors[i] < IDENTIFIED_SHARE * (p.high - p.low))
    return {
        "value": rounded(float(found.values[i])),
        "unit": p.unit,
        "error": rounded(float(found.errors[i])) if known else 0.0,
        "identified": known,
    }


def _engine_tables(found: HostFactors) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for i, (engine, p) in enumerate(found.names):
        if engine:
            tables.setdefault(engine, {})[p.name] = _entry(found, i)
    times = found.times()
    for host in sorted(set(found.hosts.values())):
        tables[host] = {
            p.name: {
                "value": rounded(getattr(times[host], p.name)),
                "unit": p.unit,
                "error": 0.0,
                "identified": False,
            }
            for p in OF_ENGINE
        }
    return tables
