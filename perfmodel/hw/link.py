"""Links between devices, nodes and hosts, and prices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link, one direction: bytes per second per device.

    ``domain`` is how many devices it joins at this rate (8 in an NVSwitch box, 2 with a bridge).
    ``reduction``: where switches on it add up what they pass, the rate of that over the rate of a
    ring; 0 where they cannot.
    """

    name: str
    bandwidth_bytes_per_s: float
    latency_s: float = 0.0
    domain: int = 1
    reduction: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of one device costs, where and when."""

    usd_per_hour: float
    provider: str
    date: str
    kind: str = "on-demand"
