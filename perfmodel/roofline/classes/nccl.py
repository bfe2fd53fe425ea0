"""Which protocol a collective runs in: the one that NCCL's own published model calls fastest.

NCCL times nothing. It adds latencies and divides by bandwidths of a table in its source
(``src/graph/tuning.cc`` and ``topo.h``, versions 2.10 to 2.27) and takes the least, right or wrong:
an all-gather of 2 MiB over two A100s leaves LL for Simple and gets slower by half. What the table
says decides here too; how long the choice then takes is fitted.

LL packs a flag with every four bytes, LL128 one with every 120, Simple synchronises once a chunk;
the switch reduces and multicasts on its way (NVLS, where it can).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops.numbers import f64
from perfmodel.roofline.links import crosses_nodes, ranks_in_node, through_host
from perfmodel.workload import Array, Collective

RING_SHARE = 0.8
"""Of a link's rate that the table counts on: 20 of 25 GB/s of an NVLink, 12 of 15.75 of PCIe 3."""

SWITCH_S = 25e-6
"""Latency of a reduction in the switch."""

NEVER_S = 1e9
"""Latency of a protocol that is not there."""

NEVER_BYTES = 1e300
"""Size at which the fastest protocol is left."""


class Hops(NamedTuple):
    """Seconds of one step over a link between devices, over PCIe, over a network."""

    peer: float
    host: float
    network: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One row of the table: latencies, and the share of a ring's bandwidth over a link between
    devices and elsewhere; ``peer_only`` where nothing else carries it."""

    name: str
    base_s: float
    ring: Hops
    tree: Hops
    peer_share: float
    other_share: float
    peer_only: bool = False


LL = Protocol(
    name="ll",
    base_s=6.6e-6,
    ring=Hops(0.6e-6, 1.0e-6, 2.7e-6),
    tree=Hops(0.6e-6, 1.0e-6, 5.0e-6),
    peer_share=0.37,  # 87.7 of 240 GB/s on Ampere, 141 of 370 on Hopper
    other_share=0.5,
)
LL128 = Protocol(
    name="ll128",
    base_s=14e-6,
    ring=Hops(1.9e-6, 2.5e-6, 4.0e-6),
    tree=Hops(1.25e-6, 1.9e-6, 8.5e-6),
    peer_share=0.92,
    other_share=0.92,
    peer_only=True,
)
SIMPLE = Protocol(
    name="simple",
    base_s=8.4e-6,
    ring=Hops(3.4e-6, 5.7e-6, 14e-6),
    tree=Hops(4.0e-6, 4.0e-6, 14e-6),
    peer_share=1.0,
    other_share=1.0,
)
PROTOCOLS = (LL, LL128, SIMPLE)


def steps_of(p: Protocol, w: Collective, device: Device) -> Array:
    """Seconds of the dependent steps of ``w``: those of a ring; between nodes an all-reduce may
    climb and descend a binary tree of them instead, a chain of devices within each.

    ``g`` ranks in each of ``r`` nodes. Ring: ``n - r`` steps inside and ``r - 1`` over the network,
    twice for an all-reduce. Tree: ``g - 1`` and ``ceil(log2 r)``, twice.
    """
    n, hosted = f64(w.ranks), through_host(w, device)
    way = 2.0 if w.kind == "all_reduce" else 1.0
    inner = np.where(hosted, p.ring.host, p.ring.peer)[()]
    if not bool(np.any(crosses_nodes(w, device))):
        return (way * inner) * (n - 1.0)
    g = ranks_in_node(w, device)
    nodes = np.ceil(n / g)
    steps: Array = way * ((n - nodes) * inner + (nodes - 1.0) * p.ring.network)
    if w.kind != "all_reduce":
        return steps
    levels = np.frexp(nodes - 1.0)[1].astype(np.float64)
    branch = np.where(hosted, p.tree.host, p.tree.peer)
    climb = way * ((g - 1.0) * branch + levels * p.tree.network)
    shallow: Array = np.where(nodes > 1.0, np.minimum(steps, climb), steps)[()]
    return shallow


class Line(NamedTuple):
    """One protocol's seconds over the bytes of a buffer: ``asked + slowness * bytes / ring`` by
    NCCL's table, where a ring moves the buffer at ``ring`` bytes/s, and ``fixed + per_byte *
    bytes`` as they are taken to be."""

    asked: Array
    slowness: Array
    fixed: Array
    per_byte: Array


def chosen(lines: Sequence[Line], size: Array, ring: Array) -> tuple[Array, Array]:
    """Fixed and moving seconds of the protocol chosen for ``size`` bytes.

    Each of ``lines``, the slowest first, is the least asked for between two sizes. Where the next
    begins with less time than the last ended with, that last time stands until the next reaches
    it: more bytes never take less.
    """
    enter: list[Array] = [np.float64(0.0)] * len(lines)
    leave: list[Array] = [np.float64(NEVER_BYTES)] * len(lines)
    for i, j in combinations(range(len(lines)), 2):
        slower, faster = lines[i], lines[j]
        gain = (slower.slowness - faster.slowness) / ring
        even = (faster.asked - slower.asked) / gain
        leave[i], enter[j] = np.minimum(leave[i], even), np.maximum(enter[j], even)
    fixed: Array = np.float64(0.0)
    moving: Array = np.float64(0.0)
    for line, begin, end in zip(lines, enter, leave, strict=True):
        own = line.per_byte * np.minimum(size, end)
        longer = (begin < end) & (size >= begin) & (line.fixed + own > fixed + moving)
        fixed = np.where(longer, line.fixed, fixed)[()]
        moving = np.where(longer, own, moving)[()]
    return fixed, moving
