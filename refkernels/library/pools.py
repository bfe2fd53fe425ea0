"""Random inputs made once and handed out as views, so that a new shape costs no generation.

A case's input set i is a window of the pool; windows of successive sets do not overlap, so that
after enough sets nothing of the first is left in the last-level cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

SIZES = {"bf16": 12e9, "fp16": 9e9, "fp8": 9e9, "int8": 9e9, "fp32": 12e9}
"""Bytes of each pool."""
ALIGN = 256
"""Bytes between starts of operands: what allocators give."""


class Pools:
    """One pool per data type on the current device, made when first asked for."""

    def __init__(self, share: float = 1.0) -> None:
        import torch

        self.torch = torch
        self.share = share
        self.types = {
            "bf16": torch.bfloat16,
            "fp16": torch.float16,
            "fp32": torch.float32,
            "fp8": torch.float8_e4m3fn,
            "int8": torch.int8,
        }
        self._made: dict[str, Any] = {}

    def pool(self, dtype: str) -> Any:
        """The flat pool of ``dtype``."""
        if dtype not in self._made:
            kind = self.types[dtype]
            count = int(SIZES[dtype] * self.share) // kind.itemsize
            flat = self.torch.empty(count, dtype=kind, device="cuda")
            for part in flat.split(2**26):
                noise = self.torch.randn(part.numel(), device="cuda")
                part.copy_((noise * 40.0).clamp_(-127, 127) if dtype == "int8" else noise)
            self._made[dtype] = flat
        return self._made[dtype]

    def windows(self, dtype: str, shapes: Sequence[tuple[int, ...]], sets: int) -> list[list[Any]]:
        """``sets`` groups of views of ``shapes``, as far apart as the pool allows."""
        flat = self.pool(dtype)
        step = ALIGN // flat.element_size()
        lengths = [math.prod(shape) for shape in shapes]
        strides = [-(-n // step) * step for n in lengths]
        room = max(1, flat.numel() // max(sum(strides), 1))
        groups = []
        for i in range(sets):
            at, views = (i % room) * sum(strides), []
            for shape, n, stride in zip(shapes, lengths, strides, strict=True):
                views.append(flat[at : at + n].view(shape))
                at += stride
            groups.append(views)
        return groups
