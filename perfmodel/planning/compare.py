"""One question put to several devices, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue, MissingData, PerfModelError, UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.models.parallel import Split
from perfmodel.models.phases import Phase, step
from perfmodel.models.shape import ModelShape
from perfmodel.planning.cost import SECONDS_PER_HOUR, HourlyPrice, hourly_price
from perfmodel.planning.memory import capacity
from perfmodel.planning.running import Wish

FEWEST, MOST = 2, 6

Ask: TypeAlias = Callable[[Device], Estimate]
Room: TypeAlias = Callable[[Device], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One device's answer, or why it has none."""

    device: str
    estimate: Estimate | None
    max_users: int | None
    price: HourlyPrice
    devices: int
    refused: str | None = None

    @property
    def usd_per_million(self) -> float | None:
        """Dollars for a million of the thing estimated."""
        if self.estimate is None or self.price.usd_per_hour is None:
            return None
        hours = float(self.estimate.time_s) * self.devices / SECONDS_PER_HOUR
        return hours * self.price.usd_per_hour * 1e6

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "device": self.device,
            "devices": self.devices,
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
            "max_users": self.max_users,
            "cost": self.price.to_dict() | {"usd_per_million": self.usd_per_million},
            "refused": self.refused,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same question on each device, fastest first; those without an answer last."""

    question: str
    rows: tuple[Contender, ...]

    @property
    def fastest(self) -> Contender | None:
        """The device that answers soonest."""
        return self.rows[0] if self.rows[0].estimate is not None else None

    def ratio(self, row: Contender) -> float | None:
        """A device's time over the fastest one's."""
        best = self.fastest
        if best is None or best.estimate is None or row.estimate is None:
            return None
        return float(row.estimate.time_s / best.estimate.time_s)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rows = [r.to_dict() | {"times_fastest": self.ratio(r)} for r in self.rows]
        return {"question": self.question, "rows": rows}


def compare(
    question: str,
    devices: Sequence[Device],
    ask: Ask,
    *,
    room: Room | None = None,
    group: int = 1,
    price: float | None = None,
) -> Comparison:
    """Put ``ask`` (and ``room``, the users that memory holds) to each of two to six devices.

    A device that lacks a data type or a figure is listed with the reason, unless all do.
    ``group`` devices work together.

    Raises:
        BadValue: fewer than two devices, more than six, or one twice.
        UnsupportedDtype, MissingData: every device lacks what the question needs.
    """
    names = [d.name for d in devices]
    if not FEWEST <= len(set(names)) == len(names) <= MOST:
        msg = f"two to six different devices are compared, got {', '.join(names) or 'none'}"
        raise BadValue(msg, field="devices", fix="h100-sxm-80gb,a100-sxm-80gb")
    refusals: list[PerfModelError] = []
    rows = [_contender(d, ask, room, group, price, refusals) for d in devices]
    if len(refusals) == len(rows):
        raise refusals[0]
    rows.sort(key=lambda r: np.inf if r.estimate is None else float(r.estimate.time_s))
    return Comparison(question=question, rows=tuple(rows))


def _contender(
    device: Device,
    ask: Ask,
    room: Room | None,
    group: int,
    price: float | None,
    refusals: list[PerfModelError],
) -> Contender:
    estimate, users, refused = None, None, None
    try:
        estimate = ask(device)
        users = None if room is None else room(device)
    except (UnsupportedDtype, MissingData) as refusal:
        refusals.append(refusal)
        refused = str(refusal)
    return Contender(
        device=device.name,
        estimate=estimate,
        max_users=users,
        price=hourly_price(device, price),
        devices=group,
        refused=refused,
    )


def compare_steps(
    shape: ModelShape,
    devices: Sequence[Device],
    *,
    phase: Phase,
    wish: Wish,
    price: float | None = None,
    **sizes: Any,
) -> Comparison:
    """One model step on each device, and the users that memory holds at its context.

    Raises: as :func:`compare` and :func:`perfmodel.models.phases.step`.
    """
    split = Split(**{k: sizes[k] for k in ("tp", "pp", "ep") if k in sizes})
    context = sizes.get("context") or sizes.get("prompt")

    def ask(device: Device) -> Estimate:
        return step(shape, device, phase=phase, dtypes=wish.on(shape, device), **sizes)

    def room(device: Device) -> int:
        types = wish.on(shape, device)
        return capacity(shape, device, context=context, split=split, dtypes=types).max_users

    group = int(split.tp) * int(split.pp)
    told = room if context is not None else None
    name = f"{shape.name} {phase}"
    return compare(name, devices, ask, room=told, group=group, price=price)
