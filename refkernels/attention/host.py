"""Attention on the CPU: numba, all cores, tiled, with the online softmax, fp32.

A task is 32 queries of one head; it walks the keys in blocks of 64 and never holds more than one
block of scores. Both products are written so that the compiler vectorises over the head's columns
and loads less than it multiplies: scores for 4 queries and 2 keys at once, outputs from 4 keys
at once. Only the keys that a row sees are exponentiated: masks are bounds, not values.

Powers of two are ``2**x = 2**n * 2**f`` with n = rint(x): the first factor made by shifting n into
the exponent bits, the second from the Taylor polynomial of degree 7 (remainder (ln 2 / 2)**8 / 8! =
5e-9 on [-1/2, 1/2]); a library call per element would not vectorise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from refkernels.attention.naive import Form, check_shapes

ROWS = 32
KEYS = 64
LOG2E = math.log2(math.e)
C1, C2, C3, C4, C5, C6, C7 = (math.log(2) ** k / math.factorial(k) for k in range(1, 8))
LOWEST = -126.0
"""Powers below this underflow; 2**-126 stands for them."""


def flash_attention(
    q: Any, k: Any, v: Any, form: Form, q_starts: Any = None, kv_starts: Any = None
) -> tuple[Any, Any]:
    """``(o, lse)`` in fp32; shapes as in ``naive.attend_packed``, one sequence without starts.

    Raises:
        BadValue: operands that do not fit together.
    """
    check_shapes(q, k, v)
    q, k, v = (np.ascontiguousarray(x, np.float32) for x in (q, k, v))
    q_bounds, kv_bounds = (
        np.asarray(starts if starts is not None else (0, x.shape[0]), np.int64)
        for starts, x in ((q_starts, q), (kv_starts, k))
    )
    out = np.empty(q.shape, np.float32)
    lse = np.empty((q.shape[1], q.shape[0]), np.float32)
    biases = [form.bias_of(int(n)) * LOG2E for n in np.diff(kv_bounds)]
    _attend_tasks(
        q,
        k,
        v,
        out,
        lse,
        _tasks(q_bounds, q.shape[1]),
        q_bounds,
        kv_bounds,
        np.asarray(biases, np.float32),
        np.float32(form.scale_of(q.shape[2]) * LOG2E),
        form.causal,
        form.window or 0,
        form.score == "sigmoid",
    )
    return out, lse


def _tasks(q_starts: Any, heads: int) -> Any:
    """(sequence, head, first row) of every task, the long ones of a causal mask first."""
    rows = [
        (row, i)
        for i, length in enumerate(np.diff(q_starts))
        for row in range(0, int(length), ROWS)
    ]
    rows.sort(reverse=True)
    return np.asarray([(i, h, row) for row, i in rows for h in range(heads)], np.int64)


@njit(cache=True, inline="always")
def _visible(row: int, q_len: int, kv_len: int, causal: bool, window: int) -> tuple[int, int]:
    """The keys [first, end) that a query sees; see ``naive``."""
    end = max(0, row + 1 + kv_len - q_len) if causal else kv_len
    first = max(0, end - window) if window > 0 else 0
    return first, end


@njit(fastmath={"reassoc", "contract", "arcp", "nsz"}, cache=True)
def _score_block(q: Any, k: Any, scores: Any, rows: int, keys: int) -> None:
    """``scores[i, j] = q[i] . k[j]`` for 4 rows and 2 keys at a time."""
    width = q.shape[1]
    for i in range(0, rows, 4):
        for j in range(0, keys, 2):
            a = b = c = d = e = f = g = h = np.float32(0)
            for x in range(width):
                left, right = k[j, x], k[j + 1, x]
                a += q[i, x] * left
                b += q[i + 1, x] * left
                c += q[i + 2, x] * left
                d += q[i + 3, x] * left
                e += q[i, x] * right
                f += q[i + 1, x] * right
                g += q[i + 2, x] * right
                h += q[i + 3, x] * right
            scores[i, j], scores[i + 1, j] = a, b
            scores[i + 2, j], scores[i + 3, j] = c, d
            scores[i, j + 1], scores[i + 1, j + 1] = e, f
            scores[i + 2, j + 1], scores[i + 3, j + 1] = g, h


@njit(fastmath={"reassoc", "contract", "arcp", "nsz"}, cache=True)
def _add_values(out: Any, weights: Any, v: Any, rows: int, keys: int) -> None:
    """``out[i] += sum_j weights[i, j] v[j]``, 4 keys at a time."""
    width = out.shape[1]
    for i in range(rows):
        for j in range(0, keys, 4):
            a, b, c, d = weights[i, j], weights[i, j + 1], weights[i, j + 2], weights[i, j + 3]
            for x in range(width):
                out[i, x] += a * v[j, x] + b * v[j + 1, x] + c * v[j + 2, x] + d * v[j + 3, x]


@njit(fastmath={"reassoc", "contract", "arcp", "nsz"}, cache=True)
def _powers(row: Any, first: int, last: int, factor: Any, offset: Any, bits: Any) -> None:
    """``row[j] = 2**(row[j] * factor + offset)`` for j in [first, last)."""
    for j in range(first, last):
        x = max(row[j] * factor + offset, np.float32(LOWEST))
        n = np.rint(x)
        f = x - n
        bits[j] = (np.int32(n) + np.int32(127)) << np.int32(23)
        p = np.float32(C6) + f * np.float32(C7)
        p = np.float32(C4) + f * (np.float32(C5) + f * p)
        p = np.float32(C2) + f * (np.float32(C3) + f * p)
        row[j] = np.float32(1) + f * (np.float32(C1) + f * p)
    powers = bits.view(np.float32)
    for j in range(first, last):
        row[j] *= powers[j]


@njit(fastmath={"reassoc", "contract", "arcp", "nsz"}, cache=True)
def _soften_row(
    row: Any, first: int, last: int, top: Any, total: Any, scale: Any, bits: Any
) -> tuple[Any, Any, Any]:
    """Weights of one row of a block; returns the new maximum, sum and rescaling of earlier sums."""
    highest = top
    for j in range(first, last):
        highest = max(highest, row[j])
    rescale = np.float32(2.0 ** ((top - highest) * scale)) if total > 0 else np.float32(0)
    _powers(row, first, last, scale, -highest * scale, bits)
    block = np.float32(0)
    for j in range(first, last):
        block += row[j]
    return highest, total * rescale + block, rescale


@njit(fastmath={"reassoc", "contract", "arcp", "nsz"}, cache=True)
def _squash_row(row: Any, first: int, last: int, scale: Any, bias: Any, bits: Any) -> None:
    """Sigmoid weights of one row: ``1 / (1 + 2**-y)``, y = row * scale + bias, at most 2**126."""
    for j in range(first, last):
        row[j] = min(-(row[j] * scale + bias), np.float32(-LOWEST))
    _powers(row, first, last, np.float32(1), np.float32(0), bits)
    for j in range(first, last):
        row[j] = np.float32(1) / (np.float32(1) + row[j])


@njit(parallel=True, cache=True)
def _attend_tasks(
    q: Any,
    k: Any,
    v: Any,
    out: Any,
    lse: Any,
    tasks: Any,
    q_starts: Any,
    kv_starts: Any,
    biases: Any,
    scale: Any,
    causal: bool,
    window: int,
    sigmoid: bool,
) -> None:
    group = q.shape[1] // k.shape[1]
    for task in prange(tasks.shape[0]):
        i, head, first_row = tasks[task]
        q_len = q_starts[i + 1] - q_starts[i]
        rows = min(ROWS, q_len - first_row)
        start = q_starts[i] + first_row
        queries = np.zeros((ROWS, q.shape[2]), np.float32)
        queries[:rows] = q[start : start + rows, head]
        sums, logs = _attend_tile(
            queries,
            k[kv_starts[i] : kv_starts[i + 1], head // group],
            v[kv_starts[i] : kv_starts[i + 1], head // group],
            first_row,
            rows,
            q_len,
            biases[i],
            scale,
            causal,
            window,
            sigmoid,
        )
        out[start : start + rows, head] = sums[:rows]
        lse[head, start : start + rows] = logs[:rows]


@njit(cache=True)
def _attend_tile(
    queries: Any,
    k: Any,
    v: Any,
    first_row: int,
    rows: int,
    q_len: int,
    bias: Any,
    scale: Any,
    causal: bool,
    window: int,
    sigmoid: bool,
) -> tuple[Any, Any]:
    """Outputs and log-sum-exps of one tile of queries against all the keys they see."""
    kv_len, width = k.shape
    out = np.zeros((ROWS, width), np.float32)
    top, total = np.full(ROWS, -np.inf, np.float32), np.zeros(ROWS, np.float32)
    scores, bits = np.empty((ROWS, KEYS), np.float32), np.empty(KEYS, np.int32)
    keys, values = np.zeros((KEYS, width), np.float32), np.zeros((KEYS, width), np.float32)
    begin = _visible(first_row, q_len, kv_len, causal, window)[0] // KEYS * KEYS
    end = _visible(first_row + rows - 1, q_len, kv_len, causal, window)[1]
    for key in range(begin, end, KEYS):
        count = min(KEYS, kv_len - key)
        keys[:count] = k[key : key + count]
        values[:count] = v[key : key + count]
        _score_block(queries, keys, scores, ROWS, KEYS)
        for i in range(rows):
            low, high = _visible(first_row + i, q_len, kv_len, causal, window)
            first, last = min(max(low - key, 0), KEYS), min(max(high - key, 0), KEYS)
            last = max(first, last)
            if sigmoid:
                _squash_row(scores[i], first, last, scale, bias, bits)
            elif last > first:
                top[i], total[i], rescale = _soften_row(
                    scores[i], first, last, top[i], total[i], scale, bits
                )
                out[i] *= rescale
            scores[i, :first] = 0
            scores[i, last:] = 0
        _add_values(out, scores, values, rows, KEYS)
    return _normalised(out, top, total, scale, sigmoid)


@njit(cache=True)
def _normalised(out: Any, top: Any, total: Any, scale: Any, sigmoid: bool) -> tuple[Any, Any]:
    logs = np.full(ROWS, -np.inf, np.float32)
    if not sigmoid:
        for i in range(ROWS):
            if total[i] > 0:
                out[i] /= total[i]
                logs[i] = (top[i] * scale + np.log2(total[i])) / LOG2E
    return out, logs
