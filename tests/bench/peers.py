"""What people would call instead of our kernels, as calls that the bench can time."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from perfmodel.workload import Gemm, Workload
from refkernels.int8_gemm import peers as products

HAVE_TORCH = importlib.util.find_spec("torch") is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """Somebody else's kernel for a workload; ``build(sets)`` gives the call that runs set i."""

    kernel: str
    workload: Workload
    build: Callable[[int], Callable[[int], None]]


def peers(workload: Workload) -> Iterator[Peer]:
    """The peers of one workload."""
    if workload.op == "elementwise":
        yield Peer(kernel="torch.Tensor.copy_", workload=workload, build=_copy(workload))
    if isinstance(workload, Gemm) and workload.dtype == "int8":
        yield from _products(workload)


def _products(w: Gemm) -> Iterator[Peer]:
    m, n, k = (int(np.asarray(size)) for size in (w.m, w.n, w.k))
    for name, peer in products.PEERS.items():
        rows = max(m, 17) if name == "torch._int_mm" else m  # it refuses 16 rows and fewer
        same = Gemm(m=rows, n=n, k=k, dtype=peer.dtype, out_dtype=peer.out_dtype)
        yield Peer(kernel=name, workload=same, build=_bound(peer, rows, n, k))


def _bound(peer: products.Peer, m: int, n: int, k: int) -> Callable[[int], Callable[[int], None]]:
    return lambda sets: peer.prepare(m, n, k, sets)


def _copy(workload: Workload) -> Callable[[int], Callable[[int], None]]:
    def build(sets: int) -> Callable[[int], None]:
        import cupy
        import torch

        size = int(np.asarray(workload.elements))
        pairs: list[Any] = [torch.randn(2, size, device="cuda").unbind() for _ in range(sets)]

        def run(i: int) -> None:
            stream = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)
            with torch.cuda.stream(stream):
                pairs[i][1].copy_(pairs[i][0])

        return run

    return build
