"""Which memory holds what: SRAM, external RAM, flash, external flash, and whether it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfmodel.hw.board import Board
from perfmodel.mcu.allocate import Allocation, Buffer, allocate
from perfmodel.mcu.layout import Layout
from perfmodel.mcu.network import Network
from perfmodel.mcu.reserves import Reserves

SPLITS = 8
"""How often the split is tightened when what goes inside does not pack within the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """One memory against its budget. ``capacity_bytes`` None: the spec does not state it.

    ``budget_bytes`` is the capacity less ``reserve_bytes``; ``fits`` None where it is unknown.
    """

    memory: str
    used_bytes: int
    reserve_bytes: int
    capacity_bytes: int | None

    @property
    def budget_bytes(self) -> int | None:
        """What tensors or weights may have; negative where the reserve alone is too much."""
        return None if self.capacity_bytes is None else self.capacity_bytes - self.reserve_bytes

    @property
    def fits(self) -> bool | None:
        """Whether the use lies within the budget; None where nobody knows the capacity."""
        return None if self.budget_bytes is None else self.used_bytes <= self.budget_bytes

    def to_dict(self) -> dict[str, object]:
        """``memory, used_bytes, reserve_bytes, budget_bytes, capacity_bytes, fits``."""
        return {
            "memory": self.memory,
            "used_bytes": self.used_bytes,
            "reserve_bytes": self.reserve_bytes,
            "budget_bytes": self.budget_bytes,
            "capacity_bytes": self.capacity_bytes,
            "fits": self.fits,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Buffers inside (SRAM) and outside (external RAM), each with offsets of its own.

    ``traffic_bytes`` are read from and written to the external RAM in one inference.
    """

    inside: Allocation
    outside: Allocation
    outer: frozenset[str]
    traffic_bytes: int


def traffic_bytes(layout: Layout) -> dict[str, int]:
    """Bytes read and written of each buffer in one inference: once per writer and reader."""
    uses = dict.fromkeys(layout.holds, 0)
    home = {t: name for name, tensors in layout.holds.items() for t in tensors}
    network = layout.network
    for op in network.ops:
        for name in (*(t.name for t in network.reads(op)), *op.outputs):
            uses[home[name]] += network.tensor(name).bytes
    return uses | {b.name: 2 * b.bytes for b in layout.buffers if b.name not in uses}


def split(layout: Layout, budget: int, align: int) -> Split | None:
    """The buffers to put outside so that the rest fits ``budget``, with the least traffic; or None.

    An integer program (HiGHS): at every step the bytes kept inside are at most the budget, the
    traffic of what goes outside is least, so small and hot tensors stay. Where the rest does not
    pack as tightly as its live bytes, the budget is tightened and the program solved again.
    """
    room = budget
    for _ in range(SPLITS):
        outer = _cheapest(layout.buffers, traffic_bytes(layout), room, align)
        if outer is None:
            return None
        inside = allocate([b for b in layout.buffers if b.name not in outer], align=align)
        if inside.peak_bytes <= budget:
            outside = allocate([b for b in layout.buffers if b.name in outer], align=align)
            moved = sum(traffic_bytes(layout)[name] for name in outer)
            return Split(inside=inside, outside=outside, outer=outer, traffic_bytes=moved)
        room -= inside.peak_bytes - budget
    return None


def _cheapest(
    buffers: Sequence[Buffer], traffic: Mapping[str, int], budget: int, align: int
) -> frozenset[str] | None:
    from scipy.optimize import Bounds, LinearConstraint, milp

    steps = sorted({b.first for b in buffers})
    sizes = np.array([-(-b.bytes // align) * align for b in buffers], dtype=float)
    alive = np.array([[b.first <= s <= b.last for b in buffers] for s in steps], dtype=float)
    over = alive @ sizes - budget
    solved = milp(
        np.array([traffic[b.name] for b in buffers], dtype=float),
        constraints=LinearConstraint(alive * sizes, lb=over),
        integrality=np.ones(len(buffers)),
        bounds=Bounds(0, 1),
    )
    if budget < 0 or solved.x is None:
        return None
    return frozenset(b.name for b, x in zip(buffers, solved.x, strict=True) if x > 0.5)


def weight_homes(
    network: Network, board: Board, code_bytes: int
) -> tuple[dict[str, tuple[str, ...]], list[MemoryUse]]:
    """The constants in each memory, and how full that makes it.

    All lie in the flash if they fit beside the code; otherwise those with the most
    multiply-accumulates per byte do, and the rest lies in the external flash.
    """
    weights = network.of_kind("weight")
    room = None if board.flash_bytes is None else int(board.flash_bytes) - code_bytes
    flash = tuple(t.name for t in weights)
    if board.external_flash_bytes is not None and (room is None or network.weight_bytes > room):
        flash = _hottest(network, 0 if room is None else room)
    near = set(flash)
    outer = tuple(t.name for t in weights if t.name not in near)
    size = {t.name: t.bytes for t in weights}
    capacity = None if board.flash_bytes is None else int(board.flash_bytes)
    far = None if board.external_flash_bytes is None else int(board.external_flash_bytes)
    used = sum(size[n] for n in flash)
    uses = []
    if capacity is not None or far is None:
        uses.append(
            MemoryUse(
                memory="flash", used_bytes=used, reserve_bytes=code_bytes, capacity_bytes=capacity
            )
        )
    if far is not None:
        rest = sum(size[n] for n in outer)
        code = 0 if capacity is not None else code_bytes
        uses.append(
            MemoryUse(
                memory="external_flash", used_bytes=rest, reserve_bytes=code, capacity_bytes=far
            )
        )
    return {"flash": flash, "external_flash": outer}, uses


def _hottest(network: Network, room: int) -> tuple[str, ...]:
    """Constants by multiply-accumulates per byte while they fit ``room``, in order."""
    heat: dict[str, float] = {}
    for op in network.ops:
        own = [t for t in map(network.tensor, op.inputs) if t.kind == "weight"]
        total = sum(t.bytes for t in own)
        for t in own:
            heat[t.name] = max(heat.get(t.name, 0.0), op.macs / total)
    chosen: set[str] = set()
    for t in sorted(network.of_kind("weight"), key=lambda t: (-heat.get(t.name, 0.0), t.bytes)):
        if t.bytes <= room:
            chosen.add(t.name)
            room -= t.bytes
    return tuple(t.name for t in network.of_kind("weight") if t.name in chosen)


def sram_use(board: Board, peak_bytes: int, reserves: Reserves) -> MemoryUse:
    """The arena against the board's SRAM."""
    return MemoryUse(
        memory="sram",
        used_bytes=peak_bytes,
        reserve_bytes=reserves.sram_bytes,
        capacity_bytes=int(board.sram_bytes),
    )
