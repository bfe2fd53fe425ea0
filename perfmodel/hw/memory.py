"""Memory levels from registers to DRAM."""

from __future__ import annotations

from dataclasses import dataclass

from perfmodel.errors import MissingFigure

CACHES = ("l2", "l3", "slc", "llc")
"""What specs call a cache that stands before main memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLevel:
    """One level: total capacity over the device in bytes and aggregate bandwidth in bytes/s.

    ``per_unit_bytes`` is one multiprocessor's share for levels that are private to it.
    """

    name: str
    bytes: float | None
    bandwidth_bytes_per_s: float | None
    per_unit_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Levels from nearest (registers) to farthest; the last is the main memory."""

    levels: tuple[MemoryLevel, ...]

    @property
    def main(self) -> MemoryLevel:
        """The farthest level: DRAM, or SRAM on a microcontroller."""
        return self.levels[-1]

    @property
    def capacity_bytes(self) -> float:
        """Main memory in exact bytes; raises MissingFigure when the spec lacks it."""
        return _required(self.main.bytes, "memory capacity")

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Main memory bandwidth; raises MissingFigure when the spec lacks it."""
        return _required(self.main.bandwidth_bytes_per_s, "memory bandwidth")

    @property
    def cache(self) -> MemoryLevel | None:
        """The last-level cache: what lies before main memory and is shared by all units."""
        before = self.levels[-2:-1]
        return before[0] if before and before[0].name in CACHES else None

    def level(self, name: str) -> MemoryLevel | None:
        """The level called ``name`` (``"l2"``, ``"smem"``, ``"register"``, ``"dram"``), or None."""
        return next((x for x in self.levels if x.name == name), None)


def _required(value: float | None, what: str) -> float:
    if value is None:
        msg = f"the spec states no {what}"
        raise MissingFigure(
            msg, field="memory", fix="add the figure to a spec of your own (--specs DIR)"
        )
    return value
