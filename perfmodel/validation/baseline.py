"""What anything that calls itself a model must beat: a roofline, and a roofline with two knobs.

The second is ``t = roofline / efficiency + t0`` (for throughputs ``roofline * efficiency``), one
pair per class for all devices, fitted on the very rows that it is scored on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import PerfModelError
from perfmodel.hw.load import load_device
from perfmodel.validation.score import Errors, FileReport, Scored, errors, factor

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One class on one device: the model's errors beside those of the two baselines."""

    kernel_class: str
    device: str
    quantity: str
    errors: Errors
    roofline: float | None
    two_parameters: float | None
    """Factors; None where a row has no roofline."""


def compare(reports: Sequence[FileReport]) -> list[Compared]:
    """Every class and device of ``reports``, unflagged rows, in order of name."""
    rows = [s for r in reports for s in r.scored if not s.measurement.flagged]
    found = []
    for kind in sorted({_kind(s) for s in rows}):
        own = [s for s in rows if _kind(s) == kind]
        known = [s for s in own if s.bound is not None]
        fitted = dict(zip(map(id, known), two_parameters(known), strict=True)) if known else {}
        devices = sorted({_device(s) for s in own})
        found += [_compared(kind, d, [s for s in own if _device(s) == d], fitted) for d in devices]
    return found


def _kind(s: Scored) -> tuple[str, str]:
    """What one pair of knobs is fitted for."""
    name = s.kernel_class or s.measurement.scenario
    if name in ("serving", "training"):
        name = s.measurement.scenario
    return name, s.measurement.quantity


def _device(s: Scored) -> str:
    try:
        return load_device(s.measurement.device).name
    except PerfModelError:
        return s.measurement.device


def _compared(
    kind: tuple[str, str], device: str, rows: Sequence[Scored], fitted: dict[int, np.float64]
) -> Compared:
    whole = all(id(s) in fitted for s in rows)
    measured = np.array([s.measurement.value for s in rows])
    return Compared(
        kernel_class=kind[0],
        device=device,
        quantity=kind[1],
        errors=errors(rows),
        roofline=factor(np.array([s.bound for s in rows], float), measured) if whole else None,
        two_parameters=factor(np.array([fitted[id(s)] for s in rows]), measured) if whole else None,
    )


def two_parameters(rows: Sequence[Scored]) -> Floats:
    """Predictions of the two-knob roofline, fitted on the log error of ``rows``."""
    from scipy.optimize import least_squares

    measured = np.array([s.measurement.value for s in rows])
    roof = np.array([s.bound for s in rows], float)
    if rows[0].measurement.quantity != "latency":
        efficiency = np.exp(np.median(np.log(measured / roof)))
        rate: Floats = roof * efficiency
        return rate

    def predicted(x: Floats) -> Floats:
        time_s: Floats = roof / np.exp(x[0]) + np.exp(x[1])
        return time_s

    start = np.array([np.log(0.7), np.log(np.median(measured) * 0.1 + 1e-9)])
    found = least_squares(
        lambda x: np.log(predicted(x) / measured), start, loss="soft_l1", f_scale=0.3
    )
    return predicted(found.x)
