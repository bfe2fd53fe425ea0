"""The product on the CPU: numba, all cores, blocked for the caches, vectorised by ``_dot``.

Operands are packed once into panels of words (4 values of k side by side, or 2 widened to 16
bits), so that the inner kernel reads consecutive memory: ``ROWS`` rows of a and ``dot.columns``
rows of b at a time. Blocks: 256 words of k make a panel of b 32 KiB, which stays in L1 while a
task's rows of a stream from L2; a task is ``TASK_PANELS`` panels of a against one of b.

The roof: what the dot instructions of the inner kernel reach on all cores while its operands lie
in L1 (:func:`instruction_roof`, measured). x86 has no product of signed bytes with signed bytes;
``vpdpbusd`` takes unsigned times signed, 4 per 32-bit lane, and is the fastest there is;
``vpmaddwd`` on widened values, 2 per lane, is next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

from perfmodel.errors import BadValue
from refkernels.int8_gemm._dot import ROWS, VECTORS, Dot, available_dots, tile_kernel
from refkernels.int8_gemm.naive import check_operands

BLOCK_WORDS = 256
TASK_PANELS = 16


def integer_product(a: Any, b: Any, dot: Dot | None = None) -> Any:
    """``a @ b.T`` of signed bytes, ``a`` [m, k] and ``b`` [n, k], as int32 [m, n], exact.

    Raises:
        BadValue: operands of other types, k that differ, k above ``naive.MAX_K``.
    """
    for name, operand in (("a", a), ("b", b)):
        if operand.dtype != np.int8 or operand.ndim != 2:
            msg = f"must be a matrix of int8, got {operand.ndim} dimensions of {operand.dtype}"
            raise BadValue(msg, field=name)
    if a.shape[1] != b.shape[1]:
        msg = f"a has k = {a.shape[1]}, b has k = {b.shape[1]}"
        raise BadValue(msg, field="k")
    check_operands(a.shape[0], b.shape[0], a.shape[1])
    chosen = dot or available_dots()[0]
    left, right = pack(a, ROWS, chosen, offset=True), pack(b, chosen.columns, chosen, offset=False)
    sums = np.zeros((left.shape[0] * ROWS, right.shape[0] * chosen.columns), np.int32)
    if chosen.bytes_per_word == 4:
        # a was offset by 128: take 128 * sum(b) off again, modulo 2**32.
        excess = (128 * b.sum(axis=1, dtype=np.int64)).astype(np.int32)
        sums[:, : b.shape[0]] = -excess
    _product(chosen)(left, right, sums)
    return sums[: a.shape[0], : b.shape[0]]


def scaled_product(a: Any, b: Any, row_scale: Any, col_scale: Any, bias: Any | None = None) -> Any:
    """The dequantised product as fp32; see ``naive``."""
    sums = integer_product(a, b)
    out = np.empty(sums.shape, np.float32)
    shift = np.zeros(b.shape[0], np.float32) if bias is None else bias
    _dequantise(sums, row_scale, col_scale, shift, out)
    return out


def pack(x: Any, rows: int, dot: Dot, *, offset: bool) -> Any:
    """``x`` as panels [panel, word, row] of 32-bit words; missing rows and values are zero.

    ``offset`` adds 128 to bytes, for the unsigned side of a 4-byte dot.
    """
    per_word = dot.bytes_per_word
    wide = x if per_word == 4 else x.astype(np.int16)
    if x.shape[1] % per_word:
        wide = np.pad(wide, ((0, 0), (0, per_word - x.shape[1] % per_word)))
    words = np.ascontiguousarray(wide).view(np.int32)
    panels = np.zeros((-(-x.shape[0] // rows), words.shape[1], rows), np.int32)
    flip = np.int32(-0x7F7F7F80) if offset and per_word == 4 else np.int32(0)
    _transpose(words, panels, flip)
    return panels


@njit(parallel=True, cache=True)
def _transpose(words: Any, panels: Any, flip: Any) -> None:
    """Rows to panels, 16 words (a cache line of a row) at a time; flipped bits become 128 more."""
    rows = panels.shape[2]
    for panel in prange(panels.shape[0]):
        used = min(rows, words.shape[0] - panel * rows)
        for first in range(0, words.shape[1], 16):
            for row in range(used):
                for word in range(first, min(first + 16, words.shape[1])):
                    panels[panel, word, row] = words[panel * rows + row, word] ^ flip


@njit(parallel=True, cache=True)
def _dequantise(sums: Any, row_scale: Any, col_scale: Any, bias: Any, out: Any) -> None:
    for row in prange(sums.shape[0]):
        for col in range(sums.shape[1]):
            scaled = np.float32(sums[row, col]) * row_scale[row]
            out[row, col] = scaled * col_scale[col] + bias[col]


@cache
def _product(dot: Dot) -> Callable[[Any, Any, Any], None]:
    """The blocked product for one kind of dot, compiled."""
    tile, columns = tile_kernel(dot), dot.columns

    @njit(parallel=True)
    def product(a: Any, b: Any, sums: Any) -> None:
        groups = -(-a.shape[0] // TASK_PANELS)
        for task in prange(groups * b.shape[0]):
            first, j = task // b.shape[0] * TASK_PANELS, task % b.shape[0]
            part = np.empty((ROWS, columns), np.int32)
            for word in range(0, a.shape[1], BLOCK_WORDS):
                words = min(BLOCK_WORDS, a.shape[1] - word)
                for i in range(first, min(first + TASK_PANELS, a.shape[0])):
                    tile(part.ctypes, a[i, word:].ctypes, b[j, word:].ctypes, words)
                    for row in range(ROWS):
                        for col in range(columns):
                            sums[i * ROWS + row, j * columns + col] += part[row, col]

    return product


def instruction_roof(dot: Dot | None = None, *, seconds: float = 0.5) -> float:
    """Operations per second of the inner kernel alone on all cores, its operands in L1."""
    threads = get_num_threads()
    call, work = instruction_loop(threads, dot)
    repeats, best = 2048, 0.0
    call(1)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call(repeats)
        best = max(best, work * threads * repeats / (time.perf_counter() - start))
    return best


def instruction_loop(threads: int, dot: Dot | None = None) -> tuple[Callable[[int], None], float]:
    """The inner kernel alone: a call that runs it so often on each of ``threads`` threads, and the
    operations of one run on one thread.
    """
    chosen = dot or available_dots()[0]
    run = _inner_loop(chosen)
    a = np.ones((threads, BLOCK_WORDS * ROWS), np.int32)
    b = np.ones((threads, BLOCK_WORDS * chosen.columns), np.int32)
    per_word = 2.0 * ROWS * VECTORS * chosen.lanes * chosen.bytes_per_word
    return lambda repeats: run(a, b, repeats), per_word * BLOCK_WORDS


@cache
def _inner_loop(dot: Dot) -> Callable[[Any, Any, int], None]:
    tile, columns = tile_kernel(dot), dot.columns

    @njit(parallel=True)
    def run(a: Any, b: Any, repeats: int) -> None:
        for thread in prange(a.shape[0]):
            part = np.empty((ROWS, columns), np.int32)
            for _ in range(repeats):
                tile(part.ctypes, a[thread].ctypes, b[thread].ctypes, BLOCK_WORDS)
                a[thread, 0] ^= part[0, 0] & 1  # or the compiler would run it once

    return run
