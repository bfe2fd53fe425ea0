"""What to change when a network does not fit, each change planned before it is suggested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from perfmodel.hw.device import Device
from perfmodel.mcu.access import Moves
from perfmodel.mcu.fuse import join, pairs
from perfmodel.mcu.layout import STAGES, Layout, best_layout, lay_out
from perfmodel.mcu.memory import split, sram_use, weight_homes
from perfmodel.mcu.network import Network
from perfmodel.mcu.reserves import Reserves
from perfmodel.units import format_binary

if TYPE_CHECKING:
    from perfmodel.mcu.arena import Suggestion

MOST = 12
"""Suggestions kept, and pairs of operators tried."""


def suggestions(
    network: Network,
    device: Device,
    layout: Layout,
    *,
    moves: Moves,
    reserves: Reserves,
    alternatives: Sequence[tuple[str, Network]] = (),
) -> tuple[Suggestion, ...]:
    """Changes that save bytes where they lack, those after which all fits first, by bytes saved."""
    ask = _Question(network, device, layout, moves, reserves)
    found = [*ask.moves(), *ask.pairs(), *ask.external(), *ask.variants(alternatives)]
    useful = [s for s in found if s.saved_bytes > 0]
    useful.sort(key=lambda s: (not s.fits, -s.saved_bytes))
    return tuple(useful[:MOST])


class _Question:
    """A network that does not fit, and what it would take with one thing changed."""

    def __init__(
        self, network: Network, device: Device, layout: Layout, moves: Moves, reserves: Reserves
    ) -> None:
        assert device.board is not None
        self.network, self.layout = network, layout
        self.board, self.allowed, self.reserves = device.board, moves, reserves
        self.align = reserves.alignment_bytes
        _, uses = weight_homes(network, self.board, reserves.code_bytes)
        self.weights_fit = all(u.fits is not False for u in uses)
        self.sram_fits = bool(sram_use(self.board, layout.peak_bytes, reserves).fits)

    def moves(self) -> Iterator[Suggestion]:
        """Moves that were not allowed, one by one, then all together."""
        absent = [name for name in STAGES if not getattr(self.allowed, name)]
        for name in absent:
            yield self._arena(f"allow {name}: {STAGES[name]}", **{name: True})
        if len(absent) > 1:
            yield self._arena(f"allow {', '.join(absent)}", **dict.fromkeys(absent, True))
        if self.allowed.rows > 1 and (self.allowed.fuse or self.allowed.stream):
            yield self._arena("smaller patches: 1 row at a time", rows=1)

    def pairs(self) -> Iterator[Suggestion]:
        """Single pairs of operators to fuse, where fusion was not allowed."""
        if self.allowed.fuse:
            return
        network = self.layout.network
        best = sorted(pairs(network, self.allowed.rows), key=lambda p: -p.saved_bytes)
        for pair in best[:MOST]:
            first, second = network.ops[pair.first : pair.first + 2]
            peak = lay_out(join(network, [pair]), self.layout.moves, align=self.align).peak_bytes
            yield self._sram(f"fuse {first.name} with {second.name}", peak)

    def external(self) -> Iterator[Suggestion]:
        """Tensors in external RAM, if the board has it."""
        if self.sram_fits or self.board.external_ram_bytes is None:
            return
        budget = int(self.board.sram_bytes) - self.reserves.sram_bytes
        apart = split(self.layout, budget, self.align)
        if apart is not None and apart.outside.peak_bytes <= self.board.external_ram_bytes:
            yield self._sram(
                f"external RAM for {len(apart.outer)} buffers,"
                f" {format_binary(apart.traffic_bytes)} of traffic an inference",
                apart.inside.peak_bytes,
            )

    def variants(self, alternatives: Sequence[tuple[str, Network]]) -> Iterator[Suggestion]:
        """Other networks of the same family."""
        for change, network in alternatives:
            peak = best_layout(network, self.allowed, align=self.align)[-1][1].peak_bytes
            _, uses = weight_homes(network, self.board, self.reserves.code_bytes)
            weights_fit = all(u.fits is not False for u in uses)
            if not self.sram_fits:
                yield self._sram(change, peak, weights_fit=weights_fit)
            if not self.weights_fit:
                sram_fits = bool(sram_use(self.board, peak, self.reserves).fits)
                yield self._flash(change, network.weight_bytes, fits=weights_fit and sram_fits)

    def _arena(self, change: str, **changed: bool | int) -> Suggestion:
        moves = replace(self.allowed, **changed)  # type: ignore[arg-type]
        layout = best_layout(self.network, moves, align=self.align)[-1][1]
        return self._sram(change, layout.peak_bytes)

    def _sram(self, change: str, peak: int, *, weights_fit: bool | None = None) -> Suggestion:
        from perfmodel.mcu.arena import Suggestion

        inside = bool(sram_use(self.board, peak, self.reserves).fits)
        return Suggestion(
            change=change,
            memory="sram",
            saved_bytes=self.layout.peak_bytes - peak,
            used_bytes=peak,
            fits=inside and (self.weights_fit if weights_fit is None else weights_fit),
        )

    def _flash(self, change: str, size: int, *, fits: bool) -> Suggestion:
        from perfmodel.mcu.arena import Suggestion

        return Suggestion(
            change=change,
            memory="flash",
            saved_bytes=self.network.weight_bytes - size,
            used_bytes=size,
            fits=fits,
        )
