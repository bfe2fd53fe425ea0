"""Offsets for buffers whose lifetimes are known: dynamic storage allocation, as good as provable.

Buffers that live at a common step must not overlap; the peak is the highest end. The lower bound
is the largest number of bytes alive at one step. Greedy orders come first (by size: Pisarchyk and
Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288, and the greedy
planner of TensorFlow Lite Micro, David et al., arXiv 2010.08678); a greedy plan as small as the
bound is optimal. Otherwise a branch and bound over canonical placements (each buffer rests on the
floor or on another; Moffitt, "MiniMalloc", ASPLOS 2023) and then a mixed-integer program (HiGHS,
in SciPy) close or state the gap.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SHUFFLES = 64
SHUFFLE_PAIRS = 4_000_000
"""Perturbed greedy orders tried before exact methods: so many, or so many pairs of buffers looked
at. All limits are counts, so that answers do not depend on how fast a machine is."""

SEARCH_BUFFERS = 200
SEARCH_EFFORTS = (200_000, 5_000_000)
"""Buffers beyond which no branch and bound is tried, and the steps of buffers that each of its
orders may look at: a little first, as one order often finds at once what another never does."""

PROGRAM_BUFFERS = 60
"""The mixed-integer program is not built for more buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """``bytes`` needed from step ``first`` to step ``last``, both included."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both live at a common step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Offsets by buffer name. ``bound_bytes`` is proven: no plan of these buffers can be smaller.

    ``method`` says what found the offsets: ``greedy``, ``branch and bound`` or ``integer program``.
    """

    offsets: dict[str, int]
    peak_bytes: int
    bound_bytes: int
    live_bytes: int
    method: str

    @property
    def optimal(self) -> bool:
        """Whether the peak equals the proven bound."""
        return self.peak_bytes == self.bound_bytes


def live_bytes(buffers: Iterable[Buffer], steps: int | None = None) -> list[int]:
    """Bytes alive at every step."""
    buffers = list(buffers)
    length = max((b.last + 1 for b in buffers), default=0) if steps is None else steps
    change = np.zeros(length + 1, dtype=np.int64)
    for b in buffers:
        change[b.first] += b.bytes
        change[b.last + 1] -= b.bytes
    return [int(n) for n in np.cumsum(change)[:length]]


def overlap(buffers: Sequence[Buffer], offsets: dict[str, int]) -> tuple[Buffer, Buffer] | None:
    """Two buffers that live at once and share a byte, or None."""
    placed = sorted(buffers, key=lambda b: offsets[b.name])
    for i, low in enumerate(placed):
        end = offsets[low.name] + low.bytes
        for high in placed[i + 1 :]:
            if offsets[high.name] >= end:
                break
            if low.meets(high):
                return low, high
    return None


def allocate(buffers: Sequence[Buffer], *, align: int = 1) -> Allocation:
    """The smallest arena found for ``buffers``, every offset a multiple of ``align``.

    Sizes are rounded up to ``align`` first; bounds and peaks are of the rounded sizes.
    """
    units = [
        Buffer(name=b.name, bytes=-(-b.bytes // align), first=b.first, last=b.last)
        for b in _squeezed(buffers)
    ]
    live = max(live_bytes(units), default=0)
    offsets, method = _greedy(units, live), "greedy"
    peak, bound = _peak(units, offsets), live
    if peak > live:
        offsets, bound, method = _exact(units, offsets, live)
        peak = _peak(units, offsets)
    return Allocation(
        offsets={name: at * align for name, at in offsets.items()},
        peak_bytes=peak * align,
        bound_bytes=bound * align,
        live_bytes=live * align,
        method=method,
    )


def _squeezed(buffers: Sequence[Buffer]) -> list[Buffer]:
    """The buffers with only the steps at which one is born: what overlaps stays what overlaps."""
    births = sorted({b.first for b in buffers})
    step = {birth: i for i, birth in enumerate(births)}
    lasts = np.searchsorted(births, [b.last for b in buffers], side="right") - 1
    return [
        Buffer(name=b.name, bytes=b.bytes, first=step[b.first], last=int(last))
        for b, last in zip(buffers, lasts, strict=True)
    ]


def _peak(buffers: Sequence[Buffer], offsets: dict[str, int]) -> int:
    return max((offsets[b.name] + b.bytes for b in buffers), default=0)


_ORDERS: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
    lambda b: (-b.bytes, b.first),
    lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
    lambda b: (b.first - b.last, -b.bytes),
    lambda b: (b.first, -b.bytes),
    lambda b: (-b.last, -b.bytes),
)


def _greedy(buffers: Sequence[Buffer], live: int) -> dict[str, int]:
    """The best of several greedy orders and of seeded perturbations of the best."""
    best: dict[str, int] = {}
    peak, order = -1, list(buffers)
    for key in _ORDERS:
        candidate = sorted(buffers, key=key)
        offsets = _best_fit(candidate)
        if peak < 0 or _peak(buffers, offsets) < peak:
            best, peak, order = offsets, _peak(buffers, offsets), candidate
    generator = random.Random(len(buffers))  # noqa: S311 - a search order, not a secret
    tries = min(SHUFFLES, SHUFFLE_PAIRS // max(len(buffers) ** 2, 1))
    for _ in range(tries if len(buffers) > 2 else 0):
        if peak == live:
            break
        candidate = _perturbed(order, generator)
        offsets = _best_fit(candidate)
        if _peak(buffers, offsets) <= peak:
            best, peak, order = offsets, _peak(buffers, offsets), candidate
    return best


def _perturbed(order: Sequence[Buffer], generator: random.Random) -> list[Buffer]:
    """``order`` with two or three buffers moved elsewhere."""
    moved = list(order)
    for _ in range(generator.randint(2, 3)):
        moved.insert(generator.randrange(len(moved)), moved.pop(generator.randrange(len(moved))))
    return moved


def _best_fit(order: Sequence[Buffer]) -> dict[str, int]:
    """Each buffer in turn into the smallest gap that holds it, else above all it meets."""
    first, last, size = (
        np.array([getattr(b, field) for b in order], dtype=np.int64)
        for field in ("first", "last", "bytes")
    )
    at = np.zeros(len(order), dtype=np.int64)
    for i, buffer in enumerate(order):
        meets = np.flatnonzero((first[:i] <= buffer.last) & (last[:i] >= buffer.first))
        meets = meets[np.argsort(at[meets], kind="stable")]
        at[i] = _gap(buffer, zip(at[meets].tolist(), size[meets].tolist(), strict=True))
    return {b.name: int(o) for b, o in zip(order, at, strict=True)}


def _gap(buffer: Buffer, taken: Iterable[tuple[int, int]]) -> int:
    floor, best, room = 0, -1, 0
    for start, size in taken:
        gap = start - floor
        if gap >= buffer.bytes and (best < 0 or gap < room):
            best, room = floor, gap
        floor = max(floor, start + size)
    return floor if best < 0 else best


def _exact(
    buffers: Sequence[Buffer], greedy: dict[str, int], live: int
) -> tuple[dict[str, int], int, str]:
    """Offsets, a proven bound and the method, where greedy stays above the live bytes."""
    if len(buffers) > SEARCH_BUFFERS:
        return greedy, live, "greedy"
    # The bound itself first: it is met more often than not, and meeting it ends the search.
    found, proven = search(buffers, live)
    if found is not None:
        return found, live, "branch and bound"
    best, bound = greedy, live + 1 if proven else live
    while proven and bound < _peak(buffers, best):
        found, proven = search(buffers, _peak(buffers, best) - 1)
        if found is not None:
            best, proven = found, True
        elif proven:
            bound = _peak(buffers, best)
    if bound == _peak(buffers, best):
        return best, bound, "branch and bound"
    return _program(buffers, best, bound)


def _program(
    buffers: Sequence[Buffer], best: dict[str, int], bound: int
) -> tuple[dict[str, int], int, str]:
    """What the integer program makes of ``best``, where it is small enough to be built."""
    from perfmodel.mcu.integer import program

    if len(buffers) > PROGRAM_BUFFERS:
        return best, bound, "greedy"
    found, peak, proven = program(buffers, bound, _peak(buffers, best))
    if found is None or peak > _peak(buffers, best):
        return best, proven, "greedy"
    return found, proven, "integer program"


def search(buffers: Sequence[Buffer], target: int) -> tuple[dict[str, int] | None, bool]:
    """Offsets within ``target`` bytes, or None; the flag says whether None is a proof.

    Buffers are placed in the order of their offsets, each on the highest floor of its steps. Some
    optimal plan has that form: push every buffer down until it rests on another, and take them from
    the bottom up. Groups of buffers that share no step any more are searched apart.
    """
    live = live_bytes(buffers)
    for effort in SEARCH_EFFORTS:
        for key in _branchings(live):
            tree = _Search(sorted(buffers, key=key), target, effort)
            if tree.solve(tuple(range(len(buffers))), 0, -1):
                return dict(tree.offsets), True
            if tree.effort < effort:
                return None, True
    return None, False


def _branchings(live: Sequence[int]) -> tuple[Callable[[Buffer], tuple[int, ...]], ...]:
    """Orders in which buffers are tried: the long, the crowded, the large first."""

    def crowd(b: Buffer) -> int:
        return max(live[b.first : b.last + 1])

    return (
        lambda b: (b.first - b.last, -b.bytes),
        lambda b: (-crowd(b), -b.bytes * (b.last - b.first + 1)),
        lambda b: (-crowd(b), b.first - b.last, -b.bytes),
        lambda b: (-b.bytes, b.first),
    )


class _Search:
    """Depth-first search with the floor of every step and the bytes still to come there."""

    def __init__(self, buffers: Sequence[Buffer], target: int, most_effort: int) -> None:
        self.buffers, self.target, self.most_effort = buffers, target, most_effort
        self.floor = [0] * max((b.last + 1 for b in buffers), default=0)
        self.offsets: dict[str, int] = {}
        self.failed: set[tuple[object, ...]] = set()
        self.effort = 0

    def solve(self, left: tuple[int, ...], least: int, after: int) -> bool:
        """Place ``left`` at offsets of at least ``least``; at ``least`` itself only ``> after``."""
        groups = list(self._groups(left))
        if len(groups) == 1:
            return self._place(left, least, after)
        done: list[int] = []
        for group in groups:
            if not self.solve(group, least, after):
                self._forget(done)
                return False
            done += group
        return True

    def _forget(self, placed: Iterable[int]) -> None:
        """Undo a group that was placed whole: the floors below it come back with its caller."""
        for i in placed:
            self.offsets.pop(self.buffers[i].name, None)

    def _groups(self, left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """``left`` split where no buffer spans from one step to the next."""
        group: list[int] = []
        end = -1
        for i in sorted(left, key=lambda i: self.buffers[i].first):
            if group and self.buffers[i].first > end:
                yield tuple(sorted(group))
                group = []
            group.append(i)
            end = max(end, self.buffers[i].last)
        if group:
            yield tuple(sorted(group))

    def _place(self, left: tuple[int, ...], least: int, after: int) -> bool:
        self.effort += sum(self.buffers[i].last - self.buffers[i].first + 1 for i in left)
        if self.effort >= self.most_effort:
            return False
        rests = {i: self._rest(i) for i in left}
        if not self._possible(left, rests, least):
            return False
        first, last = self._span(left)
        state = (left, least, after, tuple(self.floor[first : last + 1]))
        if state in self.failed:
            return False
        lid = min(rests[i] + self.buffers[i].bytes for i in left if rests[i] >= least)
        for i in sorted(left, key=lambda i: (rests[i], i)):
            at = rests[i]
            if at >= lid:
                break
            if (at > least or (at == least and i > after)) and self._try(left, i, at):
                return True
        self.failed.add(state)
        return False

    def _rest(self, i: int) -> int:
        return max(self.floor[self.buffers[i].first : self.buffers[i].last + 1])

    def _span(self, left: tuple[int, ...]) -> tuple[int, int]:
        return (
            min(self.buffers[i].first for i in left),
            max(self.buffers[i].last for i in left),
        )

    def _possible(self, left: tuple[int, ...], rests: dict[int, int], least: int) -> bool:
        """Whether every step can still hold what is to come on the lowest floor it can start at."""
        first, last = self._span(left)
        start = [self.target] * (last - first + 1)
        coming = [0] * (last - first + 1)
        for i in left:
            b, at = self.buffers[i], max(rests[i], least)
            if at + b.bytes > self.target:
                return False
            for s in range(b.first - first, b.last - first + 1):
                coming[s] += b.bytes
                start[s] = min(start[s], at)
        held = zip(start, coming, strict=True)
        return any(rests[i] >= least for i in left) and all(a + c <= self.target for a, c in held)

    def _try(self, left: tuple[int, ...], i: int, at: int) -> bool:
        b = self.buffers[i]
        first, last = self._span(left)
        before = self.floor[first : last + 1]
        self.floor[b.first : b.last + 1] = [at + b.bytes] * (b.last - b.first + 1)
        self.offsets[b.name] = at
        rest = tuple(j for j in left if j != i)
        if not rest or self.solve(rest, at, i):
            return True
        self.floor[first : last + 1] = before
        del self.offsets[b.name]
        return False
