"""Scales of microcontroller runtimes, fitted on whole networks timed on boards."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.calibration.files import rounded
from perfmodel.calibration.fit import Fit, fit
from perfmodel.calibration.heldback import ratios_by
from perfmodel.calibration.intervals import ResidualQuantiles, conformal_quantiles
from perfmodel.errors import PerfModelError
from perfmodel.hw.device import Device
from perfmodel.mcu.counted import Counted, Work, counted, work
from perfmodel.mcu.measured import ENERGY, LATENCY, Question, asks_network, question_of
from perfmodel.mcu.runtimes import runtimes
from perfmodel.mcu.scales import OWN, SHARED, all_parameters
from perfmodel.measure import Measurement
from perfmodel.roofline.model import Parameter

NAME = "mcu"
COVERAGE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkModel:
    """What a fit needs to know: shared parameters and those of the runtimes that were timed."""

    parameters: tuple[Parameter, ...]
    name: str = NAME


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timed:
    """Rows that one call predicts: networks on boards, each by its runtime."""

    rows: tuple[Measurement, ...]
    questions: tuple[Question, ...]
    work: Work
    clock_hz: NDArray[np.float64]

    @property
    def measured_s(self) -> NDArray[np.float64]:
        """Measured times in seconds."""
        return np.array([r.value for r in self.rows])

    def predicted_s(self, values: dict[str, float]) -> NDArray[np.float64]:
        """Predicted times under parameter ``values``."""
        return self.work.cycles(values, [q.runtime for q in self.questions]) / self.clock_hz

    def select(self, keep: Callable[[Measurement], bool]) -> Timed | None:
        """The rows that ``keep`` wants; None where it wants none."""
        kept = [(m, q) for m, q in zip(self.rows, self.questions, strict=True) if keep(m)]
        return timed(kept) if kept else None


def by_network(m: Measurement) -> Hashable:
    """The network that a row times."""
    return _asked(m).network.name


def by_board(m: Measurement) -> Hashable:
    """The board it was timed on."""
    return _asked(m).device.name


def by_runtime(m: Measurement) -> Hashable:
    """The runtime that ran it."""
    return _asked(m).runtime


SPLITS: dict[str, Callable[[Measurement], Hashable]] = {
    "network": by_network,
    "board": by_board,
    "runtime": by_runtime,
}
"""Ways of holding rows back. By runtime: what the typical one says of a runtime never seen."""


def gather_networks(measurements: Sequence[Measurement]) -> Timed | None:
    """Every row that times a network on a known board; None where there is none."""
    asked = [(m, q) for m in measurements if (q := _answerable(m)) and m.scenario == LATENCY]
    measured = [(m, q) for m, q in asked if q.runtime is None or _fitted(q.runtime)]
    return timed(measured) if measured else None


def timed(asked: Sequence[tuple[Measurement, Question]]) -> Timed:
    """Rows with their questions as one sample (at least one row)."""
    questions = tuple(q for _, q in asked)
    return Timed(
        rows=tuple(m for m, _ in asked),
        questions=questions,
        work=work([(_operators(q.network.name, q.device, q.dtype), q.dtype) for q in questions]),
        clock_hz=np.array([q.device.compute.clock_vector_hz for q in questions]),
    )


def calibrate_networks(
    measurements: Sequence[Measurement], progress: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The calibration table of microcontrollers, where ``measurements`` time any."""
    sample = gather_networks(measurements)
    if sample is None:
        return
    progress(NAME)
    model = _model(sample)
    found = fit(model, [sample])
    held = {s: r for s, f in SPLITS.items() if (r := ratios_by(model, [sample], f)) is not None}
    yield (
        NAME,
        {
            "fit": _fit_table(found, sample),
            "residuals": {"held_back": "network"} | _quantiles(held["network"]),
            "held_back": {s: {"factor": _factor(r)} | _quantiles(r) for s, r in held.items()},
            "energy": _energy_table(measurements),
            "parameters": _parameters(found, SHARED, ""),
            "kernels": {
                r: {"parameters": _parameters(found, OWN, f"{r}.")} for r in _runtimes(sample)
            },
        },
    )


def _model(sample: Timed) -> NetworkModel:
    return NetworkModel(parameters=all_parameters(_runtimes(sample)))


def _runtimes(sample: Timed) -> list[str]:
    return sorted({q.runtime for q in sample.questions} - {None}, key=str)  # type: ignore[arg-type]  # None was just taken out


def _fit_table(found: Fit, sample: Timed) -> dict[str, Any]:
    boards = [q.device for q in sample.questions]
    return {
        "data": sorted({r.file for r in sample.rows}),
        "rows": found.rows,
        "devices": sorted({d.name for d in boards}),
        "timed": sorted(
            {f"{q.device.board.core} {q.dtype}" for q in sample.questions if q.device.board}
        ),
        "factor": rounded(found.factor),
    }


def _quantiles(ratios: NDArray[np.float64]) -> dict[str, Any]:
    q: ResidualQuantiles = conformal_quantiles(ratios, COVERAGE)
    return {
        "coverage": q.coverage,
        "low": rounded(q.low),
        "high": rounded(q.high),
        "rows": q.rows,
    }


def _factor(ratios: NDArray[np.float64]) -> float:
    return rounded(float(np.exp(np.mean(np.abs(np.log(ratios))))))


def _parameters(found: Fit, declared: Sequence[Parameter], prefix: str) -> dict[str, Any]:
    return {
        p.name: {
            "value": min(max(rounded(round(found.values[prefix + p.name], 6)), p.low), p.high),
            "unit": p.unit,
            "error": rounded(min(found.errors[prefix + p.name], p.high - p.low)),
            "identified": found.identified[prefix + p.name],
        }
        for p in declared
    }


def _energy_table(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Measured power over the board's stated one: energy rows over the time of the same run."""
    runs = {_run(m): m.value for m in measurements if m.scenario == "latency_in_energy_mode"}
    powers = [
        m.value / runs[_run(m)] / q.device.active_w
        for m in measurements
        if m.scenario == ENERGY and _run(m) in runs
        if (q := _answerable(m)) and q.device.active_w
    ]
    if not powers:
        return {}
    ratios = np.array(powers)
    return {"factor": _factor(ratios)} | _quantiles(ratios)


def _run(m: Measurement) -> tuple[str, ...]:
    names = ("source", "device", "submitter", "framework", "variant", "model")
    return tuple(m.question.get(n, "") for n in names)


def _answerable(m: Measurement) -> Question | None:
    if m.refusal or not asks_network(m):
        return None
    try:
        return question_of(m)
    except PerfModelError:
        return None


def _asked(m: Measurement) -> Question:
    question = _answerable(m)
    assert question is not None  # the sample holds no others
    return question


def _fitted(runtime: str) -> bool:
    """Whether a runtime's scales come from its rows: no stand-in says what they are."""
    known = runtimes()[runtime]
    return not known.bare and known.like is None


@lru_cache(maxsize=256)
def _operators(network: str, device: Device, dtype: str) -> tuple[Counted, ...]:
    from perfmodel.mcu.networks import built_in

    return counted(built_in(network), device, dtype)
