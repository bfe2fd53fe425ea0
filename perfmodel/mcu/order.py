"""The order of operators that keeps the fewest bytes alive.

A set of finished operators fixes what is alive, so the best order is a shortest path over such sets
with the largest step in place of the sum (Liberis and Lane, "Neural networks on microcontrollers:
saving memory at inference via operator reordering", arXiv 1910.05110). Sets are visited by the peak
that reaches them, so the first complete one is optimal; beyond :data:`STATES` sets a greedy order
is kept if it is better than the given one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from perfmodel.mcu.access import Moves, overwritten
from perfmodel.mcu.network import Network, Op

STATES = 20_000
RUNS = 20_000_000
"""Sets of finished operators that the exact search may visit, and operators times operators that it
may look at."""

GREEDY_OPS = 400
"""Operators beyond which the given order is kept where the exact search gave up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Operators in order, the largest bytes alive in it, and whether no order has fewer."""

    ops: tuple[Op, ...]
    live_bytes: int
    optimal: bool


class _Graph:
    """Operators as bits: who waits for whom, what a step holds."""

    def __init__(self, network: Network, moves: Moves) -> None:
        self.network, self.ops = network, network.ops
        self.moves = moves
        self.needs = _needs(network)
        tensors = network.arena_tensors
        self.bytes = {t.name: t.bytes for t in tensors}
        self.readers = dict.fromkeys(self.bytes, 0)
        for i, op in enumerate(self.ops):
            for t in network.reads(op):
                self.readers[t.name] |= 1 << i
        self.kept = {t.name for t in tensors if t.kind in ("output", "state")}
        self.loaded = frozenset(t.name for t in tensors if t.kind in ("input", "state"))

    def ready(self, done: int) -> list[int]:
        """Operators that could run next."""
        return [i for i, need in enumerate(self.needs) if not done >> i & 1 and need & ~done == 0]

    def run(self, done: int, alive: frozenset[str], i: int) -> tuple[int, int, frozenset[str]]:
        """Bytes held while operator ``i`` runs, what is done and alive after it."""
        op, after = self.ops[i], done | 1 << i

        def dies(name: str) -> bool:
            return name not in self.kept and self.readers[name] & ~after == 0

        held = sum(self.bytes[n] for n in alive) + op.scratch_bytes
        held += sum(self.bytes[n] for n in op.outputs if n not in alive)
        over = overwritten(op, self.network, dies, self.moves)
        if over is not None:
            held += over[1] - self.bytes[over[0]]
        left = (alive | set(op.outputs)) - {n for n in (*alive, *op.outputs) if dies(n)}
        return held, after, frozenset(left)


def _needs(network: Network) -> list[int]:
    """For each operator the bits of those that must run before it.

    A tensor's writer comes before its readers. Readers and writers of a state keep their order.
    """
    touched: dict[str, int] = {t.name: 0 for t in network.of_kind("state")}
    written: dict[str, int] = {}
    needs = []
    for i, op in enumerate(network.ops):
        bits = 0
        for name in op.inputs:
            bits |= written.get(name, 0)
        for name in op.outputs:
            bits |= touched.get(name, 0)
        for name in {*op.inputs, *op.outputs} & touched.keys():
            touched[name] |= 1 << i
        written |= dict.fromkeys(op.outputs, 1 << i)
        needs.append(bits)
    return needs


def reorder(network: Network, moves: Moves) -> Ordering:
    """The order of ``network`` with the fewest bytes alive at its worst step.

    ``moves`` says which outputs may take an input's bytes.
    """
    graph = _Graph(network, moves)
    given = _peak(graph, range(len(graph.ops)))
    found = _exact(graph, given)
    if found is None and len(graph.ops) > GREEDY_OPS:
        return Ordering(ops=network.ops, live_bytes=given, optimal=False)
    if found is None:
        order = _greedy(graph)
        peak = _peak(graph, order)
        if peak < given:
            return Ordering(ops=_named(graph, order), live_bytes=peak, optimal=False)
        return Ordering(ops=network.ops, live_bytes=given, optimal=False)
    peak, order = found
    ops = network.ops if peak >= given else _named(graph, order)
    return Ordering(ops=ops, live_bytes=min(peak, given), optimal=True)


def _named(graph: _Graph, order: Sequence[int]) -> tuple[Op, ...]:
    return tuple(graph.ops[i] for i in order)


def _peak(graph: _Graph, order: Sequence[int]) -> int:
    done, alive, peak = 0, graph.loaded, 0
    for i in order:
        held, done, alive = graph.run(done, alive, i)
        peak = max(peak, held)
    return peak


def _exact(graph: _Graph, given: int) -> tuple[int, list[int]] | None:
    """The smallest peak and its order, or None beyond :data:`STATES` sets."""
    whole = (1 << len(graph.ops)) - 1
    best = {0: 0}
    came: dict[int, tuple[int, int]] = {}
    alive = {0: graph.loaded}
    queue = [(0, 0, 0)]
    runs = 0
    while queue:
        peak, _, done = heapq.heappop(queue)
        if done == whole:
            return peak, _walk(came, done)
        if peak > best[done]:
            continue
        for i in graph.ready(done):
            held, after, left = graph.run(done, alive[done], i)
            reached = max(peak, held)
            if reached <= given and reached < best.get(after, reached + 1):
                best[after], came[after], alive[after] = reached, (done, i), left
                heapq.heappush(queue, (reached, -after.bit_count(), after))
            runs += len(graph.ops)
        if len(best) > STATES or runs > RUNS:
            return None
    return given, list(range(len(graph.ops)))


def _walk(came: dict[int, tuple[int, int]], done: int) -> list[int]:
    order = []
    while done:
        done, i = came[done]
        order.append(i)
    return order[::-1]


def _greedy(graph: _Graph) -> list[int]:
    """What leaves the fewest bytes alive, then the cheapest step, then the first that can run."""
    done, alive = 0, graph.loaded
    order: list[int] = []
    while len(order) < len(graph.ops):
        steps = [(i, graph.run(done, alive, i)) for i in graph.ready(done)]
        left = {i: sum(graph.bytes[n] for n in step[2]) for i, step in steps}
        i, (_, done, alive) = min(steps, key=lambda s: (left[s[0]], s[1][0], s[0]))
        order.append(i)
    return order
