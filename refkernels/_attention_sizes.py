"""Workloads on which attention is timed, and small ones on which it is checked."""

from __future__ import annotations

from typing import Literal

from perfmodel.workload import Attention, Workload

# batch, q_len, kv_len, heads, kv_heads, head_dim, causal, window
SMALL_ATTENTIONS = (
    (1, 1, 1, 1, 1, 64, False, None),
    (2, 17, 63, 2, 1, 64, False, None),
    (1, 63, 1025, 2, 2, 128, True, None),
    (3, 65, 65, 4, 2, 64, True, 1),
    (1, 127, 300, 2, 1, 128, True, 100),
    (2, 128, 128, 1, 1, 256, True, None),
    (1, 130, 257, 3, 1, 256, False, None),
    (1, 255, 255, 2, 1, 128, False, 64),
    (2, 193, 400, 2, 2, 64, False, None),
    (1, 513, 513, 2, 1, 128, True, None),
    (1, 1, 300, 2, 2, 64, True, None),
    (2, 64, 64, 2, 2, 64, False, None),
    (1, 100, 900, 4, 1, 64, True, 33),
    (5, 33, 31, 1, 1, 128, False, None),
    (1, 300, 340, 2, 2, 64, True, None),
    (1, 129, 257, 2, 1, 128, True, 1),
    (2, 65, 127, 1, 1, 256, True, 64),
    (1, 192, 320, 2, 2, 256, True, None),
    (1, 384, 384, 1, 1, 256, False, None),
    (3, 129, 640, 3, 3, 128, True, None),
)


def attentions(
    sizes: tuple[tuple[int, int, int, int, int, int, bool, int | None], ...],
    dtype: str = "bf16",
    score: Literal["softmax", "sigmoid"] = "softmax",
) -> tuple[Workload, ...]:
    """Attention of (batch, queries, keys, heads, KV heads, width, causal, window)."""
    return tuple(
        Attention(
            batch=b,
            q_len=q,
            kv_len=kv,
            heads=h,
            kv_heads=g,
            head_dim=d,
            causal=causal,
            window=window,
            dtype=dtype,
            score=score,
        )
        for b, q, kv, h, g, d, causal, window in sizes
    )


def prefills(*lengths: int) -> tuple[tuple[int, int, int, int, int, int, bool, None], ...]:
    """16,384 tokens in all and 2,048 channels, every width, causal and not, at these lengths."""
    return tuple(
        (16384 // n, n, n, 2048 // d, 2048 // d, d, causal, None)
        for d in (64, 128, 256)
        for causal in (False, True)
        for n in lengths
    )


HOST_ATTENTIONS = tuple(
    (1, n, n, 8, 8, d, causal, None)
    for d in (64, 128)
    for causal in (False, True)
    for n in (512, 1024)
)


def decodes(
    *sizes: tuple[int, int, int, int, int, int, int | None, str],
) -> tuple[Workload, ...]:
    """Batch, queries, keys, heads, KV heads, width, page size, type of keys and values."""
    return tuple(
        Attention(
            batch=b,
            q_len=q,
            kv_len=kv,
            heads=h,
            kv_heads=g,
            head_dim=d,
            page_size=page,
            kv_dtype=kind,
        )
        for b, q, kv, h, g, d, page, kind in sizes
    )


SMALL_DECODES = decodes(
    (1, 1, 1, 1, 1, 64, None, "bf16"),
    (2, 1, 17, 8, 2, 128, None, "bf16"),
    (1, 1, 1025, 8, 1, 128, 16, "bf16"),
    (3, 2, 300, 4, 4, 64, 64, "bf16"),
    (2, 16, 700, 8, 2, 128, None, "bf16"),
    (1, 5, 333, 4, 1, 256, None, "bf16"),
    (2, 1, 513, 8, 2, 128, None, "fp8"),
    (2, 3, 100, 8, 2, 64, 16, "int8"),
    (1, 1, 4000, 16, 2, 256, 64, "fp8"),
    (7, 1, 129, 8, 8, 128, 16, "int8"),
    (1, 1, 128, 8, 8, 128, None, "bf16"),
    (1, 1, 129, 1, 1, 64, 16, "bf16"),
    (1, 16, 2000, 4, 2, 64, None, "bf16"),
    (1, 1, 20000, 4, 1, 128, None, "bf16"),
    (33, 1, 40, 8, 4, 64, 16, "bf16"),
    (2, 7, 600, 12, 4, 256, 64, "bf16"),
    (3, 4, 257, 16, 2, 128, None, "int8"),
    (2, 16, 65, 2, 2, 256, None, "fp8"),
    (1, 2, 3000, 8, 2, 64, None, "fp8"),
    (5, 3, 31, 24, 3, 128, 16, "fp8"),
)
