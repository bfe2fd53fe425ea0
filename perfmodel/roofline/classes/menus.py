"""What libraries of matrix products choose among: output tiles, splits of the inner dimension."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

THIN = 4
"""Rows (or columns) that a matrix-vector kernel takes; more rows run as tiles."""


@dataclass(frozen=True, eq=False)
class Menu:
    """The kernels that a library chooses among: every tile with every split, one axis."""

    rows: NDArray[np.float64]
    cols: NDArray[np.float64]
    parts: NDArray[np.float64]
    single_warps: bool = False
    """Whether they multiply by instructions of single warps, where others take warp groups."""
    splits_small: bool = False
    """Whether the library splits the inner dimension of small outputs, however short it is."""

    @cached_property
    def thin(self) -> NDArray[np.bool_]:
        """Matrix-vector kernels: they stream one operand and hold the other."""
        return np.minimum(self.rows, self.cols) <= THIN


def menu(tiles: tuple[tuple[int, int], ...], splits: tuple[int, ...]) -> Menu:
    """Every tile (rows, columns) with every number of parts of the inner dimension."""
    rows, cols = (np.repeat(np.array([t[i] for t in tiles], float), len(splits)) for i in (0, 1))
    return Menu(rows, cols, np.tile(np.array(splits, float), len(tiles)))


SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
TENSOR_TILES = (
    (256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 256), (64, 64), (64, 32),
    (32, 64), (32, 128), (16, 128), (16, 64),
)  # fmt: skip
VECTOR_TILES = (
    (128, 128), (128, 64), (64, 128), (64, 64), (128, 32), (32, 128), (64, 32), (32, 64), (32, 32),
    (1, 128), (2, 128), (128, 1), (128, 2),
)  # fmt: skip
TENSOR_MENU = menu(TENSOR_TILES, SPLITS)
INTEGER_MENU = replace(menu((*TENSOR_TILES, (4, 64)), (1,)), single_warps=True)
"""Libraries' integer kernels: not split, and written for single warps."""
VECTOR_MENU = replace(menu(VECTOR_TILES, (*SPLITS, 32)), splits_small=True)
"""Tiles of the vector units, and matrix-vector kernels."""
