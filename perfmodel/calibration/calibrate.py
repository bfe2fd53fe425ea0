"""Fit every kernel class on a folder of measurements and say how far to trust each fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.calibration.dataset import Group
from perfmodel.calibration.files import rounded
from perfmodel.calibration.fit import Fit, fit
from perfmodel.calibration.heldback import SPLITS, Unseen, unseen_rows
from perfmodel.calibration.intervals import (
    ResidualQuantiles,
    conformal_quantiles,
    covered_unseen,
    regime_quantiles,
)
from perfmodel.errors import MissingFile, UnknownName
from perfmodel.measure import Measurement, read_measurements
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.coverage import described, spans_of
from perfmodel.roofline.model import ClassModel, Parameter
from perfmodel.roofline.parameters import distance

COVERAGE = 0.9
THREADS = "OPENBLAS_NUM_THREADS"
"""What NumPy's matrix library reads its number of threads from."""
LEAST_ROWS = 15
"""Rows below which an implementation gets no parameters of its own."""
LEAST_OWN = 5
"""The same for this repository's kernels, which no other implementation of their class is like."""

TELLING_ROWS = 60
"""Rows of an implementation from which nothing but they decides its parameters."""
WIDTH = 0.5
"""Log-width of what the other implementations say of a parameter."""
NEAR_ZERO = 1e-3
"""Share of a parameter's range that stands for zero where logarithms are taken."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldBack:
    """Rows predicted by fits that had not seen them, by the way they were held back, mildest
    first."""

    rows: Mapping[str, Unseen]

    @property
    def hardest(self) -> str:
        """The widest-reaching way that the data allowed: device, else file, model, shape."""
        return next(s for s in reversed(SPLITS) if s in self.rows)


def read_rows(folders: Iterable[Path]) -> list[Measurement]:
    """All measurements of every .csv and .json file in ``folders``.

    Raises:
        MissingFile: a folder does not exist or holds no such file.
    """
    files = [f for folder in folders for f in _files(folder)]
    return [m for f in files for m in read_measurements(f)]


def _files(folder: Path) -> list[Path]:
    found = sorted(f for f in folder.glob("*") if f.suffix in (".csv", ".json"))
    if not found:
        msg = f"{folder} holds no .csv or .json file of measurements"
        raise MissingFile(msg, field="data", fix="the folder of the measured tables")
    return found


def calibrate(
    groups: Sequence[Group], progress: Progress, only: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The calibration table of each class that ``groups`` measure, as its TOML file holds it; of
    those in ``only``, if there are any.

    Classes are fitted side by side, a process each; what they give does not depend on that.

    Raises:
        UnknownName: no class has the name.
    """
    for name in only:
        if name not in CLASS_MODELS:
            raise UnknownName("kernel class", name, CLASS_MODELS)
    wanted = [name for name in CLASS_MODELS if not only or name in only]
    tasks = {name: own for name in wanted if (own := rows_of(name, groups))}
    with _workers(len(tasks)) as pool:
        longest_first = sorted(tasks, key=lambda n: -sum(len(g.rows) for g in tasks[n]))
        waiting = {name: pool.submit(_fitted, name, tasks[name]) for name in longest_first}
        for name in tasks:
            progress(name)
            if (table := waiting[name].result()) is not None:
                yield name, table


def rows_of(name: str, groups: Sequence[Group]) -> list[Group]:
    """What class ``name`` is fitted on: its own rows, then those of classes it is typical of."""
    others = CLASS_MODELS[name].typical_of
    lent = [
        g.as_class(name)
        for g in groups
        if {g.kernel_class, f"{g.kernel_class}/{g.implementation}"} & set(others)
    ]
    return [g for g in groups if g.kernel_class == name] + lent


@contextmanager
def _workers(tasks: int) -> Iterator[Executor]:
    """Processes that start afresh and compute on one thread each: small matrices gain nothing from
    more, and wait for each other on a busy machine."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    count = max(1, min(tasks, os.cpu_count() or 1))
    try:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        os.environ.pop(THREADS)
        if before is not None:
            os.environ[THREADS] = before


def _fitted(name: str, groups: Sequence[Group]) -> dict[str, Any] | None:
    return class_table(CLASS_MODELS[name], groups)


def class_table(model: ClassModel, groups: Sequence[Group]) -> dict[str, Any] | None:
    """Pooled parameters, their held-back residuals, and the same for each implementation; None
    where nothing can be held back, so that no interval could be told."""
    held = held_back(model, groups)
    if not held.rows:
        return None
    pooled = fit(model, groups)
    return {
        **_table(model, groups, pooled, held),
        "kernels": dict(_kernels(model, groups, pooled, held)),
    }


def _table(
    model: ClassModel, groups: Sequence[Group], found: Fit, held: HeldBack
) -> dict[str, Any]:
    """What the pooled fit and that of an implementation both tell."""
    return {
        "fit": _fit_table(found, groups),
        "residuals": _residual_table(held),
        "held_back": {s: _split_table(held, s) for s in held.rows},
        "parameters": _parameter_table(model, found),
    }


def held_back(model: ClassModel, groups: Sequence[Group]) -> HeldBack:
    """Rows held back in every way that they allow."""
    found = {split: unseen_rows(model, groups, split) for split in SPLITS}
    return HeldBack(rows={s: r for s, r in found.items() if r is not None})


def _kernels(
    model: ClassModel, groups: Sequence[Group], pooled: Fit, held_all: HeldBack
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tables of implementations; the only one of its class has the class's own fit."""
    names = sorted({g.implementation for g in groups} - {""})
    for name in names:
        own = [g for g in groups if g.implementation == name]
        least = LEAST_OWN if name.startswith("refkernels.") else LEAST_ROWS
        if sum(len(g.rows) for g in own) < least:
            continue
        found, held = pooled, held_all
        if others := [g for g in groups if g.implementation != name]:
            drawn = drawn_towards(model, own, others)
            found, held = fit(drawn, own), held_back(drawn, own)
        if held.rows:
            yield name, _table(model, own, found, held)


def drawn_towards(model: ClassModel, own: Sequence[Group], others: Sequence[Group]) -> ClassModel:
    """``model`` for an implementation with few rows: where these do not tell a parameter, it stays
    near what ``others``, the rest of the class, say of it."""
    if sum(len(g.rows) for g in own) >= TELLING_ROWS:
        return model
    typical = fit(model, others)
    parameters = tuple(_near(p, typical) for p in model.parameters)
    return replace(model, parameters=parameters)


def _near(p: Parameter, typical: Fit) -> Parameter:
    if not typical.identified[p.name] or typical.values[p.name] <= 0.0:
        return p
    value = max(typical.values[p.name], p.low + NEAR_ZERO * (p.high - p.low))
    return replace(p, start=value, prior=WIDTH)


def _fit_table(found: Fit, groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "data": sorted({r.file for g in groups for r in g.rows}),
        "rows": found.rows,
        "devices": sorted({g.device.name for g in groups}),
        "vendors": sorted({g.device.vendor for g in groups}),
        "covers": sorted({described(g.workload) for g in groups}),
        "spans": spans_of([g.workload for g in groups]),
        "factor": rounded(found.factor),
    }


def _residual_table(held: HeldBack) -> dict[str, Any]:
    told = _split_table(held, held.hardest)
    return {"held_back": held.hardest, "coverage": COVERAGE} | {
        k: told[k] for k in ("low", "high", "rows", "regimes")
    }


def _split_table(held: HeldBack, split: str) -> dict[str, Any]:
    """Factor and quantiles of rows held back, quantiles by regime, and by device the share of rows
    inside an interval made of the other folds; rows that say more of rounding have no part in
    intervals."""
    rows, fine = held.rows[split], held.rows[split].precise
    inside = covered_rows(fine)
    by_device = {str(d): fine.devices == d for d in np.unique(fine.devices)}
    own = regime_quantiles(fine.ratios, fine.regimes, COVERAGE, fine.devices)
    off = np.abs(1.0 / rows.ratios - 1.0)
    return {
        "factor": rounded(float(np.exp(np.mean(np.abs(np.log(rows.ratios)))))),
        "median_ape": rounded(float(np.median(off))),
        "p90_ape": rounded(float(np.quantile(off, 0.9))),
        **_bounds(conformal_quantiles(fine.ratios, COVERAGE)),
        "regimes": {name: _bounds(q) for name, q in own.items()},
        "covered": {
            name: rounded(float(np.mean(inside[at])))
            for name, at in by_device.items()
            if np.sum(at) >= LEAST_ROWS
        },
    }


def covered_rows(rows: Unseen) -> NDArray[np.bool_]:
    """Which rows lie inside an interval made of the other folds."""
    return covered_unseen(
        rows.ratios, rows.regimes, rows.folds, COVERAGE, distance().unseen_regime, _few(rows),
        rows.devices,
    )  # fmt: skip


def _few(rows: Unseen) -> NDArray[np.float64]:
    """By what intervals widen for rows whose device the other folds do not have."""
    stretch = np.ones(rows.ratios.size)
    for fold in np.unique(rows.folds):
        out = rows.folds == fold
        others = np.unique(rows.devices[~out])
        new = out & ~np.isin(rows.devices, others)
        stretch[new] = distance().unseen_device(max(others.size, 1))
    return stretch


def _bounds(q: ResidualQuantiles) -> dict[str, Any]:
    return {"low": rounded(q.low), "high": rounded(q.high), "rows": q.rows}


def _parameter_table(model: ClassModel, found: Fit) -> dict[str, Any]:
    return {
        p.name: {
            "value": min(max(rounded(found.values[p.name]), p.low), p.high),
            "unit": p.unit,
            "error": rounded(found.errors[p.name]) if found.identified[p.name] else 0.0,
            "identified": found.identified[p.name],
        }
        for p in model.parameters
    }
