"""Microcontrollers: networks from files, arenas planned before anything is flashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfmodel.mcu.cycles import latency as latency

__all__ = ["latency"]


def __getattr__(name: str) -> Any:
    """``latency``, imported on first use (PEP 562): arenas are planned without it."""
    if name == "latency":
        from perfmodel.mcu.cycles import latency

        return latency
    msg = f"module 'perfmodel.mcu' has no attribute {name!r}"
    raise AttributeError(msg)
