"""What serving costs: dollars from a price per device-hour, joules from board power.

A price is never guessed: it comes from the device's spec, with provider and date, or from the
person who asks. Energy assumes every device draws its whole TDP all the time: an upper limit of
the device's own draw, without host and cooling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.hw.device import Device
from perfmodel.workload import Array, check_real

SECONDS_PER_HOUR = 3600.0
TOKENS = 1e6
"""Costs and energies are quoted per million output tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyPrice:
    """US dollars per device-hour and where the figure comes from; None with the reason why."""

    usd_per_hour: float | None
    origin: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"usd_per_device_hour": self.usd_per_hour, "origin": self.origin}


def hourly_price(device: Device, asked: float | None = None) -> HourlyPrice:
    """``asked`` if given, else the spec's first on-demand price, else its first of any kind.

    Raises:
        BadValue: ``asked`` is not positive and finite.
    """
    if asked is not None:
        if check_real(asked, "price") == 0:
            msg = f"must be a positive number of dollars per device-hour, got {asked}"
            raise BadValue(msg, field="price", fix="for example 2.5")
        return HourlyPrice(usd_per_hour=float(asked), origin="as given")
    ordered = sorted(device.prices, key=lambda p: p.kind != "on-demand")
    if not ordered:
        why = f"no price is known for {device.name}; give --price (dollars per device-hour)"
        return HourlyPrice(usd_per_hour=None, origin=why)
    best = ordered[0]
    origin = f"{best.provider}, {best.kind}, {best.date}"
    return HourlyPrice(usd_per_hour=best.usd_per_hour, origin=origin)


def usd_per_million_tokens(usd_per_hour: float, devices: Array, tokens_per_s: Array) -> Array:
    """``price x devices / (3600 x tokens/s) x 1e6``: dollars per million output tokens."""
    return np.float64(usd_per_hour) * devices / (SECONDS_PER_HOUR * tokens_per_s) * TOKENS


def joules_per_million_tokens(tdp_w: float, devices: Array, tokens_per_s: Array) -> Array:
    """``TDP x devices / (tokens/s) x 1e6``: joules per million output tokens, at most."""
    return np.float64(tdp_w) * devices / tokens_per_s * TOKENS
