"""The cost vector of an operator: what it must do on any device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from perfmodel.ops.numbers import f64
from perfmodel.workload import Array, RateKey, Size

ZERO, ONE = np.float64(0.0), np.float64(1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cost:
    """Work of one operator, each entry a float64 scalar or array.

    ``flops``: per unit and data type, 1 FMA = 2 FLOP. ``special``: results of the special-function
    unit (exponentials, reciprocals, tanh). ``read_bytes`` / ``write_bytes``: compulsory traffic,
    every input read once and every output written once. ``weight_bytes``: the part of
    ``read_bytes`` that is weights. ``link_bytes``: bytes each device sends over its link.
    ``items``: independent pieces of work at the finest grain that needs no reduction between
    them. ``depth``: dependent steps that no parallelism shortens (1 when there are none).
    ``launches``: kernels launched. Costs add entry by entry, so the ``items`` and ``depth`` of a
    sum are those of operators run one after the other.
    """

    flops: Mapping[RateKey, Array] = field(default_factory=dict)
    special: Array = ZERO
    read_bytes: Array = ZERO
    write_bytes: Array = ZERO
    weight_bytes: Array = ZERO
    link_bytes: Array = ZERO
    items: Array = ONE
    depth: Array = ONE
    launches: Array = ONE

    @property
    def flops_total(self) -> Array:
        """FLOPs over all units and data types."""
        return sum(self.flops.values(), start=ZERO)

    @property
    def bytes_total(self) -> Array:
        """Compulsory traffic, reads and writes."""
        return self.read_bytes + self.write_bytes

    @property
    def arithmetic_intensity(self) -> Array:
        """FLOPs per compulsory byte; 0 where there is no traffic."""
        flops, traffic = np.broadcast_arrays(self.flops_total, self.bytes_total)
        quotient = np.zeros(traffic.shape)
        np.divide(flops, traffic, out=quotient, where=traffic > 0)
        return quotient[()]

    def __add__(self, other: Cost) -> Cost:
        """One operator after the other: every entry summed."""
        flops = dict(self.flops)
        for key, work in other.flops.items():
            flops[key] = flops[key] + work if key in flops else work
        return Cost(
            flops=flops,
            **{name: getattr(self, name) + getattr(other, name) for name in _SCALARS},
        )

    def scaled(self, count: Size | Array) -> Cost:
        """The operator run ``count`` times."""
        times = f64(count)
        return Cost(
            flops={key: work * times for key, work in self.flops.items()},
            **{name: getattr(self, name) * times for name in _SCALARS},
        )


_SCALARS = (
    "special",
    "read_bytes",
    "write_bytes",
    "weight_bytes",
    "link_bytes",
    "items",
    "depth",
    "launches",
)

NOTHING = Cost(items=ZERO, depth=ZERO, launches=ZERO)
"""The neutral element of addition."""


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs; :data:`NOTHING` if there are none."""
    return sum(costs, start=NOTHING)
