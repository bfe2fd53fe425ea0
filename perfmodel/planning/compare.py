"""One question put to several devices, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from perfmodel.answer import Estimate
from perfmodel.errors import BadValue, MissingData, PerfModelError, UnsupportedDtype
from perfmodel.hw.device import Device
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split
from perfmodel.models.phases import Phase
from perfmodel.models.shape import ModelShape
from perfmodel.models.timing import step
from perfmodel.planning.cost import HourlyPrice, hourly_price, usd_per_million_tokens
from perfmodel.planning.memory import capacity
from perfmodel.planning.running import Wish
from perfmodel.roofline.time import estimate
from perfmodel.workload import Workload

FEWEST, MOST = 2, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One device's answer, or why it has none."""

    device: str
    estimate: Estimate | None
    max_users: int | None
    dtypes: Dtypes | None
    price: HourlyPrice
    devices: int
    refused: str | None = None

    @property
    def usd_per_million(self) -> float | None:
        """Dollars for a million tokens of a step, or for a million runs of an operator."""
        if self.estimate is None or self.price.usd_per_hour is None:
            return None
        rate = self.estimate.facts.get("tokens_per_s", 1.0 / self.estimate.time_s)
        devices = np.float64(self.devices)
        return float(usd_per_million_tokens(self.price.usd_per_hour, devices, rate))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "device": self.device,
            "devices": self.devices,
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
            "max_users": self.max_users,
            "dtypes": None if self.dtypes is None else asdict(self.dtypes),
            "cost": self.price.to_dict() | {"usd_per_million": self.usd_per_million},
            "refused": self.refused,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same question on each device, fastest first; those without an answer last."""

    question: str
    per: str
    """What costs are a million of: ``"tokens"`` or ``"runs"``."""
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
        return {"question": self.question, "per": self.per, "rows": rows}


def compare(
    workload: Workload, devices: Sequence[Device], *, price: float | None = None, **run: Any
) -> Comparison:
    """One operator on each device; ``run`` as :func:`perfmodel.roofline.time.estimate` names it.

    A device that lacks a data type or a figure is listed with the reason, unless all do.

    Raises:
        BadValue: fewer than two devices, more than six, or one twice; a grid.
        UnsupportedDtype, MissingData: every device lacks what the question needs.
    """

    def ask(device: Device) -> _Told:
        return _Told(estimate=estimate(workload, device, **run))

    return _compared(workload.op, "runs", devices, ask, group=1, price=price)


def compare_steps(
    shape: ModelShape,
    devices: Sequence[Device],
    *,
    phase: Phase,
    wish: Wish,
    price: float | None = None,
    **sizes: Any,
) -> Comparison:
    """One model step on each device, and the users whose context its memory holds.

    Raises: as :func:`compare` and :func:`perfmodel.models.timing.step`.
    """
    split = Split(**{k: sizes[k] for k in ("tp", "pp", "ep") if k in sizes})
    kept = sizes.get("context") or sizes.get("prompt")

    def ask(device: Device) -> _Told:
        types = wish.on(shape, device)
        found = step(shape, device, phase=phase, dtypes=types, **sizes)
        if kept is None:
            return _Told(estimate=found, dtypes=types)
        room = capacity(shape, device, context=kept, split=split, dtypes=types)
        return _Told(estimate=found, dtypes=types, max_users=room.max_users)

    group = int(split.tp) * int(split.pp) * int(split.expert_replicas)
    name = f"{shape.name} {phase}"
    return _compared(name, "tokens", devices, ask, group=group, price=price)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What one device answers."""

    estimate: Estimate | None = None
    dtypes: Dtypes | None = None
    max_users: int | None = None


def _compared(
    question: str,
    per: str,
    devices: Sequence[Device],
    ask: Callable[[Device], _Told],
    *,
    group: int,
    price: float | None,
) -> Comparison:
    names = [d.name for d in devices]
    if not FEWEST <= len(set(names)) == len(names) <= MOST:
        msg = f"two to six different devices are compared, got {', '.join(names) or 'none'}"
        raise BadValue(msg, field="devices", fix="h100-sxm-80gb,a100-sxm-80gb")
    refusals: list[PerfModelError] = []
    rows = [_contender(d, ask, group, price, refusals) for d in devices]
    if len(refusals) == len(rows):
        raise refusals[0]
    rows.sort(key=lambda r: np.inf if r.estimate is None else float(r.estimate.time_s))
    return Comparison(question=question, per=per, rows=tuple(rows))


def _contender(
    device: Device,
    ask: Callable[[Device], _Told],
    group: int,
    price: float | None,
    refusals: list[PerfModelError],
) -> Contender:
    told, refused = _Told(), None
    try:
        told = ask(device)
    except (UnsupportedDtype, MissingData) as refusal:
        refusals.append(refusal)
        refused = str(refusal)
    if told.estimate is not None and told.estimate.shape:
        msg = "compares one point, got a grid"
        raise BadValue(msg, field="question", fix="perfmodel sweep")
    return Contender(
        device=device.name,
        estimate=told.estimate,
        max_users=told.max_users,
        dtypes=told.dtypes,
        price=hourly_price(device, price),
        devices=group,
        refused=refused,
    )
