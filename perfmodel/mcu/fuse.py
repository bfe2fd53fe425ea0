"""Fusion and streaming: operators that run slice by slice, so that a tensor is never whole.

Operator integration: a pair whose second operator needs a window of what the first writes runs as
one, and the tensor between them shrinks to that window (MCUFormer, Liang et al., NeurIPS 2023, for
linear, activation, linear and for scores, softmax, mixing; the same idea as the line buffers of
convolution pairs in MCUNetV2, Lin et al., arXiv 2110.15352, without recomputation). Streaming: the
network's input arrives a window at a time and is consumed as it comes (patch embeddings).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from perfmodel.mcu.access import Moves, Window, overwritten, scratch_by_axis, slice_bytes, windows
from perfmodel.mcu.network import Network, Op

SPELLED_OUT = 4
"""Members of a fused operator that its name lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Operators ``first`` and ``first + 1`` (by position) joined over ``tensor``.

    ``scratch_bytes`` is what the joined operator holds of its inner tensors, by axis of its output
    along which it may run; ``saved_bytes`` by how much the larger of the two operators' live bytes
    exceeds those of the joined one.
    """

    first: int
    tensor: str
    scratch_bytes: Mapping[int, int]
    saved_bytes: int


def pairs(network: Network, rows: int = 1) -> Iterator[Pair]:
    """Every pair of neighbours in the order that could be joined at a saving."""
    alive = network.live_bytes()
    for step, name, scratch in _joinable(network, rows):
        first, second = network.ops[step : step + 2]
        written = sum(network.tensor(n).bytes for n in second.outputs)
        held = alive[step] - first.scratch_bytes - network.tensor(name).bytes + written
        saved = max(alive[step : step + 2]) - held - min(scratch.values())
        if saved > 0:
            yield Pair(first=step, tensor=name, scratch_bytes=scratch, saved_bytes=saved)


def far_pairs(network: Network, moves: Moves) -> Iterator[Pair]:
    """Pairs that save nothing by themselves, but whose chain may end in an overwritten input.

    Joined where the live bytes, less what is overwritten and the inner windows, do not grow.
    """
    alive = network.live_bytes()
    readers = network.consumers()
    kept = {t.name for t in network.of_kind("output", "state")}

    def held(op: Op, step: int, last: int, bytes_: int) -> int:
        over = overwritten(op, network, lambda n: n not in kept and max(readers[n]) <= last, moves)
        return bytes_ - op.scratch_bytes - (network.tensor(over[0]).bytes if over else 0)

    for step, name, scratch in _joinable(network, moves.rows):
        first, second = network.ops[step : step + 2]
        pair = Pair(first=step, tensor=name, scratch_bytes=scratch, saved_bytes=0)
        joined = _joined(network, pair)
        written = sum(network.tensor(n).bytes for n in second.outputs)
        whole = alive[step] - first.scratch_bytes - network.tensor(name).bytes + written
        after = held(joined, step, step + 1, whole + joined.scratch_bytes)
        before = (
            held(op, step + i, step + i, alive[step + i]) for i, op in enumerate((first, second))
        )
        saved = max(before) - after
        if saved >= 0:
            yield replace(pair, saved_bytes=saved)


def _joinable(network: Network, rows: int) -> Iterator[tuple[int, str, dict[int, int]]]:
    """Positions, the tensor between, and scratch by axis of pairs that can run as one."""
    readers = network.consumers()
    kept = {t.name for t in network.of_kind("output", "state")}
    for step, (first, second) in enumerate(itertools.pairwise(network.ops)):
        name = first.outputs[0]
        alone = len(first.outputs) == 1 and second.inputs.count(name) == 1
        if alone and name not in kept and readers[name] == (step + 1,):
            scratch = _scratch(network, first, second, name, rows)
            if scratch:
                yield step, name, scratch


def _scratch(network: Network, first: Op, second: Op, name: str, rows: int) -> dict[int, int]:
    """Bytes of inner windows if the two ran as one, by axis along which they can."""
    before, after = scratch_by_axis(first), scratch_by_axis(second)
    found = {}
    for axis, w in windows(second, name, network).items():
        if before is not None and w.axis not in before:
            continue
        found[axis] = slice_bytes(network.tensor(name), w.axis, w.size + (rows - 1) * w.stride)
        found[axis] += first.scratch_bytes if before is None else before[w.axis]
        found[axis] += second.scratch_bytes if after is None else after[axis]
    return found


def join(network: Network, chosen: Sequence[Pair]) -> Network:
    """The network with each of the ``chosen`` pairs, no operator in two of them, run as one."""
    at = {p.first: p for p in chosen}
    gone = {p.tensor for p in chosen}
    ops = [
        _joined(network, at[i]) if i in at else op
        for i, op in enumerate(network.ops)
        if i - 1 not in at
    ]
    tensors = tuple(t for t in network.tensors if t.name not in gone)
    return replace(network, tensors=tensors, ops=tuple(ops))


def _joined(network: Network, pair: Pair) -> Op:
    first, second = network.ops[pair.first : pair.first + 2]
    members = (*_members(first), *_members(second))
    inputs = tuple(dict.fromkeys((*first.inputs, *second.inputs)))
    return Op(
        name=_joint_name(members),
        kind="fused",
        inputs=tuple(n for n in inputs if n != pair.tensor),
        outputs=second.outputs,
        attributes={
            "members": members,
            "scratch": pair.scratch_bytes,
            "windows": _composed(network, first, second, pair),
        },
        workloads=(*first.workloads, *second.workloads),
        scratch_bytes=min(pair.scratch_bytes.values()),
    )


def _joint_name(members: Sequence[str]) -> str:
    """The members' names; of many the first and the last, which no other chain can have."""
    if len(members) <= SPELLED_OUT:
        return "+".join(members)
    return f"{members[0]}+({len(members) - 2} more)+{members[-1]}"


def _members(op: Op) -> tuple[str, ...]:
    return op.attributes["members"] if op.kind == "fused" else (op.name,)


def _composed(
    network: Network, first: Op, second: Op, pair: Pair
) -> Mapping[str, Mapping[int, tuple[int, int, int]]]:
    """Windows of the joined operator's inputs; an input read at two places needs the wider one."""
    links = windows(second, pair.tensor, network)
    composed: dict[str, dict[int, tuple[int, int, int]]] = {}
    for axis in pair.scratch_bytes:
        found: dict[str, list[Window | None]] = {}
        for x in network.reads(first):
            inner = windows(first, x.name, network).get(links[axis].axis)
            found.setdefault(x.name, []).append(inner.after(links[axis]) if inner else None)
        for x in network.reads(second):
            if x.name != pair.tensor:
                found.setdefault(x.name, []).append(windows(second, x.name, network).get(axis))
        for name, seen in found.items():
            wide = _widest(seen)
            if wide is not None:
                composed.setdefault(name, {})[axis] = (wide.axis, wide.size, wide.stride)
    return composed


def _widest(seen: list[Window | None]) -> Window | None:
    """One window that covers all, where all agree on axis and stride; else None: all is needed."""
    known = [w for w in seen if w is not None]
    if len(known) < len(seen) or len({(w.axis, w.stride) for w in known}) > 1:
        return None
    return max(known, key=lambda w: w.size)


def fuse(network: Network, moves: Moves, *, far: bool = False) -> tuple[Network, tuple[str, ...]]:
    """Pairs joined while one saves bytes, the largest saving first; and what was joined.

    ``far`` also takes the :func:`far_pairs`.
    """
    while True:
        found = list(far_pairs(network, moves) if far else pairs(network, moves.rows))
        if not found:
            break
        found.sort(key=lambda p: (-p.saved_bytes, p.first))
        network = join(network, _apart(found))
    return network, tuple(op.name for op in network.ops if op.kind == "fused")


def _apart(found: Sequence[Pair]) -> list[Pair]:
    """The best pairs that share no operator."""
    taken: set[int] = set()
    chosen = []
    for pair in found:
        if not taken & {pair.first, pair.first + 1}:
            chosen.append(pair)
            taken |= {pair.first, pair.first + 1}
    return chosen


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
