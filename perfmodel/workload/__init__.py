"""What is run: device-independent descriptions of operators (the leaf of the package).

Every numeric field takes a number or a NumPy array; fields of one workload broadcast against
each other, so one object can describe a whole grid. Arrays are stored read-only. Sizes are in
elements and tokens; data types are names from :data:`DTYPE_BYTES`.

Nothing here knows a device, a formula or a file: ``perfmodel.ops`` counts these objects,
``refkernels`` runs them.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from perfmodel.errors import BadValue, UnknownName
from perfmodel.workload.base import (
    Array,
    Real,
    Size,
    Workload,
    check_divides,
    check_real,
    check_size,
)
from perfmodel.workload.dense import Collective, Conv, Elementwise, Gemm, Norm
from perfmodel.workload.dtypes import (
    BLOCK_FORMATS,
    DTYPE_BYTES,
    RateKey,
    dtype_bytes,
    dtype_name,
    is_integer_dtype,
)
from perfmodel.workload.memo import remembered
from perfmodel.workload.mixers import Attention, DeltaRule, LinearAttention, SelectiveScan, Ssd
from perfmodel.workload.stack import stack, stack_key

__all__ = [
    "BLOCK_FORMATS",
    "DTYPE_BYTES",
    "WORKLOADS",
    "Array",
    "Attention",
    "Collective",
    "Conv",
    "DeltaRule",
    "Elementwise",
    "Gemm",
    "LinearAttention",
    "Norm",
    "RateKey",
    "Real",
    "SelectiveScan",
    "Size",
    "Ssd",
    "Workload",
    "check_divides",
    "check_real",
    "check_size",
    "dtype_bytes",
    "dtype_name",
    "is_integer_dtype",
    "remembered",
    "stack",
    "stack_key",
    "workload_from_dict",
]

WORKLOADS: dict[str, type[Workload]] = {
    cls.op: cls
    for cls in (
        Gemm,
        Attention,
        LinearAttention,
        DeltaRule,
        SelectiveScan,
        Ssd,
        Norm,
        Elementwise,
        Conv,
        Collective,
    )
}
"""Every operator by its command-line name."""


def workload_from_dict(values: dict[str, Any]) -> Workload:
    """The inverse of :meth:`Workload.to_dict`; lists become arrays.

    Raises:
        UnknownName: no such op, or a field that the op does not have.
        BadValue: a value out of range, or a required field absent.
    """
    given = dict(values)
    op = given.pop("op", None)
    if not isinstance(op, str) or op not in WORKLOADS:
        raise UnknownName("op", str(op), WORKLOADS)
    cls = WORKLOADS[op]
    names = {f.name for f in fields(cls)}
    for name in given:
        if name not in names:
            raise UnknownName(f"{op} field", name, names)
    try:
        return cls(**{k: np.asarray(v) if isinstance(v, list) else v for k, v in given.items()})
    except TypeError:
        missing = [n for n in _required(cls) if n not in given]
        msg = f"{op} needs {', '.join(missing)}"
        raise BadValue(msg, field=missing[0] if missing else op) from None


def _required(cls: type[Workload]) -> list[str]:
    return [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
