"""Counts of work: a workload's FLOPs, special functions and compulsory bytes. No device here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.ops.attention import count_attention
from perfmodel.ops.collective import count_collective
from perfmodel.ops.conv import count_conv
from perfmodel.ops.cost import NOTHING, Cost, total
from perfmodel.ops.gemm import count_gemm
from perfmodel.ops.pointwise import count_elementwise, count_norm
from perfmodel.ops.recurrent import (
    count_delta_rule,
    count_linear_attention,
    count_selective_scan,
    count_ssd,
)
from perfmodel.workload import Workload, remembered

__all__ = ["NOTHING", "Cost", "count", "total"]

_COUNTERS: dict[str, Callable[[Any], Cost]] = {
    "gemm": count_gemm,
    "attention": count_attention,
    "linear_attention": count_linear_attention,
    "delta_rule": count_delta_rule,
    "selective_scan": count_selective_scan,
    "ssd": count_ssd,
    "norm": count_norm,
    "elementwise": count_elementwise,
    "conv": count_conv,
    "collective": count_collective,
}


@remembered
def count(workload: Workload) -> Cost:
    """What ``workload`` must do on any device: FLOPs, special functions, compulsory bytes."""
    return _COUNTERS[workload.op](workload)
