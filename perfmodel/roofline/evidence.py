"""Which figures of a spec an answer rests on, and which of those nobody could verify."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from perfmodel.hw.device import Device, Figure
from perfmodel.ops import Cost


def roof_figures(cost: Cost, device: Device, roofs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each roof, the figures it rests on as lines of text: path, value, source, condition."""
    return {
        roof: tuple(_line(path, figure) for path, figure in _behind(roof, cost, device))
        for roof in roofs
    }


def doubtful_figures(cost: Cost, device: Device, roofs: Iterable[str]) -> tuple[str, ...]:
    """Unverified figures that any of the ``roofs`` rests on, each with the reason why."""
    doubts = {
        path: figure.doubt(path)
        for roof in roofs
        for path, figure in _behind(roof, cost, device)
        if not figure.verified
    }
    return tuple(doubts.values())


def _behind(roof: str, cost: Cost, device: Device) -> Iterator[tuple[str, Figure]]:
    prefixes = tuple(_prefixes(roof, cost, device))
    return ((p, f) for p, f in device.figures.items() if p.startswith(prefixes))


def _prefixes(roof: str, cost: Cost, device: Device) -> Iterator[str]:
    """Spec paths, as specs/hw spells them, under which the figures of a roof lie."""
    if roof in ("tensor", "vector"):
        dtypes = {dtype for unit, dtype, _ in cost.flops if unit == roof}
        own = any(key[0] == roof and key[1] in dtypes for key in device.compute.peaks)
        unit = roof if own else "vector"
        yield from (f"compute.{unit}.{dtype}." for dtype in sorted(dtypes))
        yield from (f"compute.clock_{unit}", "compute.units")
    elif roof == "special":
        yield from ("compute.special_per_clk", "compute.clock_vector", "compute.units")
    elif roof == "memory":
        yield f"memory.{device.memory.main.name}.bandwidth"
    else:
        yield from ("peer_link.", "node_link.", "host_link.")


def _line(path: str, figure: Figure) -> str:
    origin = figure.source or "unverified"
    condition = f"; {figure.condition}" if figure.condition else ""
    return f"{path} = {figure.text} [{origin}{condition}]"
