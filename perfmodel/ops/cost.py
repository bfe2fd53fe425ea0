"""The cost vector of an operator: what it must do on any device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from perfmodel.workload import Array, RateKey

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
    ``launches``: kernels launched.
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
