"""Matrix products through a scratchpad: tiles, what they move, and DMA beside arithmetic.

A product ``C[m, n] += A[m, k] B[k, n]`` whose operands lie in the second-level memory is cut into
tiles that fit the cluster's first-level memory twice (one being computed, one on its way). ``A``
is read once for every column of tiles, ``B`` once for every row, ``C`` is written once, and read
again where ``k`` is cut (Nadalini et al., "PULP-TrainLib", SAMOS 2022, section 3).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

from perfmodel.errors import BadValue

BUFFERS = 2.0
"""Double buffering: every tile has its room twice."""
MOST_PARTS = 4096
"""Parts of one dimension beyond which no tile is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A tile of ``m x n x k``, how many there are, and the bytes all of them move."""

    m: int
    n: int
    k: int
    tiles: int
    moved_bytes: float
    held_bytes: float


@lru_cache(maxsize=4096)
def best_tile(m: int, n: int, k: int, element_bytes: float, l1_bytes: float) -> Tile:
    """The tile that moves fewest bytes, then the one with fewest tiles.

    Raises:
        BadValue: not even single elements fit.
    """
    found = [
        tile
        for sizes in itertools.product(_cuts(m), _cuts(n), _cuts(k))
        if (tile := _tile((m, n, k), sizes, element_bytes)).held_bytes <= l1_bytes
    ]
    if not found:
        msg = f"no tile of a {m} x {n} x {k} product fits {l1_bytes:.0f} bytes"
        raise BadValue(msg, field="l1", fix="a device with more first-level memory")
    return min(found, key=lambda t: (t.moved_bytes, t.tiles))


def _cuts(size: int) -> list[int]:
    """The whole, a half, a quarter, ... of ``size``, rounded up."""
    parts = itertools.takewhile(
        lambda p: p < 2 * size, (2**i for i in range(MOST_PARTS.bit_length()))
    )
    return sorted({-(-size // p) for p in parts}, reverse=True)


def _tile(whole: tuple[int, int, int], sizes: tuple[int, int, int], element_bytes: float) -> Tile:
    (m, n, k), (tm, tn, tk) = whole, sizes
    rows, columns, depth = math.ceil(m / tm), math.ceil(n / tn), math.ceil(k / tk)
    elements = m * k * columns + k * n * rows + m * n * (2 * depth - 1)
    held = BUFFERS * (tm * tk + tk * tn + tm * tn)
    return Tile(
        m=tm,
        n=tn,
        k=tk,
        tiles=rows * columns * depth,
        moved_bytes=elements * element_bytes,
        held_bytes=held * element_bytes,
    )
