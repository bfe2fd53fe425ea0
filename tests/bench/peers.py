"""What people would call instead of our kernels, as problems that the bench can time.

torch runs on CuPy's current stream and is captured into a CUDA graph by its own means (its
allocator has to know), so that both are timed by the same events around graph replays.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from perfmodel.workload import Gemm, Workload

HAVE_TORCH = importlib.util.find_spec("torch") is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """Somebody else's kernel for a workload; ``build(sets)`` gives the call that runs set i."""

    framework: str
    kernel: str
    workload: Workload
    build: Callable[[int], Callable[[int], None]]


def peers(workload: Workload) -> Iterator[Peer]:
    """The peers of one workload that are importable here."""
    if not HAVE_TORCH:
        return
    if workload.op == "elementwise":
        yield Peer(framework="torch", kernel="copy_", workload=workload, build=_copy(workload))
    if isinstance(workload, Gemm) and workload.dtype == "int8":
        yield from _gemm_peers(workload)


def capture_torch(body: Callable[[], None], stream: Any) -> Callable[[], None]:
    """As ``capture_cupy``, through torch's graph and its private memory pool."""
    import torch

    external = torch.cuda.ExternalStream(stream.ptr)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=external):
        body()

    def replay() -> None:
        with torch.cuda.stream(external):
            graph.replay()

    return replay


def _on_current_stream(call: Callable[[int], Any]) -> Callable[[int], None]:
    import cupy
    import torch

    def run(i: int) -> None:
        with torch.cuda.stream(torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)):
            call(i)

    return run


def _copy(workload: Workload) -> Callable[[int], Callable[[int], None]]:
    def build(sets: int) -> Callable[[int], None]:
        import torch

        size = int(np.asarray(workload.elements))
        pairs = [
            (torch.randn(size, device="cuda"), torch.empty(size, device="cuda"))
            for _ in range(sets)
        ]
        return _on_current_stream(lambda i: pairs[i][1].copy_(pairs[i][0]))

    return build


def _gemm_peers(w: Gemm) -> Iterator[Peer]:
    wide = dataclasses.replace(w, out_dtype="int32")
    fp8 = dataclasses.replace(
        w, dtype="fp8", weight_dtype="fp8", acc_dtype="fp32", out_dtype="bf16"
    )
    bf16 = dataclasses.replace(
        w, dtype="bf16", weight_dtype="bf16", acc_dtype="fp32", out_dtype="bf16"
    )
    if int(np.asarray(w.m)) > 16:  # _int_mm refuses fewer rows
        yield Peer(framework="torch", kernel="_int_mm", workload=wide, build=_int_mm(w))
    yield Peer(framework="torch", kernel="_scaled_mm", workload=fp8, build=_scaled_mm(w))
    yield Peer(framework="torch", kernel="matmul", workload=bf16, build=_matmul(w))


def _sizes(w: Gemm) -> tuple[int, int, int]:
    return int(np.asarray(w.m)), int(np.asarray(w.n)), int(np.asarray(w.k))


def _int_mm(w: Gemm) -> Callable[[int], Callable[[int], None]]:
    def build(sets: int) -> Callable[[int], None]:
        import torch

        m, n, k = _sizes(w)

        def bytes_of(rows: int) -> Any:
            return torch.randint(-127, 128, (rows, k), dtype=torch.int8, device="cuda")

        inputs = [(bytes_of(m), bytes_of(n).t()) for _ in range(sets)]
        return _on_current_stream(lambda i: torch._int_mm(*inputs[i]))

    return build


def _scaled_mm(w: Gemm) -> Callable[[int], Callable[[int], None]]:
    def build(sets: int) -> Callable[[int], None]:
        import torch

        m, n, k = _sizes(w)
        one = torch.ones((), device="cuda")

        def narrow(rows: int) -> Any:
            return torch.randn(rows, k, device="cuda").to(torch.float8_e4m3fn)

        inputs = [(narrow(m), narrow(n).t()) for _ in range(sets)]
        return _on_current_stream(
            lambda i: torch._scaled_mm(
                *inputs[i], scale_a=one, scale_b=one, out_dtype=torch.bfloat16
            )
        )

    return build


def _matmul(w: Gemm) -> Callable[[int], Callable[[int], None]]:
    def build(sets: int) -> Callable[[int], None]:
        import torch

        m, n, k = _sizes(w)

        def rows_of(rows: int) -> Any:
            return torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)

        inputs = [(rows_of(m), rows_of(n).t()) for _ in range(sets)]
        return _on_current_stream(lambda i: torch.matmul(*inputs[i]))

    return build
