"""How a kernel is timed: events around graph replays, inputs rotated past L2, the load recorded.

*Kernel time* is the event time of one replay of a CUDA graph that launches the kernel on one
input set after another, divided by the launches in it: launch gaps vanish, the caches hold the
data of another set. *Stream time* is the same launches issued one by one. Both are recorded.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from perfmodel.errors import BadValue
from refkernels._clocks import Load, LoadMonitor

Replay = Callable[[], None]
Capture = Callable[[Callable[[], None], Any], Replay]
"""Records what a function launches on a stream; returns the replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One kernel at one size; quartiles are over samples, each the mean of a replay's launches."""

    time_s: float
    p25_s: float
    p75_s: float
    samples_s: tuple[float, ...]
    stream_time_s: float | None
    sm_clock_hz: float | None
    power_w: float | None

    @property
    def samples(self) -> int:
        """How many samples the quartiles are over."""
        return len(self.samples_s)

    @property
    def orders_s(self) -> tuple[float, float]:
        """Beside others: the medians of the rounds in one order and in the other."""
        return statistics.median(self.samples_s[::2]), statistics.median(self.samples_s[1::2])

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        return (self.p75_s - self.p25_s) / self.time_s


def rotation_sets(bytes_per_set: float, *, most: int = 512) -> int:
    """How many input sets to cycle through so that a set is gone from L2 when its turn returns.

    Twice the cache: after that many bytes of other sets, nothing of this one is left. Sets smaller
    than 1/256 of the cache would need more than ``most`` and stay resident: such kernels are bound
    by their launch.
    """
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    l2_bytes = int(properties["l2CacheSize"])
    return max(2, min(most, int(2 * l2_bytes / bytes_per_set) + 2))


def capture_cupy(body: Callable[[], None], stream: Any) -> Replay:
    """Capture what ``body`` launches on CuPy's current ``stream`` as a graph."""
    stream.begin_capture()
    try:
        body()
    finally:
        graph = stream.end_capture()
    graph.upload(stream)

    def replay() -> None:
        graph.launch(stream)

    return replay


def time_kernel(
    call: Callable[[int], None],
    *,
    sets: int,
    budget_s: float = 0.5,
    capture: Capture = capture_cupy,
    after_warm_up: Callable[[], None] | None = None,
    rough_s: float | None = None,
) -> Timing:
    """Time ``call(i)``, which launches the kernel on input set ``i`` of ``sets``.

    ``budget_s`` is the device time to spend on timed replays; as much again, at most, warms up
    (clocks settle under the load that is then timed). ``after_warm_up`` is queued between the two,
    with the timing stream current. ``rough_s``, where the caller knows about how long a call
    takes, spares the launches that find it out; then no stream time is recorded.

    Raises:
        BadValue: a rotation of fewer than one set.
    """
    import cupy

    if sets < 1:
        msg = f"must be at least 1, got {sets}"
        raise BadValue(msg, field="sets")
    cupy.cuda.Device().synchronize()  # inputs may still be in the making on another stream
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        loop = _capture(Contender(call=call, sets=sets, capture=capture), stream, rough_s)
        replays = max(5, min(200, int(budget_s / loop.about_s)))
        with LoadMonitor() as monitor:
            for _ in range(max(1, replays // 2)):
                loop.replay()  # no wait before what is timed: an idle moment unsettles the clock
            if after_warm_up is not None:
                after_warm_up()
            times = elapsed_times(loop.replay, replays, stream)
    return _timing([t / loop.launches for t in times], loop.stream_s, monitor.load())


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One of several kernels that are timed beside each other: ``call(i)`` on set i of ``sets``."""

    call: Callable[[int], None]
    sets: int
    capture: Capture = capture_cupy


def time_beside(contenders: Sequence[Contender], *, budget_s: float = 0.5) -> list[Timing]:
    """Time kernels under one lasting load, their graph replays taking turns.

    The clock follows power and temperature, so what is timed seconds apart is not comparable to a
    few percent; here all meet the same clock, which all of them report. Every second round goes
    backwards: sample i of each timing is of round i, and neither order favours one of them. As
    many rounds as ``budget_s`` for each contender allows (6 at least, an even number), after half
    as many that do not count, without a pause from the first to the last.
    """
    import cupy

    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        loops = [_capture(each, stream, None) for each in contenders]
        pairs = int(budget_s * len(loops) / sum(loop.about_s for loop in loops)) // 2
        rounds = [loops, loops[::-1]] * max(3, min(100, pairs))
        with LoadMonitor() as monitor:
            for loop in itertools.chain.from_iterable(rounds[: len(rounds) // 2]):
                loop.replay()
            times = _times_of_each([x.replay for order in rounds for x in order], stream)
    return [
        _timing([t / loop.launches for t in spent], loop.stream_s, monitor.load())
        for loop, spent in zip(loops, by_contender(times, len(loops)), strict=True)
    ]


def by_contender(times: Sequence[float], count: int) -> list[list[float]]:
    """Times of rounds of ``count`` turns, every second round backwards, as one list for each."""
    rounds = [times[i : i + count] for i in range(0, len(times), count)]
    forwards = [turns[:: -1 if i % 2 else 1] for i, turns in enumerate(rounds)]
    return [list(each) for each in zip(*forwards, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """A captured replay of so many launches, which takes about so long."""

    replay: Replay
    launches: int
    about_s: float
    stream_s: float | None


def _capture(each: Contender, stream: Any, rough_s: float | None) -> _Loop:
    """At least 2 ms of launches, every set equally often."""
    stream_s = _stream_time(each.call, each.sets, stream) if rough_s is None else None
    about_s = rough_s or stream_s or 0.0
    launches = max(1, -(-int(2e-3 / about_s) // each.sets)) * each.sets

    def body() -> None:
        for i in range(launches):
            each.call(i % each.sets)

    replay = each.capture(body, stream)
    return _Loop(replay=replay, launches=launches, about_s=about_s * launches, stream_s=stream_s)


def time_host(call: Callable[[int], None], *, sets: int, budget_s: float = 0.5) -> Timing:
    """Time ``call(i)`` on the processor by the wall clock; the sets rotate as on a device."""
    call(0)  # compiles
    start = time.perf_counter()
    call(1 % sets)
    rough_s = max(time.perf_counter() - start, 1e-7)
    calls = max(1, int(2e-3 / rough_s))
    times = []
    for sample in range(max(5, min(50, int(budget_s / (rough_s * calls))))):
        start = time.perf_counter()
        for i in range(calls):
            call((sample + i) % sets)
        times.append((time.perf_counter() - start) / calls)
    return _timing(times, None, Load(sm_clock_hz=None, power_w=None))


def _timing(times: list[float], stream_time_s: float | None, load: Load) -> Timing:
    p25, median, p75 = statistics.quantiles(times, n=4)
    return Timing(
        time_s=median,
        p25_s=p25,
        p75_s=p75,
        samples_s=tuple(times),
        stream_time_s=stream_time_s,
        sm_clock_hz=load.sm_clock_hz,
        power_w=load.power_w,
    )


def _stream_time(call: Callable[[int], None], sets: int, stream: Any) -> float:
    """Median seconds per launch, launched one after another without a graph."""
    for i in range(max(3, min(sets, 8))):
        call(i % sets)
    stream.synchronize()
    count = 10

    def body() -> None:
        for i in range(count):
            call(i % sets)

    return statistics.median(elapsed_times(body, 5, stream)) / count


def elapsed_times(body: Callable[[], object], repeats: int, stream: Any) -> list[float]:
    """Event seconds of each of ``repeats`` runs of ``body``; all are queued before the wait."""
    return _times_of_each([body] * repeats, stream)


def _times_of_each(bodies: Sequence[Callable[[], object]], stream: Any) -> list[float]:
    import cupy

    events = [cupy.cuda.Event() for _ in range(len(bodies) + 1)]
    events[0].record(stream)
    for body, event in zip(bodies, events[1:], strict=True):
        body()
        event.record(stream)
    events[-1].synchronize()
    return [cupy.cuda.get_elapsed_time(a, b) / 1e3 for a, b in itertools.pairwise(events)]
