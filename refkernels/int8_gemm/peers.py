"""What people would call instead, through torch: its int8, fp8 and bf16 matrix products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refkernels._timing import Replay

Call = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One library product; ``prepare(m, n, k, sets)`` returns the call on input set i."""

    prepare: Callable[[int, int, int, int], Call]
    dtype: str
    out_dtype: str
    in_bytes: int
    out_bytes: int


def framework() -> str:
    """``"torch 2.11.0"``."""
    import torch

    return f"torch {torch.__version__}"


def _on_current_stream(body: Callable[[], None]) -> None:
    """Run ``body`` with torch's current stream set to CuPy's."""
    import cupy
    import torch

    pointer = cupy.cuda.get_current_stream().ptr
    with torch.cuda.stream(torch.cuda.ExternalStream(pointer)):
        body()


def capture_torch(body: Callable[[], None], stream: Any) -> Replay:
    """Capture by torch's own graph, whose allocator knows what may happen inside."""
    import torch

    external = torch.cuda.ExternalStream(stream.ptr)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=external, capture_error_mode="relaxed"):
        body()

    def replay() -> None:
        with torch.cuda.stream(external):
            graph.replay()

    return replay


def _bytes(rows: int, k: int) -> Any:
    import torch

    out = torch.empty((rows, k), dtype=torch.int8, device="cuda")
    for part in out.split(1024):
        part.copy_((torch.randn(part.shape, device="cuda") * 30).round().clamp(-127, 127))
    return out


def _normal(rows: int, k: int, dtype: Any) -> Any:
    import torch

    out = torch.empty((rows, k), dtype=dtype, device="cuda")
    for part in out.split(1024):
        part.copy_(torch.randn(part.shape, device="cuda"))
    return out


def _int_mm(m: int, n: int, k: int, sets: int) -> Call:
    import torch

    a, b = ([_bytes(rows, k) for _ in range(sets)] for rows in (m, n))
    out = torch.empty((m, n), dtype=torch.int32, device="cuda")
    return lambda i: _on_current_stream(lambda: torch._int_mm(a[i], b[i].t(), out=out))


def _matmul_bf16(m: int, n: int, k: int, sets: int) -> Call:
    import torch

    a, b = ([_normal(rows, k, torch.bfloat16) for _ in range(sets)] for rows in (m, n))
    out = torch.empty((m, n), dtype=torch.bfloat16, device="cuda")
    return lambda i: _on_current_stream(lambda: torch.matmul(a[i], b[i].t(), out=out))


def _scaled_mm(rowwise: bool, fast: bool) -> Callable[[int, int, int, int], Call]:
    def prepare(m: int, n: int, k: int, sets: int) -> Call:
        import torch

        a, b = ([_normal(rows, k, torch.float8_e4m3fn) for _ in range(sets)] for rows in (m, n))
        shapes = ((m, 1), (1, n)) if rowwise else ((), ())
        scales = [torch.full(shape, 0.01, device="cuda") for shape in shapes]

        def call(i: int) -> None:
            torch._scaled_mm(a[i], b[i].t(), *scales, out_dtype=torch.bfloat16, use_fast_accum=fast)

        return lambda i: _on_current_stream(lambda: call(i))

    return prepare


def _fp8(rowwise: bool, fast: bool) -> Peer:
    return Peer(
        prepare=_scaled_mm(rowwise, fast), dtype="fp8", out_dtype="bf16", in_bytes=1, out_bytes=2
    )


PEERS: dict[str, Peer] = {
    "torch._int_mm": Peer(
        prepare=_int_mm, dtype="int8", out_dtype="int32", in_bytes=1, out_bytes=4
    ),
    "torch._scaled_mm": _fp8(rowwise=False, fast=False),
    "torch._scaled_mm fast": _fp8(rowwise=False, fast=True),
    "torch._scaled_mm rowwise": _fp8(rowwise=True, fast=True),
    "torch.matmul bf16": Peer(
        prepare=_matmul_bf16, dtype="bf16", out_dtype="bf16", in_bytes=2, out_bytes=2
    ),
}
"""fp8 per tensor with exact and with fast accumulation, and per row (fast, its only fast form)."""

NAMES = tuple(PEERS)
