"""Roofs of a CPU by numba kernels: bandwidth per cache level, arithmetic and special functions.

Each kernel repeats work on arrays that one thread owns; the loops are written so that LLVM
vectorises them (contiguous, independent elements, contraction to FMA allowed). One core and all
cores are timed; a host clock is enough, since a call lasts milliseconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads

from refkernels._record import roof

Roof = dict[str, Any]
KIB = 1024

WORKING_SETS = tuple(KIB * s for s in (16, 32, 128, 256, 512, 2048, 8192, 32768, 131072))
"""Bytes per thread: from inside L1 to far outside the last level of any CPU in use."""

FMA_CHAIN = 32
"""Dependent FMAs per element, so that arithmetic outweighs loads 32 to 1."""


@njit(parallel=True, fastmath=True, cache=True)
def read_arrays(data: Any, repeats: int, sums: Any) -> None:
    """Sum each thread's row of ``data`` ``repeats`` times."""
    for t in prange(data.shape[0]):
        total = np.float32(0.0)
        for _ in range(repeats):
            row = np.float32(0.0)
            for i in range(data.shape[1]):
                row += data[t, i]
            total = np.float32(total * np.float32(0.5)) + row
        sums[t] = total


@njit(parallel=True, fastmath=True, cache=True)
def write_arrays(data: Any, repeats: int, sums: Any) -> None:
    """Fill each thread's row ``repeats`` times with a value that changes."""
    for t in prange(data.shape[0]):
        for r in range(repeats):
            value = np.float32(r) + sums[t]
            for i in range(data.shape[1]):
                data[t, i] = value


@njit(parallel=True, fastmath=True, cache=True)
def fma_rows(data: Any, repeats: int, scale: Any, shift: Any) -> None:
    """``FMA_CHAIN`` multiply-adds per element of each thread's row, ``repeats`` times."""
    for t in prange(data.shape[0]):
        for _ in range(repeats):
            for i in range(data.shape[1]):
                x = data[t, i]
                for _k in range(FMA_CHAIN):
                    x = x * scale + shift
                data[t, i] = x


@njit(parallel=True, cache=True)
def mad_rows(data: Any, repeats: int, scale: Any, shift: Any) -> None:
    """As ``fma_rows`` on 32-bit integers."""
    for t in prange(data.shape[0]):
        for _ in range(repeats):
            for i in range(data.shape[1]):
                x = data[t, i]
                for _k in range(FMA_CHAIN):
                    x = x * scale + shift
                data[t, i] = x


@njit(parallel=True, cache=True)
def dot_rows(left: Any, right: Any, repeats: int, sums: Any) -> None:
    """int8 x int8 -> int32 dot products of each thread's rows."""
    for t in prange(left.shape[0]):
        total = np.int32(0)
        for r in range(repeats):
            row = np.int32(0)
            for i in range(left.shape[1]):
                row += np.int32(left[t, i]) * np.int32(right[t, i])
            total ^= row + np.int32(r)
        sums[t] = total


@njit(parallel=True, fastmath=True, cache=True)
def exp_rows(data: Any, repeats: int, out: Any) -> None:
    """One exponential per element, ``repeats`` times."""
    for t in prange(data.shape[0]):
        for _ in range(repeats):
            for i in range(data.shape[1]):
                out[t, i] = np.exp(data[t, i])


@njit(parallel=True, fastmath=True, cache=True)
def tanh_rows(data: Any, repeats: int, out: Any) -> None:
    """One hyperbolic tangent per element, ``repeats`` times."""
    for t in prange(data.shape[0]):
        for _ in range(repeats):
            for i in range(data.shape[1]):
                out[t, i] = np.tanh(data[t, i])


def host_roofs(budget_s: float = 0.2) -> Iterator[Roof]:
    """Every host roof, on one core and on all of them."""
    cores = get_num_threads()
    for threads in dict.fromkeys((1, cores)):
        set_num_threads(threads)
        try:
            yield from _bandwidths(threads, budget_s)
            yield from _rates(threads, budget_s)
        finally:
            set_num_threads(cores)


def _bandwidths(threads: int, budget_s: float) -> Iterator[Roof]:
    for size in WORKING_SETS:
        data = _random(threads, size // 4)
        sums = np.zeros(threads, np.float32)
        for name, kernel in (("host_read", read_arrays), ("host_write", write_arrays)):

            def call(
                repeats: int, kernel: Any = kernel, data: Any = data, sums: Any = sums
            ) -> None:
                kernel(data, repeats, sums)

            yield _roof(name, call, threads * size, "B/s", budget_s, threads, bytes_per_core=size)


def _rates(threads: int, budget_s: float) -> Iterator[Roof]:
    """Arithmetic on 8 KiB a core, inside L1."""
    single, double = _random(threads, 2048), _random(threads, 1024).astype(np.float64)
    integers = np.arange(threads * 2048, dtype=np.int32).reshape(threads, 2048)
    rng = np.random.default_rng(3)
    left, right = (rng.integers(-127, 128, (threads, 4096), dtype=np.int8) for _ in range(2))
    sums, out = np.zeros(threads, np.int32), np.empty_like(single)
    f4, f8, i4 = np.float32, np.float64, np.int32
    chain = 2 * FMA_CHAIN
    cases: list[tuple[str, Callable[[int], None], float, str]] = [
        ("host_fma_f32", lambda n: fma_rows(single, n, f4(0.5), f4(0.25)), 2048 * chain, "FLOP/s"),
        ("host_fma_f64", lambda n: fma_rows(double, n, f8(0.5), f8(0.25)), 1024 * chain, "FLOP/s"),
        ("host_mad_s32", lambda n: mad_rows(integers, n, i4(3), i4(7)), 2048 * chain, "op/s"),
        ("host_dot_s8", lambda n: dot_rows(left, right, n, sums), 4096 * 2, "op/s"),
        ("host_exp_f32", lambda n: exp_rows(single, n, out), 2048, "op/s"),
        ("host_tanh_f32", lambda n: tanh_rows(single, n, out), 2048, "op/s"),
    ]
    for name, call, work, unit in cases:
        yield _roof(name, call, threads * work, unit, budget_s, threads)


def _random(rows: int, columns: int) -> Any:
    return np.random.default_rng(1).random((rows, columns), dtype=np.float32)


def _roof(
    quantity: str,
    call: Callable[[int], None],
    work_per_repeat: float,
    unit: str,
    budget_s: float,
    threads: int,
    **condition: object,
) -> Roof:
    """Time ``call(repeats)``, lengthened until a call lasts a tenth of the budget."""
    repeats = 1
    call(repeats)  # compiles
    while (taken := _seconds(call, repeats)) < budget_s / 20:
        repeats *= max(2, min(64, int(budget_s / 10 / max(taken, 1e-7))))
    times = [_seconds(call, repeats) / repeats for _ in range(9)]
    p25, median, p75 = statistics.quantiles(times, n=4)
    return roof(
        quantity,
        work_per_repeat / median,
        unit,
        spread=(p75 - p25) / median,
        condition={"threads": threads, "best": work_per_repeat / min(times), **condition},
    )


def _seconds(call: Callable[[int], None], repeats: int) -> float:
    start = time.perf_counter()
    call(repeats)
    return time.perf_counter() - start
