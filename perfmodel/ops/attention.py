"""Scaled-dot-product attention: prefill, decode, windows, grouped heads, latent attention."""

from __future__ import annotations

import numpy as np

from perfmodel.ops.cost import Cost
from perfmodel.ops.numbers import accumulator, capped_series, f64, stored
from perfmodel.workload import Array, Attention, remembered


def pairs_per_head(w: Attention) -> Array:
    """(query, key) pairs that the mask lets through, for one head of one sequence.

    Causal, bottom-right aligned: query i sees ``kv_len - q_len + i + 1`` keys, at most ``window``;
    for ``q_len = kv_len = S`` that is ``S (S + 1) / 2``. Without a causal mask every query sees
    ``min(kv_len, window)``.
    """
    q, kv = f64(w.q_len), f64(w.kv_len)
    cap = kv if w.window is None else np.minimum(f64(w.window), kv)
    return capped_series(kv - q + 1.0, q, cap) if w.causal else q * cap


def kv_tokens(w: Attention) -> Array:
    """Tokens of the cache that at least one query sees: the window and the queries before it."""
    kv = f64(w.kv_len)
    if w.window is None:
        return kv
    reach = f64(w.window) + (f64(w.q_len) - 1.0 if w.causal else 0.0)
    return np.minimum(kv, reach)


def kv_width(w: Attention) -> Array:
    """Elements read per cached token and KV head: keys and values, or the one shared latent."""
    assert w.v_head_dim is not None
    return f64(w.head_dim) if w.shared_kv else f64(w.head_dim) + f64(w.v_head_dim)


@remembered
def kv_read_bytes(w: Attention) -> Array:
    """Bytes of keys and values read once. Grouped heads share them: ``kv_heads``, not ``heads``.

    Paged caches: valid tokens are counted, not whole pages (a kernel masks the rest of the last
    page, at most ``page_size - 1`` tokens a sequence), and the page table, one integer a page, is
    left out; capacity is where pages round up.
    """
    assert w.kv_heads is not None
    assert w.kv_dtype is not None
    elements = f64(w.batch) * f64(w.kv_heads) * kv_width(w)
    return elements * stored(w.kv_dtype) * kv_tokens(w)


def count_attention(w: Attention) -> Cost:
    """Attention of ``q_len`` queries against ``kv_len`` keys and values.

    FLOPs, ``P`` pairs: ``2 P d`` for Q K^T and ``2 P d_v`` for P V (Dao, FlashAttention-2,
    arXiv 2307.08691, section 4: ``4 S^2 d h``, halved when causal; here the exact triangle).
    Special functions: softmax one exponential per pair and one reciprocal per row; sigmoid one
    tanh per pair (Ramapuram et al., arXiv 2409.04431). Bytes: Q, K, V and O once; writing new
    tokens into the cache belongs to another operator.
    """
    assert w.v_head_dim is not None
    assert w.out_dtype is not None
    rows = f64(w.batch) * f64(w.heads) * f64(w.q_len)
    pairs = f64(w.batch) * f64(w.heads) * pairs_per_head(w)
    width = f64(w.head_dim) + f64(w.v_head_dim)
    return Cost(
        flops={("tensor", w.dtype, accumulator(w.dtype)): 2.0 * width * pairs},
        special=pairs + rows if w.score == "softmax" else pairs,
        read_bytes=rows * f64(w.head_dim) * stored(w.dtype) + kv_read_bytes(w),
        write_bytes=rows * f64(w.v_head_dim) * stored(w.out_dtype),
        items=rows,
    )
