"""What every device roof is measured with: the device's facts, a stopwatch, random data."""

from __future__ import annotations

from typing import Any

import numpy as np

from refkernels._compile import Compiled, compile_kernel
from refkernels._launch import Kernel, launch, load_kernel
from refkernels._occupancy import blocks_per_sm
from refkernels._record import roof
from refkernels._sources import kernel_source
from refkernels._timing import time_kernel

MIB = 2**20
Roof = dict[str, Any]


class Rig:
    """The current device, ready to measure.

    Args:
        budget_s: device time per timed point, roughly; tensor points take ten times as much, so
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

    def clocked(
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
        driver_clock: bool = False,
        **condition: object,
    ) -> Roof:
        """Time a kernel that carries a stopwatch; adds the true clock and the rate per clock.

        ``driver_clock`` takes the driver's figure instead: a kernel that fills every issue slot
        starves the warp that reads the stopwatch between its two readings.
        """
        timing = time_kernel(
            lambda _: launch(kernel, grid, (threads,), params, smem=smem),
            sets=1,
            budget_s=budget_s or self.budget_s,
            after_warm_up=lambda: self.elapsed.fill(0),
        )
        cycles, nanoseconds = (int(v) for v in self.elapsed.get())
        clock = timing.sm_clock_hz if driver_clock else cycles / nanoseconds * 1e9
        rate = work / timing.time_s
        per_clock = {"per_clock_per_sm": rate / clock / self.sms} if clock else {}
        return roof(
            quantity,
            rate,
            unit,
            spread=timing.spread,
            sm_clock_hz=clock,
            power_w=timing.power_w,
            condition=per_clock | condition,
        )

    def load(
        self, source: str, name: str, *, cooperative: bool = False, **defines: object
    ) -> Kernel:
        """A kernel of ``cuda/roofs/``, compiled with ``defines`` and loaded."""
        return load_kernel(self.compiled(source, **defines), name, cooperative=cooperative)

    def compiled(self, source: str, **defines: object) -> Compiled:
        """A source of ``cuda/roofs/`` for this device."""
        return compile_kernel(kernel_source(f"roofs/{source}.cu"), defines=defines)

    def resident(self, kernel: Kernel, threads: int) -> int:
        """Blocks of the kernel that fit on one multiprocessor."""
        return blocks_per_sm(kernel.resources, arch=kernel.arch, threads=threads)

    def random(self, size: int) -> Any:
        """``size`` bytes of random bits: one random block of 64 MiB, repeated."""
        words = size // 4
        out = self.cp.empty(words, np.uint32)
        for start in range(0, words, self.noise.size):
            part = out[start : start + self.noise.size]
            part[...] = self.noise[: part.size]
        return out
