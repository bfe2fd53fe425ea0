"""Random problems for the gates: shapes, masks, groupings, and inputs drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refkernels._check import narrow_bf16
from refkernels.attention.naive import Form

LENGTHS = (1, 2, 17, 63, 64, 65, 127, 128, 130, 255, 300, 513, 1025)
"""Lengths that break kernels: one, a step beside each tile edge, a few tiles and one more."""

LOUD = 20.0
"""Factor on normal queries that brings scores to about +-80 (four deviations)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One prefill problem; lengths are per sequence."""

    q_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    packed: bool
    heads: int
    kv_heads: int
    head_dim: int
    form: Form
    dtype: str = "bf16"
    loudness: float = 1.0

    @property
    def bounds(self) -> tuple[Any, Any]:
        """Cumulative lengths of queries and keys."""
        lens = (self.q_lens, self.kv_lens)
        q, kv = (np.concatenate(([0], np.cumsum(x))).astype(np.int32) for x in lens)
        return q, kv


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeCase:
    """One decoding problem."""

    kv_lens: tuple[int, ...]
    q_len: int
    heads: int
    kv_heads: int
    head_dim: int
    form: Form
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    page: int = 0
    layout: str = "bshd"
    loudness: float = 1.0


def random_cases(
    count: int, seed: int, *, score: str = "softmax", dtype: str = "bf16"
) -> Iterator[Case]:
    """Every length meets every mask in time; a third are packed sequences of different lengths."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        packed = index % 3 == 0
        count_of = int(rng.integers(2, 6)) if packed else 1
        q_lens, kv_lens = _lengths(rng, count_of), _lengths(rng, count_of)
        batch = 1 if packed else int(rng.integers(1, 3))
        kv_heads = int(rng.choice([1, 2, 3]))
        yield Case(
            q_lens=q_lens * batch,
            kv_lens=(q_lens if index % 2 else kv_lens) * batch,
            packed=packed,
            heads=kv_heads * int(rng.choice([1, 1, 2, 4])),
            kv_heads=kv_heads,
            head_dim=int(rng.choice([64, 128, 256])),
            form=_form(rng, max(kv_lens), score),
            dtype=dtype,
            loudness=LOUD if index % 5 == 0 else 1.0,
        )


def _lengths(rng: np.random.Generator, count: int) -> tuple[int, ...]:
    return tuple(int(x) for x in rng.choice(LENGTHS, count))


def _form(rng: np.random.Generator, longest: int, score: str) -> Form:
    window = [None, None, None, 1, 7, 100, longest][int(rng.integers(7))]
    bias = [None, 0.0, -3.0, -9.0][int(rng.integers(4))]
    scale = [None, 0.05][int(rng.integers(2))]
    return Form(
        causal=bool(rng.integers(2)),
        window=window,
        scale=scale,
        score=score,
        bias=bias if score == "sigmoid" else None,
    )


def random_decodes(
    count: int, seed: int, *, dtype: str = "bf16", kv_dtype: str = "bf16"
) -> Iterator[DecodeCase]:
    """1 to 16 queries, ragged lengths up to a few thousand, pages of 16 and 64 or none; every sixth
    has many sequences, every seventh sequences of one length."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        kv_heads = int(rng.choice([1, 2, 8]))
        q_len = int(rng.choice([1, 1, 2, 5, 16]))
        many = index % 6 == 5
        sequences = int(rng.integers(8, 40) if many else rng.integers(1, 7))
        longest = int(np.exp(rng.uniform(0, np.log(1000 if many else 5000))))
        lens = rng.integers(1, longest + 1, sequences)
        if index % 7 == 3:
            lens[:] = longest
        yield DecodeCase(
            kv_lens=tuple(int(x) for x in lens),
            q_len=q_len,
            heads=kv_heads * int(rng.choice([1, 4, 8])),
            kv_heads=kv_heads,
            head_dim=int(rng.choice([64, 128, 256])),
            form=Form(causal=True, window=[None, None, 1, 100][int(rng.integers(4))]),
            dtype=dtype,
            kv_dtype=kv_dtype,
            page=int(rng.choice([0, 16, 64])),
            layout=str(rng.choice(["bshd", "bhsd"])),
            loudness=LOUD if index % 5 == 0 else 1.0,
        )


def draw(rng: Any, shape: tuple[int, ...], dtype: str, loudness: float = 1.0) -> Any:
    """Normal values of a 16-bit type; bf16 as raw bits. NumPy or CuPy, as the generator."""
    values = rng.standard_normal(shape, dtype=np.float32) * np.float32(loudness)
    return narrow_bf16(values) if dtype == "bf16" else values.astype(np.float16)


def draw_bytes(rng: Any, shape: tuple[int, ...], kv_dtype: str) -> Any:
    """Bytes of quantised normal values: int8, or e4m3 of magnitude below 4 (as uint8)."""
    if kv_dtype == "int8":
        scaled = (rng.standard_normal(shape, dtype=np.float32) * np.float32(40)).round()
        return scaled.clip(-127, 127).astype(np.int8)
    bits = rng.integers(0, 0x48, shape).astype(np.uint8)
    return bits | (rng.integers(0, 2, shape).astype(np.uint8) << 7).astype(np.uint8)


def from_e4m3(bits: Any, xp: Any = np) -> Any:
    """Values of e4m3 bytes (bias 7, 3 bits of fraction, subnormals) as float64; NaN is not kept."""
    wide = bits.astype(xp.int64)
    exponent, fraction = wide >> 3 & 15, (wide & 7) / 8.0
    normal = (1.0 + fraction) * xp.exp2(exponent - 7.0)
    magnitude = xp.where(exponent == 0, fraction * 2.0**-6, normal)
    return xp.where(wide & 0x80, -magnitude, magnitude)
