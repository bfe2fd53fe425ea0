"""Collectives: NCCL's choice of protocol, each a latency and a share of the link; kernels that read
peers directly.

The alpha-beta model (Hockney, Parallel Computing 20, 1994), once for each protocol.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from perfmodel.errors import BadValue
from perfmodel.hw.device import Device
from perfmodel.ops.collective import sent_share
from perfmodel.ops.numbers import f64
from perfmodel.roofline.classes.nccl import (
    LL,
    NEVER_S,
    PROTOCOLS,
    RING_SHARE,
    SIMPLE,
    SWITCH_S,
    Line,
    Protocol,
    chosen,
    steps_of,
)
from perfmodel.roofline.links import (
    crosses_nodes,
    node_bandwidth,
    node_peer_bandwidth,
    ranks_in_node,
    reduction_share,
    through_host,
    within_node,
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

LEAST_SENT = 1e-9
"""Share of a buffer that even one rank is taken to send, where a division needs it."""


def _seconds(name: str, high: float, start: float, meaning: str, prior: float = 0.0) -> Parameter:
    return Parameter(
        name=name, unit="s", low=0.0, high=high, start=start, meaning=meaning, prior=prior
    )


def _fraction(
    name: str, start: float, meaning: str, prior: float = 0.0, high: float = 1.0
) -> Parameter:
    return Parameter(
        name=name, unit="1", low=0.01, high=high, start=start, meaning=meaning, prior=prior
    )


NCCL_PARAMETERS = (
    _seconds("ll_start_s", 2e-4, 1e-5, "LL protocol: launch and set-up; send/recv too", 0.3),
    _fraction("ll_fraction", 0.3, "LL protocol: share of the link", 0.15, high=0.5),
    _seconds("ll128_start_s", 2e-4, 2e-5, "LL128 protocol: launch and set-up", 0.3),
    _fraction("ll128_fraction", 0.6, "LL128 protocol: share of the link", 0.15, high=0.9375),
    _seconds("simple_start_s", 2e-4, 2e-5, "Simple protocol: launch and set-up", 0.3),
    _fraction("simple_fraction", 0.7, "Simple protocol: share of the link", 0.15),
    Parameter(
        name="hop_scale", unit="1", low=0.1, high=5.0, start=1.0,
        meaning="time of one step over what NCCL's table says of it",
    ),
    _fraction(
        "copy_fraction", 0.7, "share of main memory at which a device copies its own part", 0.3
    ),
)  # fmt: skip
PARAMETERS = (
    *NCCL_PARAMETERS,
    _fraction("send_fraction", 0.9, "send/recv: share of the link"),
    _fraction("node_fraction", 0.4, "between nodes: share of the network links in use"),
    _seconds("apart_s", 2e-4, 4e-5, "by how much ranks that their hosts launch start apart", 0.5),
)


def predict_collective(w: Collective, device: Device, values: Values, run: Run) -> Terms:
    """``root(launch + transfer, apart)`` of the protocol that NCCL chooses; nothing for one rank.

    Each protocol: launch = ``start + hop_scale * steps``, transfer = ``bytes / (fraction * link)``
    and the copy of a device's own part. Between nodes network links take over where they are
    slower. Kernels that hosts launch one by one wait for the last rank to arrive: ``root(a, b) =
    sqrt(a^2 + b^2)``. What a network joins is a regime of its own, as no parameter knows which it
    is, and so are kernels timed one by one, of which each rank's begins when it does.
    """
    alone = w.kind == "send_recv"
    law = _sent if alone else _ring
    here = within_node(w, device)
    fixed, moving = law(here, device, values)
    across = crosses_nodes(w, device)
    if bool(np.any(across)):
        network = _sent_across(w, device, values) if alone else _ring_across(w, device, values)
        slower = across & (sum(network) > fixed + moving)
        fixed, moving = _choose(slower, network, (fixed, moving))
    active = np.where(f64(w.ranks) > 1.0, 1.0, 0.0)[()]
    fixed, moving = active * fixed, active * moving
    waits = run.launch != "graph" and not alone
    apart = active * np.float64(values["apart_s"] if waits else 0.0)
    own = fixed + moving
    return Terms(
        time_s=np.sqrt(own * own + apart * apart),
        terms={"launch": fixed, "transfer": moving, "apart": apart},
        formula="root(launch + transfer, apart)",
        details={},
        special=np.asarray(across | waits | alone)[()],
        regime=np.where(across, "network", "apart"),
    )


def _ring(w: Collective, device: Device, values: Values) -> tuple[Array, Array]:
    """Launch and transfer within a node: rings of three protocols, or the switch."""
    link = node_peer_bandwidth(w, device)
    lines = [_line(p, w, device, values) for p in PROTOCOLS]
    if bool(np.any(reduction_share(w, device) > 0.0)):
        lines.append(_switch_line(w, device, values))
    return chosen(lines, f64(w.bytes), RING_SHARE * link / np.maximum(sent_share(w), LEAST_SENT))


def _line(p: Protocol, w: Collective, device: Device, values: Values) -> Line:
    hosted, steps = through_host(w, device), steps_of(p, w, device)
    missing = np.where(hosted, NEVER_S, 0.0)[()] if p.peer_only else np.float64(0.0)
    reached = np.float64(values[f"{p.name}_fraction"]) * node_peer_bandwidth(w, device)
    return Line(
        asked=(missing + p.base_s) + steps,
        slowness=np.where(hosted, 1.0 / p.other_share, 1.0 / p.peer_share)[()],
        fixed=np.float64(values[f"{p.name}_start_s"]) + np.float64(values["hop_scale"]) * steps,
        per_byte=sent_share(w) / reached + _own_part(w, device, values),
    )


def _switch_line(w: Collective, device: Device, values: Values) -> Line:
    """An all-reduce that switches add up: every device sends its buffer once to be added and its
    part of the sum once to be multicast, ``(1 + 1 / n) S``, whatever their number. NCCL does so
    where that is faster than Simple's ring."""
    share = reduction_share(w, device)
    sent = (1.0 + 1.0 / f64(w.ranks)) / np.where(share > 0.0, share, 1.0)[()]
    slowness = sent / np.maximum(sent_share(w), LEAST_SENT)
    faster = (share > 0.0) & (slowness < 1.0 / SIMPLE.peer_share)
    reached = np.float64(values["simple_fraction"]) * node_peer_bandwidth(w, device)
    return Line(
        asked=np.where(faster, SWITCH_S, NEVER_S)[()],
        slowness=np.where(faster, slowness, 0.5 / SIMPLE.peer_share)[()],
        fixed=np.float64(values["simple_start_s"]) + np.float64(values["hop_scale"]) * SWITCH_S,
        per_byte=sent / reached,
    )


def _own_part(w: Collective, device: Device, values: Values) -> Array:
    """Per byte of the buffer: a device reads and writes the part that never leaves it."""
    rate = np.float64(values["copy_fraction"]) * np.float64(device.memory.bandwidth_bytes_per_s)
    return 2.0 / (f64(w.ranks) * rate)


def _ring_across(w: Collective, device: Device, values: Values) -> tuple[Array, Array]:
    """Launch and transfer between nodes: the rings of the ``g`` devices of a node are taken to fill
    ``sqrt(g)`` of their network links; a protocol loses there what it loses inside."""
    sent, g = sent_share(w), ranks_in_node(w, device)
    network, hop_scale = node_bandwidth(device), np.float64(values["hop_scale"])
    lines = []
    for p in (LL, SIMPLE):
        steps = steps_of(p, w, device)
        loses = np.float64(values[f"{p.name}_fraction"]) / np.float64(values["simple_fraction"])
        share = np.float64(values["node_fraction"]) * np.minimum(loses, 1.0)
        lines.append(
            Line(
                asked=p.base_s + steps,
                slowness=np.float64(1.0 / p.other_share),
                fixed=np.float64(values[f"{p.name}_start_s"]) + hop_scale * steps,
                per_byte=sent / (share * np.sqrt(g) * network),
            )
        )
    counted = np.minimum(RING_SHARE * node_peer_bandwidth(w, device), g * network)
    return chosen(lines, f64(w.bytes), counted / np.maximum(sent, LEAST_SENT))


def _sent(w: Collective, device: Device, values: Values) -> tuple[Array, Array]:
    """Launch and transfer from one device to another of its node."""
    reached = np.float64(values["send_fraction"]) * node_peer_bandwidth(w, device)
    return np.float64(values["ll_start_s"]), sent_share(w) * f64(w.bytes) / reached


def _sent_across(w: Collective, device: Device, values: Values) -> tuple[Array, Array]:
    """The same to a device of another node."""
    step = np.float64(values["hop_scale"]) * LL.ring.network
    reached = np.float64(values["node_fraction"]) * node_bandwidth(device)
    return np.float64(values["ll_start_s"]) + step, sent_share(w) * f64(w.bytes) / reached


def _choose(
    first: Any, one: tuple[Array, Array], other: tuple[Array, Array]
) -> tuple[Array, Array]:
    return np.where(first, one[0], other[0])[()], np.where(first, one[1], other[1])[()]


BLOCK_BYTES = 8192.0
"""What one block of 512 threads moves in vectors of 16 bytes: a smaller buffer leaves threads idle,
and their peers' flags are waited for in proportion."""

VLLM_LIMIT = 8 * 2**20
"""Bytes from which vLLM leaves an all-reduce to NCCL (``max_size`` of its CustomAllreduce)."""
TRTLLM_LIMIT = 3 * 2**19
"""The same for TensorRT-LLM: its times at 1 MiB are its own kernels', those at 2 MiB NCCL's. It has
switched its two-shot kernel off ("significant performance issues", ``allreduceOp.cpp``)."""

CUSTOM_PARAMETERS = (
    _seconds("custom_start_s", 1e-4, 5e-6, "peer-to-peer kernel: launch and first barrier"),
    _seconds(
        "custom_hop_s", 1e-5, 5e-7, "peer-to-peer kernel: flags of one peer, once a block is full"
    ),
    _seconds("custom_barrier_s", 5e-5, 4e-6, "second barrier of the two-shot form", 0.5),
    _fraction("custom_fraction", 0.6, "peer-to-peer kernel: share of the link"),
    *NCCL_PARAMETERS,
    EAGER_S,
)


def predict_custom(
    w: Collective,
    device: Device,
    values: Values,
    run: Run,
    *,
    limit: float = VLLM_LIMIT,
    two_shot: bool = True,
) -> Terms:
    """``max(launch + transfer, host) + copy``: an all-reduce by kernels that read peers directly.

    One shot: every device reads all others' buffers, ``(n - 1) S`` bytes and one barrier. Two shot:
    reduce-scatter and all-gather, ring bytes and a second barrier; the faster counts. From
    ``limit`` bytes, and without a link between all devices, NCCL runs instead; more bytes take no
    less all the same. An eager call waits for the host and first copies its buffer to where peers
    see it.

    Raises:
        BadValue: ranks of several nodes, which such kernels do not reach.
    """
    if bool(np.any(crosses_nodes(w, device))):
        msg = "kernels that read peers directly join the ranks of one node"
        raise BadValue(msg, field="ranks", fix="leave the kernel out")
    n, size = f64(w.ranks), f64(w.bytes)
    direct = ~through_host(w, device)
    own = _peer_kernels(w, device, values, np.minimum(size, limit), two_shot=two_shot)
    ring = _ring(w, device, values)
    leaves = (size >= limit) & (sum(ring) > sum(own))
    fixed, moving = _choose(direct & ~leaves, own, ring)
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


def _peer_kernels(
    w: Collective, device: Device, values: Values, size: Array, *, two_shot: bool
) -> tuple[Array, Array]:
    """Launch and transfer of the one-shot or the two-shot kernel for ``size`` bytes."""
    others = f64(w.ranks) - 1.0
    filled = np.minimum(size / BLOCK_BYTES, 1.0)
    hop = np.float64(values["custom_hop_s"]) * filled
    flags = np.float64(values["custom_start_s"]) + hop * others
    reach = np.float64(values["custom_fraction"]) * node_peer_bandwidth(w, device)
    one = flags, others * size / reach
    if not two_shot:
        return one
    two = flags + np.float64(values["custom_barrier_s"]), sent_share(w) * size / reach
    return _choose(sum(one) <= sum(two), one, two)


COLLECTIVE = ClassModel(name="collective", parameters=PARAMETERS, predict=predict_collective)
CUSTOM = ClassModel(name="collective_custom", parameters=CUSTOM_PARAMETERS, predict=predict_custom)
TRTLLM = ClassModel(
    name="collective_trtllm",
    parameters=tuple(p for p in CUSTOM_PARAMETERS if p.name != "custom_barrier_s"),
    predict=partial(predict_custom, limit=TRTLLM_LIMIT, two_shot=False),
)
