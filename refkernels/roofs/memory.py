"""Bandwidth of device memory, L2 and shared memory (``memory.cu``, ``bulk.cu``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from refkernels._launch import Kernel, launch, params_struct
from refkernels._record import roof
from refkernels._timing import Timing, rotation_sets, time_kernel
from refkernels.roofs.rig import MIB, Rig, Roof

DRAM_MIB = (16, 32, 56, 64, 112, 128, 256, 512, 1024, 2048, 4096)
"""Sizes moved per launch; 56 and 112 MiB are weight matrices of 4096 x 14336 and x 28672 bytes."""

L2_MIB = (2, 4, 8, 16, 24, 32, 40)

TILE_BYTES = 512 * 8 * 16
"""What a block of ``memory.cu`` reads or writes at a time."""

COPY_TILE_BYTES = 512 * 2 * 16
"""What a block of its ``copy`` moves at a time."""

BULK_BYTES = 16384
"""What a copy of ``bulk.cu`` moves."""


def dram(rig: Rig) -> Iterator[Roof]:
    """Read, write and copy of sizes past any cache, blocks persistent or one tile each."""
    kernels = {k: rig.load("memory", k) for k in ("read", "write", "copy")}
    if rig.capability >= 90:
        kernels |= {k: rig.load("bulk", k) for k in ("read_bulk", "copy_bulk")}
    for size in (s * MIB for s in DRAM_MIB):
        sets = rotation_sets(size)
        if 2 * sets * size > 0.8 * rig.memory:
            continue
        buffers = [(rig.random(size), rig.random(size)) for _ in range(sets)]
        for name, kernel in kernels.items():
            moved = size * (2 if name.startswith("copy") else 1)
            for schedule in ("persistent",) if name.endswith("bulk") else ("persistent", "tiles"):
                call = _stream_call(rig, kernel, buffers, size, schedule)
                timing = time_kernel(call, sets=sets, budget_s=rig.budget_s)
                yield _rate(f"dram_{name}", moved, timing, "B/s", bytes=size, schedule=schedule)
        del buffers


def _stream_call(
    rig: Rig, kernel: Kernel, buffers: list[tuple[Any, Any]], size: int, schedule: str
) -> Callable[[int], None]:
    if kernel.name.endswith("bulk"):
        bulk = [_bulk_params(rig, a, b, size, 1) for a, b in buffers]
        return lambda i: launch(kernel, (rig.sms,), (32,), bulk[i], smem=196608)
    params = [_memory_params(rig, a, b, size, 1) for a, b in buffers]
    tiles = size // (COPY_TILE_BYTES if kernel.name == "copy" else TILE_BYTES)
    resident = rig.sms * rig.resident(kernel, 512)
    grid = (min(tiles, resident) if schedule == "persistent" else tiles,)
    return lambda i: launch(kernel, grid, (512,), params[i])


def caches(rig: Rig) -> Iterator[Roof]:
    """L2 by working set (loads, and bulk copies to shared memory) and shared memory.

    Blocks walk the buffer from equally spaced starts, ``blocks_per_start`` of them together. In a
    small buffer many multiprocessors ask for the same lines within a moment, and get up to twice
    the rate at which each can read lines that nobody else wants: the large buffers give the roof
    of unshared traffic.
    """
    loads = rig.load("memory", "read_l2")
    bulk = rig.load("bulk", "read_bulk") if rig.capability >= 90 else None
    for size in (s * MIB for s in L2_MIB):
        data = rig.random(size)
        blocks = rig.sms * rig.resident(loads, 512)
        rounds = max(1, 16 * MIB // size)
        params = _memory_params(rig, data, data, size, rounds)
        sharing = max(1, blocks * TILE_BYTES // size)
        yield rig.clocked(
            "l2_read",
            loads,
            (blocks,),
            512,
            params,
            blocks * size * rounds,
            bytes=size,
            blocks_per_start=sharing,
        )
        if bulk is not None:
            rounds = max(2, 64 * MIB // size)
            params = _bulk_params(rig, data, data, size, rounds)
            moved = rig.sms * size * rounds
            sharing = max(1, rig.sms * BULK_BYTES // size)
            yield rig.clocked(
                "l2_read_bulk",
                bulk,
                (rig.sms,),
                32,
                params,
                moved,
                smem=196608,
                bytes=size,
                blocks_per_start=sharing,
            )
    shared = rig.load("memory", "read_shared")
    blocks, rounds = 4 * rig.sms, 4096
    params = _memory_params(rig, rig.noise, rig.noise, MIB, rounds)
    moved = blocks * 512 * rounds * 8 * 16
    yield rig.clocked("shared_read", shared, (blocks,), 512, params, moved)


def _memory_params(rig: Rig, source: Any, target: Any, size: int, rounds: int) -> Any:
    return params_struct(
        source=source,
        target=target,
        words=np.uint64(size // 16),
        rounds=rounds,
        elapsed=rig.elapsed,
    )


def _bulk_params(rig: Rig, source: Any, target: Any, size: int, rounds: int) -> Any:
    return params_struct(
        source=source,
        target=target,
        bytes=np.uint64(size),
        rounds=rounds,
        elapsed=rig.elapsed,
    )


def _rate(quantity: str, work: float, timing: Timing, unit: str, **condition: object) -> Roof:
    return roof(
        quantity,
        work / timing.time_s,
        unit,
        spread=timing.spread,
        sm_clock_hz=timing.sm_clock_hz,
        power_w=timing.power_w,
        condition=condition,
    )
