"""One arrangement of a network in working memory: moves applied, order found, offsets assigned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from perfmodel.mcu.access import Moves, overwritten
from perfmodel.mcu.allocate import Allocation, Buffer, allocate
from perfmodel.mcu.fuse import fuse, stream_inputs
from perfmodel.mcu.network import Lifetime, Network
from perfmodel.mcu.order import reorder

STAGES: dict[str, str] = {
    "inplace": "pointwise results over their inputs",
    "fuse": "neighbouring operators slice by slice (operator integration)",
    "stream": "the input window by window (patch-wise embedding)",
    "overwrite": "slices over the slices they came from (token overwriting)",
    "depthwise": "depthwise planes over their inputs",
    "reorder": "operators in another order",
}
"""The moves in the order in which they are tried, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A network after its moves, its buffers and where they lie.

    ``holds`` maps a buffer to the tensors that share it, in the order in which they are written;
    scratch buffers hold none. ``order_optimal``: no order of these operators has fewer live bytes.
    """

    network: Network
    moves: Moves
    buffers: tuple[Buffer, ...]
    holds: dict[str, tuple[str, ...]]
    allocation: Allocation
    order_optimal: bool
    fused: tuple[str, ...]
    streamed: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """Bytes of the arena."""
        return self.allocation.peak_bytes


NOTHING = Moves(
    inplace=False, fuse=False, stream=False, overwrite=False, depthwise=False, reorder=False
)
"""Every tensor has its own bytes and the operators run as given."""


def lay_out(network: Network, moves: Moves, *, align: int = 1) -> Layout:
    """``network`` arranged as ``moves`` allow."""
    near = _arranged(network, moves, align, far=False)
    if not (moves.fuse and moves.overwrite):
        return near
    far = _arranged(network, moves, align, far=True)
    return far if far.peak_bytes < near.peak_bytes else near


def _arranged(network: Network, moves: Moves, align: int, *, far: bool) -> Layout:
    fused: tuple[str, ...] = ()
    streamed: tuple[str, ...] = ()
    if moves.fuse:
        network, fused = fuse(network, moves, far=far)
    if moves.stream:
        network, streamed = stream_inputs(network, moves.rows)
    optimal = False
    if moves.reorder:
        found = reorder(network, moves)
        network, optimal = replace(network, ops=found.ops), found.optimal
    buffers, holds = buffers_of(network, moves)
    return Layout(
        network=network,
        moves=moves,
        buffers=buffers,
        holds=holds,
        allocation=allocate(buffers, align=align),
        order_optimal=optimal,
        fused=fused,
        streamed=streamed,
    )


def best_layout(network: Network, allowed: Moves, *, align: int = 1) -> list[tuple[str, Layout]]:
    """The arrangement without moves and then with each allowed move added that does not cost bytes.

    The last one is the plan; the differences between neighbours are what each move saves, and sum
    to what all save.
    """
    moves = replace(NOTHING, rows=allowed.rows)
    stages = [("none", lay_out(network, moves, align=align))]
    for name in STAGES:
        if not getattr(allowed, name):
            continue
        candidate = lay_out(network, replace(moves, **{name: True}), align=align)
        if candidate.peak_bytes <= stages[-1][1].peak_bytes:
            moves = candidate.moves
            stages.append((name, candidate))
        else:
            stages.append((name, stages[-1][1]))
    return stages


def buffers_of(
    network: Network, moves: Moves
) -> tuple[tuple[Buffer, ...], dict[str, tuple[str, ...]]]:
    """The buffers of ``network`` in its order, and the tensors in each.

    A tensor that takes another's bytes shares its buffer, which then lives as long as both.
    """
    lives = network.lifetimes()
    root: dict[str, str] = {t.name: t.name for t in network.arena_tensors}
    kept = {t.name for t in network.of_kind("output", "state")}
    scratch: list[Buffer] = []
    for step, op in enumerate(network.ops):
        over = overwritten(op, network, _dying(lives, kept, step), moves)
        aside = op.scratch_bytes
        if over is not None:
            root[op.outputs[0]] = root[over[0]]
            aside += over[1]
        if aside:
            scratch.append(Buffer(name=f"{op.name}:scratch", bytes=aside, first=step, last=step))
    holds: dict[str, list[str]] = {}
    for name in _written(network):
        holds.setdefault(root[name], []).append(name)
    buffers = [
        Buffer(
            name=name,
            bytes=network.tensor(name).bytes,
            first=min(lives[n].first for n in members),
            last=max(lives[n].last for n in members),
        )
        for name, members in holds.items()
    ]
    return (*buffers, *scratch), {name: tuple(members) for name, members in holds.items()}


def _dying(lives: dict[str, Lifetime], kept: set[str], step: int) -> Callable[[str], bool]:
    return lambda name: name not in kept and lives[name].last == step


def _written(network: Network) -> list[str]:
    """Tensors of the arena in the order in which they come to be."""
    first = [t.name for t in network.of_kind("input", "state")]
    return list(dict.fromkeys([*first, *(n for op in network.ops for n in op.outputs)]))
