"""Does a network fit a microcontroller, where does every tensor lie, and what would help.

The arena is planned before anything is flashed: tensor lifetimes over an operator order, moves that
save bytes, offsets proven optimal where that is feasible, weights in flash, a verdict for each
memory. Moves and their sources: :data:`perfmodel.mcu.layout.STAGES`, :mod:`perfmodel.mcu.fuse`,
:mod:`perfmodel.mcu.access`, :mod:`perfmodel.mcu.order`; offsets: :mod:`perfmodel.mcu.allocate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfmodel.errors import BadValue
from perfmodel.hw.board import Board
from perfmodel.hw.device import Device
from perfmodel.mcu.access import Moves
from perfmodel.mcu.layout import STAGES, Layout, best_layout
from perfmodel.mcu.memory import MemoryUse, Split, split, sram_use, weight_homes
from perfmodel.mcu.network import Network
from perfmodel.mcu.reserves import Reserves, load_reserves


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One buffer: its tensors share ``bytes`` at ``offset`` of ``memory`` during its steps."""

    buffer: str
    tensors: tuple[str, ...]
    memory: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSaving:
    """The arena with a move added to those before it.

    ``saved_bytes`` is by how much the peak fell, ``largest_bytes`` the most that a single buffer
    shrank, at the peak or elsewhere.
    """

    move: str
    does: str
    peak_bytes: int
    saved_bytes: int
    largest_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A change, what it saves in ``memory`` and whether the network would fit with it."""

    change: str
    memory: str
    saved_bytes: int
    used_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaPlan:
    """The answer: the arrangement, the verdict for each memory, savings and suggestions.

    ``fits`` asks every memory whose capacity is known. ``peak_bytes`` is the arena in SRAM;
    ``bound_bytes`` is proven for its buffers (``optimal``: both agree), ``live_bytes`` the most
    that lives at one step.
    """

    network: Network
    device: str
    layout: Layout
    placements: tuple[Placement, ...]
    memories: tuple[MemoryUse, ...]
    weights: Mapping[str, tuple[str, ...]]
    savings: tuple[MoveSaving, ...]
    suggestions: tuple[Suggestion, ...]
    assumptions: tuple[str, ...]
    peak_bytes: int
    bound_bytes: int
    live_bytes: int
    method: str
    external_traffic_bytes: int = 0

    @property
    def fits(self) -> bool:
        """Whether every memory whose capacity is known holds its share."""
        return all(use.fits is not False for use in self.memories)

    @property
    def optimal(self) -> bool:
        """Whether no arrangement of these buffers is smaller."""
        return self.peak_bytes == self.bound_bytes

    def memory(self, name: str) -> MemoryUse | None:
        """The use of the memory called ``name``, or None where the board has none."""
        return next((m for m in self.memories if m.memory == name), None)

    @property
    def steps(self) -> tuple[dict[str, Any], ...]:
        """The schedule: ``step, op, kind, live_bytes, macs``, the operators in their order."""
        live = [0] * len(self.layout.network.ops)
        for p in self.placements:
            for s in range(p.first, p.last + 1):
                live[s] += p.bytes
        return tuple(
            {"step": i, "op": op.name, "kind": op.kind, "live_bytes": live[i], "macs": op.macs}
            for i, op in enumerate(self.layout.network.ops)
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready.

        ``network, device, fits, macs, weights_bytes``; the arena ``peak_bytes, live_bytes,
        bound_bytes, optimal, method, order_optimal, external_traffic_bytes``;
        ``memories`` (``memory, used_bytes, reserve_bytes, budget_bytes, capacity_bytes, fits``);
        ``moves`` (``move, does, peak_bytes, saved_bytes, largest_bytes``);
        ``offsets`` (``buffer, tensors, memory, offset, bytes, first, last``);
        ``schedule`` (``step, op, kind, live_bytes, macs``);
        ``weights`` (``memory, bytes, tensors``);
        ``suggestions`` (``change, memory, saved_bytes, used_bytes, fits``); ``assumptions``.
        """
        size = {t.name: t.bytes for t in self.network.of_kind("weight")}
        return {
            "network": self.network.name,
            "device": self.device,
            "fits": self.fits,
            "macs": self.network.macs,
            "weights_bytes": self.network.weight_bytes,
            "peak_bytes": self.peak_bytes,
            "live_bytes": self.live_bytes,
            "bound_bytes": self.bound_bytes,
            "optimal": self.optimal,
            "method": self.method,
            "order_optimal": self.layout.order_optimal,
            "external_traffic_bytes": self.external_traffic_bytes,
            "memories": [m.to_dict() for m in self.memories],
            "moves": [_record(s) for s in self.savings],
            "offsets": [_record(p) for p in self.placements],
            "schedule": list(self.steps),
            "weights": [
                {"memory": m, "bytes": sum(size[n] for n in names), "tensors": list(names)}
                for m, names in self.weights.items()
                if names
            ],
            "suggestions": [_record(s) for s in self.suggestions],
            "assumptions": list(self.assumptions),
        }


def _record(value: Any) -> dict[str, Any]:
    from dataclasses import fields

    found = {f.name: getattr(value, f.name) for f in fields(value)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}


ALL_MOVES = Moves()


def board_of(device: Device) -> Board:
    """The device's board; raises BadValue where it has none."""
    if device.board is None:
        msg = f"{device.name} is a {device.kind}, not a microcontroller: it has no arena"
        raise BadValue(msg, field="on", fix="perfmodel devices --kind mcu lists the boards")
    return device.board


def plan_arena(
    network: Network,
    device: Device,
    *,
    moves: Moves = ALL_MOVES,
    external_ram: bool = False,
    reserves: Reserves | None = None,
    alternatives: Sequence[tuple[str, Network]] = (),
) -> ArenaPlan:
    """The arena of ``network`` on ``device``.

    ``moves`` are allowed, each is used where it saves. ``external_ram`` lets tensors that SRAM
    cannot hold lie outside. ``alternatives`` are named variants of the network to suggest.

    Raises:
        BadValue: the device is no microcontroller.
    """
    from perfmodel.mcu.suggest import suggestions

    board = board_of(device)
    reserves = reserves or load_reserves()
    stages = best_layout(network, moves, align=reserves.alignment_bytes)
    layout = stages[-1][1]
    weights, uses = weight_homes(network, board, reserves.code_bytes)
    sram = sram_use(board, layout.peak_bytes, reserves)
    apart = None
    if not sram.fits and external_ram and board.external_ram_bytes is not None:
        apart = split(layout, sram.budget_bytes or 0, reserves.alignment_bytes)
    if apart is not None:
        sram = sram_use(board, apart.inside.peak_bytes, reserves)
        assert board.external_ram_bytes is not None
        outside = MemoryUse(
            memory="external_ram",
            used_bytes=apart.outside.peak_bytes,
            reserve_bytes=0,
            capacity_bytes=int(board.external_ram_bytes),
        )
        uses = [outside, *uses]
    memories = (sram, *uses)
    found: tuple[Suggestion, ...] = ()
    if any(m.fits is False for m in memories):
        found = suggestions(
            network, device, layout, moves=moves, reserves=reserves, alternatives=alternatives
        )
    allocation = layout.allocation if apart is None else apart.inside
    return ArenaPlan(
        network=network,
        device=device.name,
        layout=layout,
        placements=_placements(layout, apart),
        memories=memories,
        weights=weights,
        savings=_savings(stages),
        suggestions=found,
        assumptions=_assumptions(network, device, layout, reserves, memories),
        peak_bytes=allocation.peak_bytes,
        bound_bytes=allocation.bound_bytes,
        live_bytes=allocation.live_bytes,
        method=allocation.method,
        external_traffic_bytes=0 if apart is None else apart.traffic_bytes,
    )


def _placements(layout: Layout, apart: Split | None) -> tuple[Placement, ...]:
    found = []
    for b in layout.buffers:
        outer = apart is not None and b.name in apart.outer
        where = layout.allocation if apart is None else apart.outside if outer else apart.inside
        found.append(
            Placement(
                buffer=b.name,
                tensors=layout.holds.get(b.name, ()),
                memory="external_ram" if outer else "sram",
                offset=where.offsets[b.name],
                bytes=b.bytes,
                first=b.first,
                last=b.last,
            )
        )
    return tuple(sorted(found, key=lambda p: (p.memory != "sram", p.first, p.offset)))


def _savings(stages: Sequence[tuple[str, Layout]]) -> tuple[MoveSaving, ...]:
    name, before = stages[0]
    found = [
        MoveSaving(
            move=name,
            does="a place of its own for every tensor, operators in the given order",
            peak_bytes=before.peak_bytes,
            saved_bytes=0,
            largest_bytes=0,
        )
    ]
    for name, layout in stages[1:]:
        now = {b.name: b.bytes for b in layout.buffers}
        shrunk = [b.bytes - now.get(b.name, 0) for b in before.buffers if b.name in before.holds]
        found.append(
            MoveSaving(
                move=name,
                does=STAGES[name],
                peak_bytes=layout.peak_bytes,
                saved_bytes=before.peak_bytes - layout.peak_bytes,
                largest_bytes=max((0, *shrunk)),
            )
        )
        before = layout
    return tuple(found)


def _assumptions(
    network: Network,
    device: Device,
    layout: Layout,
    reserves: Reserves,
    memories: Sequence[MemoryUse],
) -> tuple[str, ...]:
    notes = list(network.assumptions)
    if layout.fused:
        rows = layout.moves.rows
        notes.append(
            f"{len(layout.fused)} fused operators need kernels that compute {rows} slice"
            f"{'s' if rows > 1 else ''} at a time and read their weights once for each"
        )
    for name in layout.streamed:
        held = list(layout.network.tensor(name).shape)
        notes.append(f"the application hands over {name!r} in windows of {held}, when asked")
    if any(t.kind == "input" for t in network.arena_tensors):
        notes.append("an input may be overwritten once it has been read")
    notes += [
        f"the spec of {device.name} states no {m.memory}: unchecked"
        for m in memories
        if m.capacity_bytes is None
    ]
    outer = next((m for m in memories if m.memory == "external_flash" and m.used_bytes), None)
    figure = device.figures.get("board.external_flash")
    if outer is not None and figure is not None and figure.condition:
        notes.append(f"external flash: {figure.condition}")
    used = ("memory.sram", "board.flash", "board.external")
    notes += [text for text in device.unverified if text.startswith(used)]
    return (*notes, *reserves.assumptions)
