"""Several launches with their arguments bound: what timing, graphs and inference loops call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refkernels._compile import compile_kernel
from refkernels._launch import Kernel, launch, load_kernel, params_struct
from refkernels._sources import kernel_source, read_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel with its grid and parameters."""

    kernel: Kernel
    grid: tuple[int, int, int]
    threads: int
    smem: int
    params: NDArray[Any]
    maps: tuple[NDArray[Any], ...] = ()
    """TMA descriptors, in the order of the kernel's parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Launches in order on CuPy's current stream; ``keep`` holds their arrays."""

    launches: tuple[Launch, ...]
    keep: tuple[Any, ...]

    def __call__(self) -> None:
        """Enqueue all of them."""
        for step in self.launches:
            launch(step.kernel, step.grid, (step.threads,), step.params, *step.maps, smem=step.smem)


def bound_launch(
    source: str,
    entry: str,
    grid: tuple[int, int, int],
    fields: Mapping[str, Any],
    defines: Mapping[str, int],
    smem: int = 0,
    maps: tuple[NDArray[Any], ...] = (),
    threads: int | None = None,
) -> Launch:
    """The kernel ``entry`` of ``source`` on a parameter struct of ``fields`` (None: null).

    ``threads`` defaults to what the source's header says.
    """
    path = kernel_source(source)
    null = np.uint64(0)
    return Launch(
        kernel=load_kernel(compile_kernel(path, defines=defines), entry),
        grid=grid,
        threads=threads or read_spec(path).threads,
        smem=smem,
        params=params_struct(**{k: null if v is None else v for k, v in fields.items()}),
        maps=maps,
    )


def ceil_div(value: int, unit: int) -> int:
    """``value / unit`` rounded up."""
    return -(-value // unit)


def sm_count() -> int:
    """Multiprocessors of the current device."""
    import cupy

    return int(cupy.cuda.Device().attributes["MultiProcessorCount"])
