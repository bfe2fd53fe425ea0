"""Which link a collective crosses, and what the hierarchy of node and network allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import MissingFigure
from perfmodel.hw.device import Device
from perfmodel.hw.link import Link
from perfmodel.ops.collective import sent_share
from perfmodel.ops.numbers import f64
from perfmodel.workload import Array, Collective

NODE_DEVICES = 8
"""Devices taken to share a server when a collective does not say and the link joins fewer."""


def peer_link(device: Device) -> Link:
    """The link between devices of one node; through the host where there is none of their own.

    Raises:
        MissingFigure: the spec states neither.
    """
    link = device.peer_link or device.host_link
    if link is None:
        msg = f"{device.name} states no link to other devices"
        raise MissingFigure(msg, field="peer_link", fix="a device with a link, or one rank")
    return link


def peer_bandwidth(device: Device) -> np.float64:
    """One direction of the peer link in bytes/s; raises as :func:`peer_link`."""
    return np.float64(peer_link(device).bandwidth_bytes_per_s)


def node_bandwidth(device: Device) -> np.float64:
    """Between nodes, per device, in bytes/s.

    Raises:
        MissingFigure: the spec states no link between nodes.
    """
    if device.node_link is None:
        msg = f"{device.name} states no link between nodes"
        raise MissingFigure(msg, field="node_link", fix="ranks within one node")
    return np.float64(device.node_link.bandwidth_bytes_per_s)


def ranks_in_node(w: Collective, device: Device) -> Array:
    """How many of the ranks share a node: as the workload says, else as many as fit a server."""
    ranks = f64(w.ranks)
    if w.ranks_per_node is not None:
        return np.minimum(f64(w.ranks_per_node), ranks)
    return np.minimum(ranks, np.float64(max(peer_link(device).domain, NODE_DEVICES)))


def crosses_nodes(w: Collective, device: Device) -> NDArray[np.bool_]:
    """Where ranks outnumber those that share a node."""
    across = np.asarray(f64(w.ranks) > ranks_in_node(w, device))
    return across if bool(np.any(across)) else np.asarray(False)


def node_peer_bandwidth(w: Collective, device: Device) -> Array:
    """Bandwidth between ranks of one node: the host link's where they outnumber the peer link's
    domain (two bridged pairs talk over PCIe)."""
    peer = peer_link(device)
    outside = np.asarray(ranks_in_node(w, device) > max(peer.domain, 1))
    if device.host_link is None or not bool(np.any(outside)):
        return np.float64(peer.bandwidth_bytes_per_s)
    host = min(device.host_link.bandwidth_bytes_per_s, peer.bandwidth_bytes_per_s)
    slower: Array = np.where(outside, host, peer.bandwidth_bytes_per_s)[()]
    return slower


def through_host(w: Collective, device: Device) -> NDArray[np.bool_]:
    """Where ranks of one node talk over its host link rather than over a link of their own."""
    if device.peer_link is None:
        return np.asarray(True)
    outside = np.asarray(ranks_in_node(w, device) > max(device.peer_link.domain, 1))
    return outside if bool(np.any(outside)) else np.asarray(False)


def reduction_share(w: Collective, device: Device) -> Array:
    """Rate at which switches between the ranks add up an all-reduce, over that of a ring; 0 where
    they cannot: no such switch, another collective, or more ranks than it joins."""
    if w.kind != "all_reduce" or device.peer_link is None:
        return np.float64(0.0)
    apart = crosses_nodes(w, device) | through_host(w, device)
    share: Array = np.where(apart, 0.0, device.peer_link.reduction)[()]
    return share


def within_node(w: Collective, device: Device) -> Collective:
    """The same among the ranks of one node alone."""
    if not bool(np.any(crosses_nodes(w, device))):
        return w
    ranks: Any = np.asarray(ranks_in_node(w, device)).astype(np.int64)[()]
    return replace(w, ranks=ranks, ranks_per_node=ranks)


def fastest_bandwidth(w: Collective, device: Device) -> Array:
    """The most that the links allow per device, in bytes/s, for a lower bound.

    Within a node its peer bandwidth; switches that add up spare an all-reduce what a ring sends
    beyond the buffer. Across nodes the ``g`` devices of a node share their ``g`` network links, and
    no less than ``1 / g`` of the bytes must cross them: at most ``min(peer, g * node)``.
    """
    peer = node_peer_bandwidth(w, device)
    across = crosses_nodes(w, device)
    spared = np.where(reduction_share(w, device) > 0.0, np.maximum(sent_share(w), 1.0), 1.0)[()]
    if not bool(np.any(across)):
        return peer * spared
    together = ranks_in_node(w, device) * node_bandwidth(device)
    limited: Array = np.where(across, np.minimum(peer, together), peer)[()]
    return limited
