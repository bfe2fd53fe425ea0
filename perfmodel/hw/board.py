"""What a microcontroller board adds: core, flash, wait states, external memories."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A microcontroller board.

    ``flash_line_bytes`` over ``flash_wait_states + 1`` cycles bounds cold flash reads.
    """

    core: str
    clock_hz: float
    sram_bytes: float
    flash_bytes: float | None
    flash_wait_states: int | None = None
    flash_line_bytes: int | None = None
    external_ram_bytes: float | None = None
    external_flash_bytes: float | None = None
