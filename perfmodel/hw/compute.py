"""Arithmetic units: peak rates derived from per-clock constants and clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfmodel.errors import UnsupportedDtype
from perfmodel.workload import RateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Peak rates of a device.

    ``units`` is the number of multiprocessors / compute units / cores. ``peaks`` maps
    ``(unit, dtype, acc_dtype)`` (unit ``"tensor"`` or ``"vector"``) to dense FLOP/s (OP/s for
    integers) at that unit's own clock. ``special_per_s`` is special-function results per second
    (0 where exponentials run on the vector unit). ``sustained`` is the fraction of a tensor peak
    that the best library product reaches, by dtype, where published: a fact shown beside
    estimates, no input of theirs. ``threads_per_unit`` is how many a multiprocessor holds.
    """

    units: int
    clock_tensor_hz: float
    clock_vector_hz: float
    peaks: Mapping[RateKey, float]
    special_per_s: float = 0.0
    threads_per_unit: int | None = None
    sustained: Mapping[str, float] = field(default_factory=dict)
    warp_share: float = 1.0
    """Share of the tensor peaks that instructions of single warps reach: below 1 where the peak
    takes instructions of warp groups."""

    def dtypes(self, unit: str | None = None) -> tuple[str, ...]:
        """Data types with a rate, in spec order."""
        return tuple(dict.fromkeys(d for u, d, _ in self.peaks if unit in (None, u)))

    def peak(self, unit: str, dtype: str, acc_dtype: str | None = None) -> float:
        """Dense peak in FLOP/s of ``dtype`` on ``unit``; a matrix product falls back to the vector
        unit where the device has no matrix unit for the type.

        Raises:
            UnsupportedDtype: the device has no such rate; names those that it has.
        """
        order = ("tensor", "vector") if unit == "tensor" else ("vector",)
        for u in order:
            for (pu, pd, pa), rate in self.peaks.items():
                if pu == u and pd == dtype and acc_dtype in (None, pa):
                    return rate
        known = ", ".join(f"{d} ({u}, {a} accumulate)" for u, d, a in self.peaks)
        want = f"{dtype}" + (f" with {acc_dtype} accumulation" if acc_dtype else "")
        msg = f"this device has no rate for {want}"
        raise UnsupportedDtype(msg, field="dtype", fix=f"one of {known}")
