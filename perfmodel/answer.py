"""What every question is answered with: a time, its interval, what binds, and why.

``lower_bound_s`` is physics (total work over peak, compulsory traffic only); ``time_s`` the
estimate, computed from ``terms`` as ``formula`` says; ``low_s..high_s`` an interval with the
stated ``coverage``. Ideal and realistic are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.workload import Array

Source: TypeAlias = Literal["analytic", "calibrated", "measured", "mixed"]


def merge_sources(sources: tuple[Source, ...]) -> Source:
    """The source of a total: that of its parts if they agree, else ``mixed``."""
    distinct = set(sources)
    return distinct.pop() if len(distinct) == 1 else "mixed"


def merge_coverages(stated: Iterable[float | None]) -> float | None:
    """The coverage of a total's interval: the least of its parts', None if any states none."""
    known = list(stated)
    return None if None in known or not known else min(c for c in known if c is not None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """How long something takes, and how sure we are. Times are seconds, scalars or arrays.

    ``bound`` names the roof that binds (an array of names over a grid). ``terms`` maps a name to
    seconds. ``parts`` are the estimates that a step is made of, each with how often it occurs.
    ``assumptions`` lists what was taken for granted, unverified figures among them.
    """

    name: str
    time_s: Array
    low_s: Array
    high_s: Array
    lower_bound_s: Array
    bound: NDArray[np.str_]
    terms: Mapping[str, Array]
    formula: str
    source: Source
    coverage: float | None = None
    assumptions: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Figures shown beside the answer (FLOPs, bytes, arithmetic intensity, ridge point)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid's shape: ``()`` for a single point."""
        return np.shape(self.time_s)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: ``time_s, low_s, high_s, lower_bound_s, bound, terms, source, ...``."""
        return {
            "name": self.name,
            "time_s": _plain(self.time_s),
            "low_s": _plain(self.low_s),
            "high_s": _plain(self.high_s),
            "coverage": self.coverage,
            "lower_bound_s": _plain(self.lower_bound_s),
            "bound": _plain(self.bound),
            "terms": {k: _plain(v) for k, v in self.terms.items()},
            "formula": self.formula,
            "source": self.source,
            "assumptions": list(self.assumptions),
            "facts": {k: _plain(v) for k, v in self.facts.items()},
            "parts": [p.to_dict() for p in self.parts],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One kind of operator inside a step: ``count`` times ``estimate``, under ``group``."""

    group: str
    count: Array
    estimate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the estimate's dictionary with ``group`` and ``count``."""
        return {"group": self.group, "count": _plain(self.count)} | self.estimate.to_dict()


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as the Python values JSON knows."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
