"""How attention kernels cut their work: tiles of queries and keys, and splits of long keys.

FlashAttention-2's rules (Dao, arXiv 2307.08691; Flash-Decoding, 2023): keys are split until the
multiprocessors hold 85 % of what they can, the tiles grow as heads get narrower, and its split
kernel takes fewer query rows than the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from perfmodel.hw.device import Device
from perfmodel.ops.attention import kv_tokens
from perfmodel.ops.numbers import capped_series, ceil_div, f64
from perfmodel.workload import Array, Attention

SMALL, LARGE = np.float64(64.0), np.float64(128.0)
"""Rows or keys of a tile: one warp group's, and two."""
SPLIT_BYTES = np.float64(64.0 * 1024.0)
"""Keys and values of one tile of FlashAttention-2's split kernel."""
PER_UNIT = np.float64(2.0)
"""Thread blocks that a split aims to give every multiprocessor."""
FULL, ENOUGH = 0.85, 0.8
"""Share of the places that a split should fill, and from which there is none."""
MOST_WAVES = 4
MOST_SPLITS, MOST_FLASH_SPLITS = np.float64(32.0), np.float64(128.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """Rows and keys of a tile, in how many splits the keys go, and key tiles of each."""

    rows: Array
    keys: Array
    splits: Array
    chunk: Array


Plan: TypeAlias = Callable[[Attention, Array, Device], Cut]
"""Of a workload, the query rows that share keys, and a device."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Walked:
    """Key tiles that all query tiles of one head walk, and those of the last and the first."""

    total: Array
    longest: Array
    shortest: Array


def walked(w: Attention, rows: Array, keys: Array, q_tiles: Array) -> Walked:
    """How far ``q_tiles`` tiles of ``rows`` queries reach, in tiles of ``keys``.

    Under a causal mask tile after tile sees ``rows`` keys more, rounded up to whole tiles: by half
    of what they and the rows have not in common, on average.
    """
    kv = f64(w.kv_len)
    reach = ceil_div(kv, keys) * keys
    if w.window is not None:
        seen = np.ceil((f64(w.window) + rows) / keys) * keys
        reach = np.minimum(reach, seen)
    if not w.causal:
        each = reach / keys
        return Walked(total=q_tiles * each, longest=each, shortest=each)
    padding = (keys - _common(rows, keys)) / 2.0
    first = kv - f64(w.q_len) + rows + padding
    total = capped_series(first / rows, q_tiles, reach / rows) * rows
    longest = np.minimum(first + (q_tiles - 1.0) * rows, reach)
    shortest = np.minimum(first, reach)
    return Walked(total=total / keys, longest=longest / keys, shortest=shortest / keys)


def _common(rows: Array, keys: Array) -> Array:
    """The greatest common divisor of two sides of a tile."""
    return f64(np.gcd(np.asarray(rows, np.int64), np.asarray(keys, np.int64)))


def plain_prefill(w: Attention, rows: Array, device: Device) -> Cut:
    """Tiles of 128 queries by 64 keys, never split."""
    del rows, device
    one = np.float64(1.0)
    return Cut(rows=LARGE, keys=SMALL, splits=one, chunk=ceil_div(kv_tokens(w), SMALL))


def plain_decode(w: Attention, rows: Array, device: Device) -> Cut:
    """Tiles of 64 by 64; a power of two of splits, so that every multiprocessor has work, but no
    more than leaves each two tiles."""
    blocks = ceil_div(kv_tokens(w), SMALL)
    wanted = np.float64(device.compute.units) / _walkers(w, rows, SMALL)
    most = np.minimum(np.maximum(np.floor(blocks / 2.0), 1.0), MOST_SPLITS)
    chunk = ceil_div(blocks, np.clip(_power_above(wanted), 1.0, most))
    return Cut(rows=SMALL, keys=SMALL, splits=ceil_div(blocks, chunk), chunk=chunk)


def flash(w: Attention, rows: Array, device: Device) -> Cut:
    """FlashAttention-2: its split kernel where that fills the device or keys lie in pages.

    Without a cache in pages (``torch``), all but very many thread blocks are split. Serving
    engines with sequences of any length split only where heads share keys, and never a prompt.
    """
    tokens, width = kv_tokens(w), f64(w.head_dim)
    split_keys = SPLIT_BYTES / (4.0 * np.maximum(SMALL, _padded_width(width)))
    blocks = ceil_div(tokens, split_keys)
    places = PER_UNIT * np.float64(device.compute.units)
    splits = _flash_splits(_walkers(w, rows, SMALL), places, blocks)
    if w.page_size is not None:
        alone = (rows <= f64(w.q_len)) | (f64(w.q_len) > 1.0)
        splits = np.where(alone, 1.0, splits)[()]
    split = (splits > 1.0) | (w.page_size is not None)
    small = split | ((width > 128.0) & _holds_two(device))
    plain_keys = np.where(width <= 64.0, LARGE, SMALL)[()]
    keys = np.where(split, split_keys, plain_keys)[()]
    chunk = ceil_div(ceil_div(tokens, keys), splits)
    return Cut(rows=np.where(small, SMALL, LARGE)[()], keys=keys, splits=splits, chunk=chunk)


def _walkers(w: Attention, rows: Array, tile: np.float64) -> Array:
    assert w.kv_heads is not None
    heads = f64(w.batch) * f64(w.heads) * f64(w.q_len) / rows
    return heads * ceil_div(rows, tile)


def _power_above(x: Array) -> Array:
    """The smallest power of two that is not below ``x``, exactly."""
    mantissa, exponent = np.frexp(x)
    power: Array = np.ldexp(1.0, np.where(mantissa > 0.5, exponent, exponent - 1))[()]
    return power


def _flash_splits(walkers: Array, places: Array, blocks: Array) -> Array:
    """The fewest splits that fill :data:`FULL` of the places, in as few waves as that takes."""
    found: Array = ceil_div(PER_UNIT * places, walkers)
    for waves in range(MOST_WAVES, 0, -1):
        room = places * np.float64(waves)
        fewest = np.ceil(np.float64(FULL) * room / walkers)
        found = np.where(fewest * walkers <= room, fewest, found)
    found = np.minimum(found, np.minimum(blocks, MOST_FLASH_SPLITS))
    found = np.where(walkers >= np.float64(ENOUGH) * places, 1.0, found)
    chunk = ceil_div(blocks, np.maximum(found, 1.0))
    return ceil_div(blocks, chunk)


def _padded_width(width: Array) -> Array:
    """Head dimensions are padded to 64, 128 or 256."""
    padded: Array = np.where(width <= 64.0, 64.0, np.where(width <= 128.0, 128.0, 256.0))[()]
    return padded


def _holds_two(device: Device) -> bool:
    """Whether a multiprocessor's shared memory holds two 64 x 64 tiles of 256-wide heads."""
    shared = device.memory.level("smem")
    room = None if shared is None else shared.per_unit_bytes
    return room is not None and room >= 4 * 256 * (64 + 2 * 64)
