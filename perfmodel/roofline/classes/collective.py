"""Collectives: the faster of a latency and a bandwidth protocol; a third law between nodes.

The alpha-beta model (Hockney, Parallel Computing 20, 1994) with NCCL's two protocols: LL packs
flags with data (fast start, a fraction of the bandwidth), Simple synchronises per chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops.collective import link_bytes, ring_steps
from perfmodel.ops.numbers import f64
from perfmodel.roofline.links import (
    crosses_nodes,
    node_bandwidth,
    node_peer_bandwidth,
    ranks_in_node,
)
from perfmodel.roofline.model import (
    EAGER_S,
    ClassModel,
    Parameter,
    Run,
    Terms,
    Values,
)
from perfmodel.workload import Array, Collective


def _seconds(name: str, high: float, start: float, meaning: str, prior: float = 0.0) -> Parameter:
    return Parameter(
        name=name, unit="s", low=0.0, high=high, start=start, meaning=meaning, prior=prior
    )


def _fraction(name: str, start: float, meaning: str, prior: float = 0.0) -> Parameter:
    return Parameter(
        name=name, unit="1", low=0.01, high=1.0, start=start, meaning=meaning, prior=prior
    )


PARAMETERS = (
    _seconds("latency_start_s", 1e-4, 1e-5, "latency protocol: launch and proxy", 0.3),
    _seconds("latency_hop_s", 1e-5, 1e-6, "latency protocol: one ring step", 0.3),
    _fraction("latency_fraction", 0.2, "latency protocol: share of the link", 0.1),
    _seconds("bandwidth_start_s", 2e-4, 4e-5, "bandwidth protocol: launch and set-up", 0.3),
    _seconds("bandwidth_hop_s", 1e-5, 1e-6, "bandwidth protocol: one ring step", 0.3),
    _fraction("bandwidth_fraction", 0.7, "bandwidth protocol: share of the link", 0.15),
    _seconds("send_start_s", 1e-4, 1e-5, "send/recv: launch and handshake"),
    _fraction("send_fraction", 0.9, "send/recv: share of the link"),
    _seconds("node_start_s", 5e-4, 4e-5, "between nodes: launch and network set-up"),
    _seconds("node_hop_s", 5e-5, 2e-6, "between nodes: one ring step"),
    _fraction("node_fraction", 0.4, "between nodes: share of the network links in use"),
    _seconds("node_send_start_s", 5e-4, 2e-5, "between nodes, send/recv: launch and set-up"),
    _fraction("node_send_fraction", 0.4, "between nodes, send/recv: share of the network link"),
    _seconds("apart_s", 2e-4, 4e-5, "by how much ranks that their hosts launch start apart", 0.5),
)


def predict_collective(w: Collective, device: Device, values: Values, run: Run) -> Terms:
    """``root(launch + transfer, apart)`` of the faster protocol; nothing for one rank.

    Each protocol: launch = ``start + hop * steps``, transfer = ``bytes / (fraction * link)``, steps
    and bytes those of a ring. Between nodes the rings of the ``g`` devices of a node are taken to
    fill ``sqrt(g)`` of their network links, if that takes longer than the links inside. Kernels
    that hosts launch one by one wait for the last rank to arrive: ``root(a, b) = sqrt(a^2 + b^2)``.
    """
    sent, steps = link_bytes(w), ring_steps(w)
    link = node_peer_bandwidth(w, device)
    if w.kind == "send_recv":
        fixed, moving = _protocol("send", values, sent, steps * 0.0, link)
    else:
        quick = _protocol("latency", values, sent, steps, link)
        steady = _protocol("bandwidth", values, sent, steps, link)
        fixed, moving = _choose(sum(quick) <= sum(steady), quick, steady)
    across = crosses_nodes(w, device)
    if bool(np.any(across)):
        alone = w.kind == "send_recv"
        rings = np.float64(1.0) if alone else np.sqrt(ranks_in_node(w, device))
        kind = "node_send" if alone else "node"
        network = _protocol(kind, values, sent, steps, rings * node_bandwidth(device))
        slower = across & (sum(network) > fixed + moving)
        fixed, moving = _choose(slower, network, (fixed, moving))
    active = np.where(f64(w.ranks) > 1.0, 1.0, 0.0)[()]
    fixed, moving = active * fixed, active * moving
    waits = run.launch != "graph" and w.kind != "send_recv"
    apart = active * np.float64(values["apart_s"] if waits else 0.0)
    own = fixed + moving
    return Terms(
        time_s=np.sqrt(own * own + apart * apart),
        terms={"launch": fixed, "transfer": moving, "apart": apart},
        formula="root(launch + transfer, apart)",
        details={"ring_steps": steps},
    )


def _protocol(
    kind: str, values: Values, sent: Array, steps: Array, link: Array
) -> tuple[Array, Array]:
    """Fixed and moving seconds of one protocol."""
    hops = steps * np.float64(values.get(f"{kind}_hop_s", 0.0))
    share = np.float64(values[f"{kind}_fraction"])
    return np.float64(values[f"{kind}_start_s"]) + hops, sent / (share * link)


def _choose(
    first: Any, one: tuple[Array, Array], other: tuple[Array, Array]
) -> tuple[Array, Array]:
    return np.where(first, one[0], other[0])[()], np.where(first, one[1], other[1])[()]


CUSTOM_PARAMETERS = (
    _seconds("custom_start_s", 1e-4, 5e-6, "peer-to-peer kernel: launch and first barrier"),
    _seconds("custom_hop_s", 1e-5, 5e-7, "peer-to-peer kernel: flag of one peer"),
    _seconds("custom_barrier_s", 5e-5, 4e-6, "second barrier of the two-shot form"),
    _fraction("custom_fraction", 0.6, "peer-to-peer kernel: share of the link"),
    _seconds("bandwidth_start_s", 2e-4, 4e-5, "ring above it: launch and set-up"),
    _seconds("bandwidth_hop_s", 1e-5, 1e-6, "ring above it: one step"),
    _fraction("bandwidth_fraction", 0.7, "ring above it: share of the link"),
    _fraction("copy_fraction", 0.8, "share of main memory of the copy into the shared buffer"),
    EAGER_S,
)


def predict_custom(w: Collective, device: Device, values: Values, run: Run) -> Terms:
    """``max(launch + transfer, host) + copy``: an all-reduce by kernels that read peers directly.

    One shot: every device reads all others' buffers, ``(n - 1) S`` bytes and one barrier. Two shot:
    reduce-scatter and all-gather, ring bytes and a second barrier. A ring above them; the fastest
    counts. An eager call waits for the host and first copies its buffer to where peers see it.
    """
    n, size = f64(w.ranks), f64(w.bytes)
    link = node_peer_bandwidth(w, device)
    flags = np.float64(values["custom_start_s"]) + np.float64(values["custom_hop_s"]) * (n - 1.0)
    reach = np.float64(values["custom_fraction"]) * link
    one = flags, (n - 1.0) * size / reach
    two = flags + np.float64(values["custom_barrier_s"]), link_bytes(w) / reach
    ring = _protocol("bandwidth", values, link_bytes(w), ring_steps(w), link)
    fixed, moving = _choose(sum(one) <= sum(two), one, two)
    fixed, moving = _choose(fixed + moving <= sum(ring), (fixed, moving), ring)
    active = np.where(n > 1.0, 1.0, 0.0)[()]
    eager = active * np.float64(1.0 if run.launch == "eager" else 0.0)
    memory = np.float64(values["copy_fraction"]) * np.float64(device.memory.bandwidth_bytes_per_s)
    copy, host = eager * (2.0 * size) / memory, eager * np.float64(values["eager_s"])
    fixed, moving = active * fixed, active * moving
    return Terms(
        time_s=np.maximum(fixed + moving, host) + copy,
        terms={"launch": fixed, "transfer": moving, "host": host, "copy": copy},
        formula="max(launch + transfer, host) + copy",
        details={},
    )


COLLECTIVE = ClassModel(name="collective", parameters=PARAMETERS, predict=predict_collective)
CUSTOM = ClassModel(name="collective_custom", parameters=CUSTOM_PARAMETERS, predict=predict_custom)
