"""The allocation of :mod:`perfmodel.mcu.allocate` as a mixed-integer program for HiGHS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from perfmodel.mcu.allocate import Buffer

NODES = 20_000
SECONDS = 10.0
"""Where the solver stops; the gap that is left is reported."""


def program(
    buffers: Sequence[Buffer], least: int, most: int
) -> tuple[dict[str, int] | None, int, int]:
    """Offsets of peak at most ``most``, that peak, and a proven bound of at least ``least``.

    Variables: an offset for each buffer, one binary for each pair that meets (which of the two lies
    lower), the peak. ``o_i + s_i <= o_j + M (1 - b)`` and ``o_j + s_j <= o_i + M b`` with ``M`` =
    ``most``; the peak, at least ``least``, is minimised. None where the solver found no plan.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    n = len(buffers)
    pairs = [(i, j) for i, j in combinations(range(n), 2) if buffers[i].meets(buffers[j])]
    rows, limits = _rows(buffers, pairs, most)
    entries = [(r, c, v) for r, row in enumerate(rows) for c, v in row]
    r, c, v = (np.array(x) for x in zip(*entries, strict=True))
    width = n + len(pairs) + 1
    sizes = np.array([b.bytes for b in buffers])
    solved = milp(
        np.eye(width)[-1],
        constraints=LinearConstraint(csr_array((v, (r, c)), shape=(len(rows), width)), ub=limits),
        integrality=np.ones(width),
        bounds=Bounds(
            np.append(np.zeros(width - 1), least),
            np.concatenate([most - sizes, np.ones(len(pairs)), [most]]),
        ),
        options={"time_limit": SECONDS, "node_limit": NODES},
    )
    dual = least if solved.mip_dual_bound is None else math.ceil(solved.mip_dual_bound - 1e-6)
    bound = max(least, min(dual, most))
    if solved.status == 2:  # proven: no plan within ``most``
        return None, most + 1, most + 1
    if solved.x is None:
        return None, most + 1, bound
    offsets = _settled(buffers, np.round(solved.x[:n]).astype(int))
    peak = max(offsets[b.name] + b.bytes for b in buffers)
    return offsets, peak, min(bound, peak)


def _rows(
    buffers: Sequence[Buffer], pairs: Sequence[tuple[int, int]], most: int
) -> tuple[list[list[tuple[int, float]]], list[float]]:
    """Sparse rows ``sum of value * variable <= limit``."""
    n = len(buffers)
    peak = n + len(pairs)
    rows: list[list[tuple[int, float]]] = []
    limits: list[float] = []
    for k, (i, j) in enumerate(pairs):
        rows.append([(i, 1.0), (j, -1.0), (n + k, float(most))])
        limits.append(float(most - buffers[i].bytes))
        rows.append([(j, 1.0), (i, -1.0), (n + k, -float(most))])
        limits.append(float(-buffers[j].bytes))
    for i, b in enumerate(buffers):
        rows.append([(i, 1.0), (peak, -1.0)])
        limits.append(float(-b.bytes))
    return rows, limits


def _settled(buffers: Sequence[Buffer], offsets: Sequence[int]) -> dict[str, int]:
    """The solver's offsets with every buffer pushed down in their order: exact integers again."""
    order = sorted(range(len(buffers)), key=lambda i: offsets[i])
    ends: dict[str, int] = {}
    settled: dict[str, int] = {}
    for i in order:
        b = buffers[i]
        at = max((ends[p.name] for p in buffers if p.name in ends and p.meets(b)), default=0)
        settled[b.name], ends[b.name] = at, at + b.bytes
    return settled
