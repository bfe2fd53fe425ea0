"""Every roof of a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator

from refkernels._compile import compile_all
from refkernels._sources import all_sources
from refkernels.roofs.latency import latencies, launches
from refkernels.roofs.memory import caches, dram
from refkernels.roofs.pipes import arithmetic, tensor, tensor_sync
from refkernels.roofs.rig import Rig, Roof


def device_roofs(budget_s: float = 0.1) -> Iterator[Roof]:
    """Measure the current device: cheap roofs first, those that heat it last.

    ``budget_s`` is device time per point (see :class:`Rig`); about a minute in all by default.
    """
    compile_all(source for source in all_sources() if source.parent.name == "roofs")
    rig = Rig(budget_s)
    yield from launches(rig)
    yield from latencies(rig)
    yield from dram(rig)
    yield from caches(rig)
    yield from arithmetic(rig)
    yield from tensor_sync(rig)
    if rig.capability == 90:
        yield from tensor(rig)
