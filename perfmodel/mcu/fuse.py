"""Fusion and streaming: operators that run slice by slice, so that a tensor is never whole.

Operator integration: a pair whose second operator needs a window of what the first writes runs as
one, and the tensor between them shrinks to that window (MCUFormer, Liang et al., NeurIPS 2023, for
linear, activation, linear and for scores, softmax, mixing; the same idea as the line buffers of
convolution pairs in MCUNetV2, Lin et al., arXiv 2110.15352, without recomputation). Streaming: the
network's input arrives a window at a time and is consumed as it comes (patch embeddings).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from perfmodel.mcu.access import Window, slice_bytes, windows
from perfmodel.mcu.network import Network, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Operators ``first`` and ``second`` (by position) joined over ``tensor`` along ``axis``.

    ``axis`` counts on the output of ``second``. ``saved_bytes`` is by how much the larger of the
    two operators' live bytes exceeds those of the joined one.
    """

    first: int
    second: int
    tensor: str
    axis: int
    window_bytes: int
    saved_bytes: int


def pairs(network: Network, rows: int = 1) -> Iterator[Pair]:
    """Every pair of neighbours in the order that could be joined at a saving."""
    readers = network.consumers()
    alive = network.live_bytes()
    kept = {t.name for t in network.of_kind("output", "state")}
    for step, (first, second) in enumerate(itertools.pairwise(network.ops)):
        name = first.outputs[0]
        joinable = len(first.outputs) == 1 and second.inputs.count(name) == 1
        if name in kept or readers[name] != (step + 1,) or not joinable:
            continue
        axis = _best_axis(network, first, second, name, rows)
        if axis is None:
            continue
        size = _window_bytes(network, second, name, axis, rows)
        written = sum(network.tensor(n).bytes for n in second.outputs)
        held = alive[step] + written + second.scratch_bytes + size - network.tensor(name).bytes
        if held < max(alive[step : step + 2]):
            yield Pair(
                first=step,
                second=step + 1,
                tensor=name,
                axis=axis,
                window_bytes=size,
                saved_bytes=max(alive[step : step + 2]) - held,
            )


def _best_axis(network: Network, first: Op, second: Op, name: str, rows: int) -> int | None:
    """The axis along which the least of ``name`` has to be there at once."""
    found = windows(second, name, network)
    allowed = [a for a in found if first.kind != "fused" or found[a].axis in _axes(first)]
    return min(
        allowed, key=lambda a: (_window_bytes(network, second, name, a, rows), a), default=None
    )


def _axes(op: Op) -> tuple[int, ...]:
    return (op.attributes["axis"],)


def _window_bytes(network: Network, op: Op, name: str, axis: int, rows: int) -> int:
    w = windows(op, name, network)[axis]
    return slice_bytes(network.tensor(name), w.axis, w.size + (rows - 1) * w.stride)


def join(network: Network, pair: Pair) -> Network:
    """The network with ``pair`` run as one operator."""
    first, second = network.ops[pair.first], network.ops[pair.second]
    members = (*_members(first), *_members(second))
    inputs = tuple(dict.fromkeys((*first.inputs, *second.inputs)))
    joined = Op(
        name="+".join(members),
        kind="fused",
        inputs=tuple(n for n in inputs if n != pair.tensor),
        outputs=second.outputs,
        attributes={
            "members": members,
            "axis": pair.axis,
            "windows": _composed(network, first, second, pair),
        },
        workloads=(*first.workloads, *second.workloads),
        scratch_bytes=first.scratch_bytes + second.scratch_bytes + pair.window_bytes,
    )
    return replace(
        network,
        tensors=tuple(t for t in network.tensors if t.name != pair.tensor),
        ops=(*network.ops[: pair.first], joined, *network.ops[pair.second + 1 :]),
    )


def _members(op: Op) -> tuple[str, ...]:
    return op.attributes["members"] if op.kind == "fused" else (op.name,)


def _composed(
    network: Network, first: Op, second: Op, pair: Pair
) -> Mapping[str, Mapping[int, tuple[int, int, int]]]:
    """Windows of the joined operator's inputs; an input read at two places needs the wider one."""
    link = windows(second, pair.tensor, network)[pair.axis]
    found: dict[str, list[Window | None]] = {}
    for x in network.reads(first):
        inner = windows(first, x.name, network).get(link.axis)
        found.setdefault(x.name, []).append(inner.after(link) if inner else None)
    for x in network.reads(second):
        if x.name != pair.tensor:
            found.setdefault(x.name, []).append(windows(second, x.name, network).get(pair.axis))
    return {
        name: {pair.axis: (wide.axis, wide.size, wide.stride)}
        for name, seen in found.items()
        if (wide := _widest(seen)) is not None
    }


def _widest(seen: list[Window | None]) -> Window | None:
    """One window that covers all, where all agree on axis and stride; else None: all is needed."""
    known = [w for w in seen if w is not None]
    if len(known) < len(seen) or len({(w.axis, w.stride) for w in known}) > 1:
        return None
    return max(known, key=lambda w: w.size)


def fuse(network: Network, rows: int = 1) -> tuple[Network, tuple[str, ...]]:
    """Pairs joined while one saves bytes, the largest saving first; and what was joined."""
    while True:
        best = max(pairs(network, rows), key=lambda p: (p.saved_bytes, -p.first), default=None)
        if best is None:
            break
        network = join(network, best)
    return network, tuple(op.name for op in network.ops if op.kind == "fused")


def stream_inputs(network: Network, rows: int = 1) -> tuple[Network, tuple[str, ...]]:
    """Inputs that one operator reads window by window, cut to that window; and which ones.

    The application hands over the next slices when the operator asks for them: from a camera's
    line buffer, say, or from the flash.
    """
    readers = network.consumers()
    cut: dict[str, tuple[int, ...]] = {}
    for x in network.of_kind("input"):
        if len(readers[x.name]) != 1:
            continue
        op = network.ops[readers[x.name][0]]
        found = windows(op, x.name, network)
        axis = min(found, key=lambda a: slice_bytes(x, found[a].axis, found[a].size), default=None)
        if axis is None or op.kind in ("elementwise", "reshape"):
            continue
        w = found[axis]
        held = w.size + (rows - 1) * w.stride
        if held < x.shape[w.axis]:
            cut[x.name] = (*x.shape[: w.axis], held, *x.shape[w.axis + 1 :])
    tensors = tuple(replace(t, shape=cut[t.name]) if t.name in cut else t for t in network.tensors)
    return replace(network, tensors=tensors), tuple(cut)
