"""Roofs of a CUDA device: memory, arithmetic and tensor pipes, launches, barriers, latencies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refkernels._compile import Compiled, compile_all, compile_kernel
from refkernels._launch import Kernel, launch, load_kernel, params_struct
from refkernels._occupancy import blocks_per_sm
from refkernels._record import roof
from refkernels._sources import all_sources, kernel_source
from refkernels._timing import Timing, rotation_sets, time_kernel
from refkernels.roofs.operands import tensor_operands

MIB = 2**20
Roof = dict[str, Any]

DRAM_MIB = (16, 32, 56, 64, 112, 128, 256, 512, 1024, 2048, 4096)
"""Sizes moved per launch; 56 and 112 MiB are weight matrices of 4096 x 14336 and x 28672 bytes."""

L2_MIB = (2, 4, 8, 16, 24, 32, 40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """One instruction's roof: its unit and how many of them a lane's instruction counts as."""

    unit: str
    per_lane: int


ARITHMETIC: dict[str, Pipe] = {
    **{f"fma_{t}": Pipe(unit="FLOP/s", per_lane=2) for t in ("f32", "f64")},
    **{f"fma_{t}": Pipe(unit="FLOP/s", per_lane=4) for t in ("f16x2", "bf16x2")},
    **{f"{op}_f32": Pipe(unit="FLOP/s", per_lane=1) for op in ("add", "max")},
    "mad_s32": Pipe(unit="op/s", per_lane=2),
    "dp4a_s32": Pipe(unit="op/s", per_lane=8),
    "lop3_b32": Pipe(unit="op/s", per_lane=1),
    **{f"{op}_f32": Pipe(unit="op/s", per_lane=1) for op in ("ex2", "lg2", "rcp", "rsqrt", "tanh")},
    **{
        f"{op}_{t}": Pipe(unit="op/s", per_lane=2)
        for op in ("ex2", "tanh")
        for t in ("f16x2", "bf16x2")
    },
    "cvt_f32_s32": Pipe(unit="op/s", per_lane=1),
    "cvt_bf16x2_f32": Pipe(unit="op/s", per_lane=2),
    "shuffle_b32": Pipe(unit="op/s", per_lane=1),
}
"""Kernels of ``arithmetic.cu``. 1 FMA = 2 FLOP, one dp4a = 4 multiplications and 4 additions."""

TENSOR_TYPES: dict[str, str] = {"bf16": "bf16", "f16": "fp16", "e4m3": "fp8", "s8": "int8"}
"""Operand types of ``tensor.cu`` and the data type names used elsewhere."""


class Probe:
    """Measures the current device; each method yields roofs.

    Args:
        budget_s: device time per timed point, roughly; tensor points take six times as much, so
            that clock and power settle.
    """

    def __init__(self, budget_s: float = 0.1) -> None:
        import cupy

        self.cp = cupy
        self.budget_s = budget_s
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.sms = int(properties["multiProcessorCount"])
        self.capability = int(cupy.cuda.Device().compute_capability)
        self.memory = int(cupy.cuda.Device().mem_info[0])
        self.sink = cupy.zeros(1024, cupy.uint64)
        self.elapsed = cupy.zeros(2, cupy.uint64)
        noise = np.random.default_rng(7).integers(0, 2**32, size=16 * MIB, dtype=np.uint32)
        self.noise = cupy.asarray(noise)

    def all(self) -> Iterator[Roof]:
        """Every roof, cheap ones first."""
        compile_all(source for source in all_sources() if source.parent.name == "roofs")
        yield from self.launches()
        yield from self.latencies()
        yield from self.dram()
        yield from self.caches()
        yield from self.arithmetic()
        yield from self.tensor_sync()
        if self.capability == 90:
            yield from self.tensor()

    def dram(self) -> Iterator[Roof]:
        """Read, write and copy of sizes past any cache, blocks persistent or one tile each."""
        kernels = {k: self._load("memory", k) for k in ("read", "write", "copy")}
        if self.capability >= 90:
            kernels["read_bulk"] = self._load("bulk", "read_bulk")
        for size in (s * MIB for s in DRAM_MIB):
            sets = rotation_sets(size)
            if 2 * sets * size > 0.8 * self.memory:
                continue
            buffers = [(self._random(size), self._random(size)) for _ in range(sets)]
            for name, kernel in kernels.items():
                moved = size * (2 if name == "copy" else 1)
                for schedule in ("persistent", "tiles") if name != "read_bulk" else ("persistent",):
                    call = self._stream_call(kernel, buffers, size, schedule)
                    timing = time_kernel(call, sets=sets, budget_s=self.budget_s)
                    yield _rate(f"dram_{name}", moved, timing, "B/s", bytes=size, schedule=schedule)
            del buffers

    def _stream_call(
        self, kernel: Kernel, buffers: list[tuple[Any, Any]], size: int, schedule: str
    ) -> Callable[[int], None]:
        if kernel.name == "read_bulk":
            bulk = [self._bulk_params(a, size, 1) for a, _ in buffers]
            return lambda i: launch(kernel, (self.sms,), (32,), bulk[i], smem=196608)
        params = [self._memory_params(a, b, size, 1) for a, b in buffers]
        tiles = size // (512 * 8 * 16)
        resident = self.sms * self._resident(kernel, 512)
        grid = (min(tiles, resident) if schedule == "persistent" else tiles,)
        return lambda i: launch(kernel, grid, (512,), params[i])

    def caches(self) -> Iterator[Roof]:
        """L2 by working set (loads, and bulk copies to shared memory) and shared memory."""
        loads = self._load("memory", "read_l2")
        bulk = self._load("bulk", "read_bulk") if self.capability >= 90 else None
        for size in (s * MIB for s in L2_MIB):
            data = self._random(size)
            blocks = self.sms * self._resident(loads, 512)
            rounds = max(1, 16 * MIB // size)
            params = self._memory_params(data, data, size, rounds)
            yield self._clocked(
                "l2_read", loads, (blocks,), 512, params, blocks * size * rounds, bytes=size
            )
            if bulk is not None:
                rounds = max(2, 64 * MIB // size)
                params = self._bulk_params(data, size, rounds)
                moved = self.sms * size * rounds
                yield self._clocked(
                    "l2_read_bulk", bulk, (self.sms,), 32, params, moved, smem=196608, bytes=size
                )
        shared = self._load("memory", "read_shared")
        blocks, rounds = 4 * self.sms, 4096
        params = self._memory_params(self.noise, self.noise, MIB, rounds)
        moved = blocks * 512 * rounds * 8 * 16
        yield self._clocked("shared_read", shared, (blocks,), 512, params, moved)

    def arithmetic(self) -> Iterator[Roof]:
        """Every pipe of ``arithmetic.cu``."""
        seeds = self.cp.linspace(0.5, 1.0, 1024, dtype=np.float32)
        rounds = 500
        params = params_struct(seeds=seeds, sink=self.sink, rounds=rounds, elapsed=self.elapsed)
        compiled = self._compiled("arithmetic")
        for name, pipe in ARITHMETIC.items():
            if name not in compiled.resources:  # 16-bit forms that came with Hopper
                continue
            kernel = load_kernel(compiled, name)
            blocks = 2 * self.sms
            work = blocks * 1024 * rounds * 16 * 8 * pipe.per_lane
            yield self._clocked(name, kernel, (blocks,), 1024, params, work, unit=pipe.unit)

    def tensor(self) -> Iterator[Roof]:
        """wgmma by operand type and tile width on random data, and once on zeros."""
        for operand, dtype in TENSOR_TYPES.items():
            for tile_n in (64, 128, 256):
                yield self._tensor_point(operand, tile_n, dtype, self._operands(operand), "random")
            zeros = self.cp.zeros(196608, np.uint8)
            yield self._tensor_point(operand, 256, dtype, zeros, "zeros")

    def _tensor_point(self, operand: str, tile_n: int, dtype: str, data: Any, label: str) -> Roof:
        kernel = self._load("tensor", "tensor_rate", TYPE=operand, TILE_N=tile_n)
        rounds = 1000 * 256 // tile_n
        params = params_struct(data=data, sink=self.sink, rounds=rounds, elapsed=self.elapsed)
        k = 32 if operand in ("e4m3", "s8") else 16
        work = self.sms * rounds * 32 * 2 * 64 * tile_n * k
        return self._clocked(
            f"tensor_{dtype}",
            kernel,
            (self.sms,),
            256,
            params,
            work,
            unit="op/s" if dtype == "int8" else "FLOP/s",
            smem=16384 * 4 + 4 * 128 * tile_n,
            budget_s=6 * self.budget_s,
            tile_n=tile_n,
            instruction="wgmma",
            data=label,
        )

    def tensor_sync(self) -> Iterator[Roof]:
        """mma.sync by operand type, operands in registers."""
        for operand in ("bf16", "f16", "s8"):
            kernel = self._load("tensor_sync", "tensor_sync_rate", TYPE=operand)
            rounds, blocks = 8000, self.sms
            data = self._operands(operand)
            params = params_struct(data=data, sink=self.sink, rounds=rounds, elapsed=self.elapsed)
            k = 32 if operand == "s8" else 16
            work = blocks * 16 * rounds * 8 * 2 * 16 * 8 * k
            yield self._clocked(
                f"tensor_{TENSOR_TYPES[operand]}",
                kernel,
                (blocks,),
                512,
                params,
                work,
                unit="op/s" if operand == "s8" else "FLOP/s",
                budget_s=3 * self.budget_s,
                instruction="mma.sync",
                data="random",
            )

    def launches(self) -> Iterator[Roof]:
        """An empty kernel as a graph node and on a stream; a grid barrier in a cooperative one."""
        counter = self.cp.zeros(1, np.uint32)
        params = params_struct(counter=counter, rounds=0)
        empty = self._load("launch", "empty")
        timing = time_kernel(
            lambda _: launch(empty, (1,), (32,), params), sets=1, budget_s=self.budget_s
        )
        yield roof(
            "launch_graph", timing.time_s, "s", spread=timing.spread, condition={"blocks": 1}
        )
        stream_time = timing.stream_time_s or 0.0
        where = {"blocks": 1, "through": "cupy"}
        yield roof("launch_stream", stream_time, "s", spread=0.0, condition=where)
        for per_sm in (1, 2):
            yield self._barrier(counter, per_sm)

    def _barrier(self, counter: Any, per_sm: int) -> Roof:
        kernel = self._load("launch", "barrier_rounds", cooperative=True)
        blocks = per_sm * self.sms
        times = {}
        for rounds in (1, 401):
            params = params_struct(counter=counter, rounds=rounds)
            counter.fill(0)
            times[rounds] = time_kernel(
                lambda _, p=params: launch(kernel, (blocks,), (256,), p),  # type: ignore[misc]
                sets=1,
                budget_s=self.budget_s,
            )
        cost = (times[401].time_s - times[1].time_s) / 400
        return roof(
            "grid_barrier", cost, "s", spread=times[401].spread, condition={"blocks": blocks}
        )

    def latencies(self) -> Iterator[Roof]:
        """Dependent loads from L1, L2 and device memory, in seconds."""
        kernel = self._load("latency", "chase")
        for level, span, stride in (
            ("l1", MIB // 32, 128),
            ("l2", 2 * MIB, 128),
            ("l2", 32 * MIB, 128),
            ("dram", 256 * MIB, 1024),
            ("dram", 1024 * MIB, 4096),
            ("dram", 4096 * MIB, 16384),
        ):
            chain, nodes = self._chain(span, stride)
            warm = nodes if level != "dram" else 0
            seconds, clocks = zip(
                *(self._chase(kernel, chain, nodes, stride, warm, k) for k in range(5)),
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

    def _chain(self, span: int, stride: int) -> tuple[Any, int]:
        """A buffer holding a random cycle over its nodes, one every ``stride`` bytes."""
        nodes, words = span // stride, stride // 8
        order = np.random.default_rng(5).permutation(nodes)
        chain = self.cp.zeros(span // 8, np.uint64)
        here = self.cp.asarray(order) * words
        chain[here] = self.cp.roll(here, -1).astype(np.uint64)
        return chain, nodes

    def _chase(
        self, kernel: Kernel, chain: Any, nodes: int, stride: int, warm: int, trial: int
    ) -> tuple[float, float]:
        steps = min(2000, nodes)
        flush = self._random(256 * MIB)  # writes four times the cache: the chain leaves L2
        start = (trial * 2003 * (stride // 8)) % chain.size // (stride // 8) * (stride // 8)
        params = params_struct(
            chain=chain,
            start=np.uint64(start),
            warm_steps=warm,
            steps=steps,
            sink=self.sink,
            elapsed=self.elapsed,
        )
        launch(kernel, (1,), (1,), params)
        cycles, nanoseconds = (int(v) for v in self.elapsed.get())
        del flush
        return nanoseconds * 1e-9 / steps, cycles / nanoseconds * 1e9

    def _clocked(
        self,
        quantity: str,
        kernel: Kernel,
        grid: tuple[int, ...],
        threads: int,
        params: Any,
        work: float,
        *,
        unit: str = "B/s",
        smem: int = 0,
        budget_s: float | None = None,
        **condition: object,
    ) -> Roof:
        """Time a kernel that carries a stopwatch; adds the true clock and the rate per clock."""
        timing = time_kernel(
            lambda _: launch(kernel, grid, (threads,), params, smem=smem),
            sets=1,
            budget_s=budget_s or self.budget_s,
        )
        cycles, nanoseconds = (int(v) for v in self.elapsed.get())
        clock = cycles / nanoseconds * 1e9
        rate = work / timing.time_s
        return roof(
            quantity,
            rate,
            unit,
            spread=timing.spread,
            sm_clock_hz=clock,
            power_w=timing.power_w,
            condition={"per_clock_per_sm": rate / clock / self.sms, **condition},
        )

    def _load(
        self, source: str, name: str, *, cooperative: bool = False, **defines: object
    ) -> Kernel:
        return load_kernel(self._compiled(source, **defines), name, cooperative=cooperative)

    def _compiled(self, source: str, **defines: object) -> Compiled:
        return compile_kernel(kernel_source(f"roofs/{source}.cu"), defines=defines)

    def _resident(self, kernel: Kernel, threads: int) -> int:
        return blocks_per_sm(kernel.resources, arch=kernel.arch, threads=threads)

    def _random(self, size: int) -> Any:
        """``size`` bytes of random bits: one random block of 64 MiB, repeated."""
        words = size // 4
        out = self.cp.empty(words, np.uint32)
        for start in range(0, words, self.noise.size):
            part = out[start : start + self.noise.size]
            part[...] = self.noise[: part.size]
        return out

    def _operands(self, operand: str) -> Any:
        return self.cp.asarray(tensor_operands(operand, 196608))

    def _memory_params(self, source: Any, target: Any, size: int, rounds: int) -> Any:
        return params_struct(
            source=source,
            target=target,
            words=np.uint64(size // 16),
            rounds=rounds,
            elapsed=self.elapsed,
        )

    def _bulk_params(self, source: Any, size: int, rounds: int) -> Any:
        return params_struct(
            source=source, bytes=np.uint64(size), rounds=rounds, elapsed=self.elapsed
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
