"""How far measurements lay from predictions that had not seen them, as calibration files say it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.roofline.model import LONG, WORK
from perfmodel.workload import Array


def among(regimes: NDArray[np.str_], known: Container[str]) -> NDArray[np.str_]:
    """``regimes`` with long work called work where its residuals are not told apart."""
    return regimes if LONG in known else np.where(regimes == LONG, WORK, regimes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """Quantiles of measured over predicted on held-back rows: ``coverage`` of them lie between.

    ``regimes`` holds the quantiles of regimes with rows enough, ``held_back`` what the fits behind
    them had not seen ("shape", "model", "file", "device").
    """

    coverage: float
    low: float
    high: float
    held_back: str = ""
    regimes: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def factors(
        self, regimes: NDArray[np.str_], widening: Array, unseen: float = 1.0
    ) -> tuple[Array, Array]:
        """What to multiply predictions by for the ends of their intervals; never past 1.

        ``widening`` stretches both ends on the log scale, and ``unseen`` those of regimes that are
        not among the known ones.
        """
        regimes = among(regimes, self.regimes)
        known = np.isin(regimes, list(self.regimes))
        stretch = widening * np.where(known | (not self.regimes), 1.0, np.float64(unseen))
        below: Array = np.float64(self.low)
        above: Array = np.float64(self.high)
        for name, (low, high) in self.regimes.items():
            below = np.where(regimes == name, low, below)
            above = np.where(regimes == name, high, above)
        first: Array = np.power(np.minimum(below, 1.0), stretch)[()]
        last: Array = np.power(np.maximum(above, 1.0), stretch)[()]
        return first, last


def read_residuals(table: Mapping[str, Any], coverage: float | None = None) -> Residuals:
    """Residuals from a table of a calibration file; raises ValueError or KeyError naming what is
    wrong."""
    found = Residuals(
        coverage=float(table["coverage"] if coverage is None else coverage),
        low=float(table["low"]),
        high=float(table["high"]),
        held_back=str(table.get("held_back", "")),
        regimes={
            str(name): (float(q["low"]), float(q["high"]))
            for name, q in table.get("regimes", {}).items()
        },
    )
    ends = ((found.low, found.high), *found.regimes.values())
    if not (0.0 < found.coverage < 1.0 and all(0.0 < low <= high for low, high in ends)):
        msg = f"residuals must have 0 < coverage < 1 and 0 < low <= high, got {found}"
        raise ValueError(msg)
    return found
