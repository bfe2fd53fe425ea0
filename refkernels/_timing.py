"""How a kernel is timed: events around graph replays, inputs rotated past L2, the load recorded.

*Kernel time* is the event time of one replay of a CUDA graph that launches the kernel on one
input set after another, divided by the launches in it: launch gaps vanish, the caches hold the
data of another set. *Stream time* is the same launches issued one by one. Both are recorded.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perfmodel.errors import BadValue
from refkernels._clocks import LoadMonitor

Replay = Callable[[], None]
Capture = Callable[[Callable[[], None], Any], Replay]
"""Records what a function launches on a stream; returns the replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One kernel at one size; quartiles are over samples, each the mean of a replay's launches."""

    time_s: float
    p25_s: float
    p75_s: float
    samples: int
    stream_time_s: float | None
    sm_clock_hz: float | None
    power_w: float | None

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        return (self.p75_s - self.p25_s) / self.time_s


def rotation_sets(bytes_per_set: float, *, most: int = 64) -> int:
    """How many input sets to cycle through so that a set is gone from L2 when its turn returns.

    Twice the cache: after that many bytes of other sets, nothing of this one is left.
    """
    import cupy

    l2_bytes = int(cupy.cuda.Device().attributes["L2CacheSize"])
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
    stream: Any = None,
) -> Timing:
    """Time ``call(i)``, which launches the kernel on input set ``i`` of ``sets``.

    ``budget_s`` is the device time to spend on timed replays; as much again, at most, warms up
    (clocks settle under the load that is then timed).

    Raises:
        BadValue: a rotation of fewer than one set.
    """
    import cupy

    if sets < 1:
        msg = f"must be at least 1, got {sets}"
        raise BadValue(msg, field="sets")
    stream = stream or cupy.cuda.Stream(non_blocking=True)
    with stream:
        rough_s = _stream_time(call, sets, stream)
        launches = max(1, min(100, int(2e-3 / rough_s)))
        launches = -(-launches // sets) * sets if launches > 1 else sets

        def body() -> None:
            for i in range(launches):
                call(i % sets)

        replay = capture(body, stream)
        replays = max(5, min(200, int(budget_s / (rough_s * launches))))
        _elapsed(replay, max(1, replays // 2), stream)
        with LoadMonitor() as monitor:
            times = [t / launches for t in _elapsed(replay, replays, stream)]
    load = monitor.load()
    p25, median, p75 = statistics.quantiles(times, n=4)
    return Timing(
        time_s=median,
        p25_s=p25,
        p75_s=p75,
        samples=len(times),
        stream_time_s=rough_s,
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

    return statistics.median(_elapsed(body, 5, stream)) / count


def _elapsed(body: Replay, repeats: int, stream: Any) -> list[float]:
    """Event seconds of each of ``repeats`` runs of ``body``; all are queued before the wait."""
    import cupy

    events = [cupy.cuda.Event() for _ in range(repeats + 1)]
    events[0].record(stream)
    for event in events[1:]:
        body()
        event.record(stream)
    events[-1].synchronize()
    return [
        cupy.cuda.get_elapsed_time(a, b) / 1e3 for a, b in zip(events, events[1:], strict=False)
    ]
