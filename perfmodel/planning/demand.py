"""What a service must do: load, lengths and service levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.workload.base import one_above_zero, one_real, one_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A load of equal requests and the service levels asked of it.

    ``users`` requests are in flight at once with staggered arrivals, or ``rate`` requests arrive
    per second. ``prefix_hit`` is the share of each prompt found in a prefix cache: it need not be
    prefilled, but is still attended to and still takes memory. ``ttft_s`` and ``tpot_s`` limit
    the mean time to first token and the mean time per output token, without queueing.

    Raises:
        BadValue: neither or both of users and rate, a size below 1, a time that is not positive,
            a hit rate outside 0..1.
    """

    users: int | None = None
    rate: float | None = None
    prompt: int
    output: int
    ttft_s: float | None = None
    tpot_s: float | None = None
    prefix_hit: float = 0.0

    def __post_init__(self) -> None:
        if (self.users is None) == (self.rate is None):
            msg = "give either the users in flight or the requests per second"
            raise BadValue(msg, field="users", fix="users=64, or rate=2.5")
        for name in ("prompt", "output") if self.users is None else ("users", "prompt", "output"):
            object.__setattr__(self, name, one_size(getattr(self, name), name))
        for name in ("rate", "ttft_s", "tpot_s"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, one_above_zero(value, name))
        if one_real(self.prefix_hit, "prefix_hit") > 1:
            msg = f"must be a share of the prompt between 0 and 1, got {self.prefix_hit}"
            raise BadValue(msg, field="prefix_hit", fix="0.5 for one half")

    @property
    def fresh(self) -> int:
        """Prompt tokens that must be prefilled: all but the cached prefix, and at least one."""
        return max(1, int(np.ceil(self.prompt * (1.0 - self.prefix_hit))))

    @property
    def mean_context(self) -> int:
        """Tokens that a decode step attends to, on average over a request."""
        return self.prompt + (self.output + 1) // 2

    @property
    def peak_context(self) -> int:
        """Tokens kept when a request ends: what memory must have room for."""
        return self.prompt + self.output

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "users": self.users,
            "rate_per_s": self.rate,
            "prompt": self.prompt,
            "output": self.output,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "prefix_hit": self.prefix_hit,
        }
