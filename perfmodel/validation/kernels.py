"""Predictions of single operators for measured rows, a group of rows in one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.calibration.dataset import Group, gather
from perfmodel.errors import MissingCalibration, PerfModelError
from perfmodel.measure import Measurement
from perfmodel.roofline.parameters import class_of_kernel, class_parameters
from perfmodel.roofline.time import estimate
from perfmodel.validation.parts import halves, within
from perfmodel.validation.score import Scored

NOTHING = "nothing to do: a collective of one rank takes no time"


def predict_kernels(measurements: Sequence[Measurement]) -> list[Scored]:
    """Every row that times one operator, predicted or refused with the reason."""
    return [s for g in gather(measurements) for s in _predict(g)]


def _predict(group: Group) -> list[Scored]:
    try:
        found = estimate(
            group.workload,
            group.device,
            kernel=_known_kernel(group),
            launch=group.run.launch,
            warm=group.run.warm,
        )
    except PerfModelError as error:
        parts = halves(group.rows)
        if not parts:
            return [Scored(measurement=m, refusal=str(error)) for m in group.rows]
        groups = [g for part in parts if (g := group.select(within(part))) is not None]
        return [s for g in groups for s in _predict(g)]
    return _rows(group, found)


def _rows(group: Group, found: Estimate) -> list[Scored]:
    shape = (len(group.rows),)
    time_s, low_s, high_s, bound_s = (
        np.broadcast_to(x, shape)
        for x in (found.time_s, found.low_s, found.high_s, found.lower_bound_s)
    )
    return [
        Scored(measurement=m, refusal=NOTHING)
        if time_s[i] <= 0.0
        else Scored(
            measurement=m,
            predicted=float(time_s[i]),
            low=float(low_s[i]),
            high=float(high_s[i]),
            kernel_class=group.kernel_class,
            bound=float(bound_s[i]),
        )
        for i, m in enumerate(group.rows)
    ]


def _known_kernel(group: Group) -> str | None:
    """The row's implementation where it was fitted or tells the class, else the typical one."""
    if class_of_kernel(group.workload.op, group.implementation) is not None:
        return group.implementation
    try:
        known = class_parameters(group.kernel_class).kernels
    except MissingCalibration:
        return None
    return group.implementation if group.implementation in known else None
