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


def _seconds(name: str, high: float, start: float, meaning: str) -> Parameter:
    return Parameter(name=name, unit="s", low=0.0, high=high, start=start, meaning=meaning)


def _fraction(name: str, start: float, meaning: str) -> Parameter:
    return Parameter(name=name, unit="1", low=0.01, high=1.0, start=start, meaning=meaning)


PARAMETERS = (
    _seconds("latency_start_s", 1e-4, 1e-5, "latency protocol: launch and proxy"),
    _seconds("latency_hop_s", 1e-5, 1e-6, "latency protocol: one ring step"),
    _fraction("latency_fraction", 0.2, "latency protocol: share of the link"),
    _seconds("bandwidth_start_s", 2e-4, 4e-5, "bandwidth protocol: launch and set-up"),
    _seconds("bandwidth_hop_s", 1e-5, 1e-6, "bandwidth protocol: one ring step"),
    _fraction("bandwidth_fraction", 0.7, "bandwidth protocol: share of the link"),
    _seconds("send_start_s", 1e-4, 1e-5, "send/recv: launch and handshake"),
    _fraction("send_fraction", 0.9, "send/recv: share of the link"),
    _seconds("node_start_s", 5e-4, 4e-5, "between nodes: launch and network set-up"),
    _seconds("node_hop_s", 5e-5, 2e-6, "between nodes: one ring step"),
    _fraction("node_fraction", 0.5, "between nodes: share of the node's network links"),
    EAGER_S,
)


def predict_collective(w: Collective, device: Device, values: Values, run: Run) -> Terms:
    """``launch + transfer + host`` of the faster protocol; nothing for one rank.

    Each protocol: launch = ``start + hop * steps``, transfer = ``bytes / (fraction * link)``, steps
    and bytes those of a ring. Between nodes the ``g`` devices of a node share the bytes over their
    ``g`` network links, if that takes longer than the links inside.
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
        together = np.float64(1.0) if w.kind == "send_recv" else ranks_in_node(w, device)
        network = _protocol("node", values, sent, steps, together * node_bandwidth(device))
        slower = across & (sum(network) > fixed + moving)
        fixed, moving = _choose(slower, network, (fixed, moving))
    active = np.where(f64(w.ranks) > 1.0, 1.0, 0.0)[()]
    host = active * np.float64(values["eager_s"] if run.launch == "eager" else 0.0)
    fixed, moving = active * fixed, active * moving
    return Terms(
        time_s=fixed + moving + host,
        terms={"launch": fixed, "transfer": moving, "host": host},
        formula="launch + transfer + host",
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


COLLECTIVE = ClassModel(name="collective", parameters=PARAMETERS, predict=predict_collective)
