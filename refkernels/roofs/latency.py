"""What waiting costs: launches, a grid barrier, dependent loads (``launch.cu``, ``latency.cu``)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from refkernels._launch import Kernel, launch, params_struct
from refkernels._record import roof
from refkernels._timing import elapsed_times, time_kernel
from refkernels.roofs.rig import MIB, Rig, Roof


def launches(rig: Rig) -> Iterator[Roof]:
    """An empty kernel as a graph node and on a stream; a grid barrier in a cooperative one."""
    counter = rig.cp.zeros(1, np.uint32)
    params = params_struct(counter=counter, rounds=0)
    empty = rig.load("launch", "empty")
    timing = time_kernel(
        lambda _: launch(empty, (1,), (32,), params), sets=1, budget_s=rig.budget_s
    )
    yield roof("launch_graph", timing.time_s, "s", spread=timing.spread, condition={"blocks": 1})
    stream_time = timing.stream_time_s or 0.0
    where = {"blocks": 1, "through": "refkernels.launch"}
    yield roof("launch_stream", stream_time, "s", spread=0.0, condition=where)
    yield _driver_launch(rig, empty, params)
    for per_sm in (1, 2):
        yield _barrier(rig, counter, per_sm)


def _driver_launch(rig: Rig, kernel: Kernel, params: Any) -> Roof:
    """Launches back to back through the driver's own function: close to what C would pay."""
    driver = ctypes.CDLL("libcuda.so.1")
    function = ctypes.c_void_p(kernel.function.kernel.ptr)
    arguments = (ctypes.c_void_p * 1)(params.ctypes.data)
    stream = rig.cp.cuda.Stream(non_blocking=True)
    times = elapsed_times(
        lambda: [
            driver.cuLaunchKernel(
                function, 1, 1, 1, 32, 1, 1, 0, ctypes.c_void_p(stream.ptr), arguments, None
            )
            for _ in range(500)
        ],
        20,
        stream,
    )
    p25, median, p75 = np.percentile(times, (25, 50, 75))
    where = {"blocks": 1, "through": "cuLaunchKernel by ctypes"}
    spread = float((p75 - p25) / median)
    return roof("launch_stream", float(median) / 500, "s", spread=spread, condition=where)


def _barrier(rig: Rig, counter: Any, per_sm: int) -> Roof:
    kernel = rig.load("launch", "barrier_rounds", cooperative=True)
    blocks = per_sm * rig.sms
    times = {}
    for rounds in (1, 401):
        params = params_struct(counter=counter, rounds=rounds)
        counter.fill(0)
        times[rounds] = time_kernel(
            lambda _, p=params: launch(kernel, (blocks,), (256,), p),  # type: ignore[misc]
            sets=1,
            budget_s=rig.budget_s,
        )
    cost = (times[401].time_s - times[1].time_s) / 400
    return roof("grid_barrier", cost, "s", spread=times[401].spread, condition={"blocks": blocks})


def latencies(rig: Rig) -> Iterator[Roof]:
    """Dependent loads from L1, L2 and device memory, in seconds."""
    kernel = rig.load("latency", "chase")
    for level, span, stride in (
        ("l1", MIB // 32, 128),
        ("l2", 2 * MIB, 128),
        ("l2", 32 * MIB, 128),
        ("dram", 256 * MIB, 1024),
        ("dram", 1024 * MIB, 4096),
        ("dram", 4096 * MIB, 16384),
    ):
        chain, nodes = _chain(rig, span, stride)
        warm = nodes if level != "dram" else 0
        seconds, clocks = zip(
            *(_chase(rig, kernel, chain, nodes, stride, warm, k) for k in range(5)),
            strict=True,
        )
        median = float(np.median(seconds))
        yield roof(
            f"{level}_latency",
            median,
            "s",
            spread=float(np.ptp(seconds)) / median,
            sm_clock_hz=float(np.median(clocks)),
            condition={"span_bytes": span, "stride_bytes": stride},
        )


def _chain(rig: Rig, span: int, stride: int) -> tuple[Any, int]:
    """A buffer holding a random cycle over its nodes, one every ``stride`` bytes."""
    nodes, words = span // stride, stride // 8
    order = np.random.default_rng(5).permutation(nodes)
    chain = rig.cp.zeros(span // 8, np.uint64)
    here = rig.cp.asarray(order) * words
    chain[here] = rig.cp.roll(here, -1).astype(np.uint64)
    return chain, nodes


def _chase(
    rig: Rig, kernel: Kernel, chain: Any, nodes: int, stride: int, warm: int, trial: int
) -> tuple[float, float]:
    steps = min(2000, nodes)
    flush = rig.random(256 * MIB)  # writes four times the cache: the chain leaves L2
    start = (trial * 2003 * (stride // 8)) % chain.size // (stride // 8) * (stride // 8)
    params = params_struct(
        chain=chain,
        start=np.uint64(start),
        warm_steps=warm,
        steps=steps,
        sink=rig.sink,
        elapsed=rig.elapsed,
    )
    rig.elapsed.fill(0)
    launch(kernel, (1,), (1,), params)
    cycles, nanoseconds = (int(v) for v in rig.elapsed.get())
    del flush
    return nanoseconds * 1e-9 / steps, cycles / nanoseconds * 1e9
