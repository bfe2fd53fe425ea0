"""Collectives: what each device must send."""

from __future__ import annotations

import numpy as np

from perfmodel.ops.cost import Cost
from perfmodel.ops.numbers import f64
from perfmodel.workload import Array, Collective


def link_bytes(w: Collective) -> Array:
    """Bytes that each of n devices sends, S bytes of buffer per rank; 0 for one device.

    All-reduce ``2 (n - 1) / n S``; all-gather, reduce-scatter, all-to-all ``(n - 1) / n S``
    (Patarasuk and Yuan, J. Parallel Distrib. Comput. 69, 2009: the least that any algorithm moves);
    send/recv ``S``.
    """
    return sent_share(w) * f64(w.bytes)


def sent_share(w: Collective) -> Array:
    """What each device sends over its buffer: :func:`link_bytes` per byte."""
    n = f64(w.ranks)
    if w.kind == "send_recv":
        return np.where(n > 1.0, 1.0, 0.0)[()]
    return (2.0 if w.kind == "all_reduce" else 1.0) * ((n - 1.0) / n)


def ring_steps(w: Collective) -> Array:
    """Dependent exchanges of a ring: ``2 (n - 1)`` for an all-reduce, 1 for send/recv, else n-1."""
    n = f64(w.ranks)
    if w.kind == "send_recv":
        return np.minimum(n - 1.0, 1.0)
    return (2.0 if w.kind == "all_reduce" else 1.0) * (n - 1.0)


def count_collective(w: Collective) -> Cost:
    """One collective: link bytes per device, its buffer read and written once, ring depth.

    A collective over one device is nothing: no bytes, no launch.
    """
    active = np.where(f64(w.ranks) > 1.0, 1.0, 0.0)[()]
    buffer = active * f64(w.bytes)
    return Cost(
        read_bytes=buffer,
        write_bytes=buffer,
        link_bytes=link_bytes(w),
        items=active,
        depth=ring_steps(w),
        launches=active,
    )
