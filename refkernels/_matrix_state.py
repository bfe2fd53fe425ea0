"""What mixers with a state [dk, dv] per head share: linear attention, SSD and the delta rule.

Tokens are worked in chunks; a tile of a chunk lies in shared memory as panels of 64 columns.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from perfmodel.errors import BadValue
from refkernels._launch import as_device_array, tensor_map

CHUNK = 64
"""Tokens that are worked together."""

PANEL = 64
"""Columns of a tile that lie side by side in shared memory (128 bytes)."""

KEY_DIMS = (64, 128)
SHORT = 16
"""Sequences shorter than this go token by token: most of a chunk would be padding."""


class Bound(Protocol):
    """Checked device arrays of one call."""

    @property
    def q(self) -> Any:
        """[batch, length, key_heads, dk]."""

    @property
    def v(self) -> Any:
        """[batch, length, heads, dv]."""


def check_dims(dk: int, dv: int) -> None:
    """Raises BadValue for head dimensions that the kernels are not written for."""
    if dk not in KEY_DIMS:
        msg = f"the kernels are written for key dimensions {KEY_DIMS}, got {dk}"
        raise BadValue(msg, field="q")
    if dv % PANEL:
        msg = f"the value dimension must be a multiple of {PANEL}, got {dv}"
        raise BadValue(msg, field="v")


def checked_state(initial: Any, shape: tuple[int, ...]) -> Any:
    """An initial state on the device, or None."""
    if initial is None:
        return None
    return as_device_array(initial, "initial", dtype="fp32", shape=shape)


def empty_outputs(x: Bound) -> tuple[Any, Any]:
    """Uninitialised o and final state."""
    import cupy

    batch, _, heads, dv = x.v.shape
    return cupy.empty_like(x.v), cupy.empty((batch, heads, x.q.shape[-1], dv), cupy.float32)


def tile_map(array: Any, width: int) -> NDArray[Any]:
    """Tiles of a chunk and ``width`` columns, panel by panel with the 128-byte swizzle.

    Axes (batch, panels of all heads, tokens, columns): rows beyond a sequence are zeros, whatever
    follows in memory.
    """
    batch, length, heads, wide = array.shape
    row = 2 * heads * wide
    return tensor_map(
        array,
        (1, width // PANEL, CHUNK, PANEL),
        shape=(batch, heads * wide // PANEL, length, PANEL),
        strides=(length * row, 2 * PANEL, row, 2),
    )
