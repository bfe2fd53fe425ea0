"""Many workloads of one kind as one workload with array fields, so that a table is one call."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import fields

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.workload.base import Workload


def stack(workloads: Sequence[Workload]) -> Workload:
    """One workload whose numeric fields are arrays over ``workloads``, in their order.

    Raises:
        BadValue: none given, or their operators, data types or choices differ.
    """
    if not workloads or len({stack_key(w) for w in workloads}) != 1:
        msg = "only workloads that differ in numbers alone can be stacked"
        raise BadValue(msg, field="workloads")
    first = workloads[0]
    columns = {f.name: [getattr(w, f.name) for w in workloads] for f in fields(first)}
    return type(first)(**{k: np.asarray(v) if _numeric(v) else v[0] for k, v in columns.items()})


def stack_key(workload: Workload) -> Hashable:
    """What two workloads must share to be stacked: the operator and all that is not a number."""
    values = ((f.name, getattr(workload, f.name)) for f in fields(workload))
    return (workload.op, *((n, float if _numeric([v]) else v) for n, v in values))


def _numeric(column: Iterable[object]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)
