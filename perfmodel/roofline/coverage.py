"""What a fit has seen: operators and the data types they ran in."""

from __future__ import annotations

from perfmodel.workload import Workload

_ALIKE = {"bf16": "16-bit", "fp16": "16-bit"}


def described(workload: Workload) -> str:
    """Operator and data types, as calibration files list what they cover: ``"gemm 16-bit x int4"``.

    The two 16-bit formats count as one: they move the same bytes at the same rates.
    """
    names = [_plain(workload, field) for field in ("dtype", "weight_dtype", "kv_dtype")]
    kinds = list(dict.fromkeys(name for name in names if name))
    return " ".join((workload.op, " x ".join(kinds))).rstrip()


def _plain(workload: Workload, field: str) -> str:
    dtype = getattr(workload, field, None) or ""
    return _ALIKE.get(dtype, dtype)
