"""Cases as calls through torch: ``build(case, pools, sets)`` gives the call on input set i."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.errors import BadValue, MissingExtra
from perfmodel.workload import (
    Attention,
    DeltaRule,
    Elementwise,
    Gemm,
    LinearAttention,
    Norm,
    Ssd,
)
from refkernels.library import mixers
from refkernels.library.cases import Case
from refkernels.library.pools import Pools

Call = Callable[[int], Any]


def build(case: Case, pools: Pools, sets: int) -> Call:
    """The call of ``case`` on input set i, which returns its result.

    Raises:
        MissingExtra: a package that the kernel lives in is not installed.
        BadValue: nothing here runs this workload.
    """
    work = case.workload
    match work:
        case Gemm():
            return _product(work, case.kernel, pools, sets)
        case Attention():
            return _attention(work, case.kernel, pools, sets)
        case Norm():
            return _norm(work, pools, sets)
        case Elementwise():
            return _elementwise(work, pools, sets)
        case LinearAttention() | DeltaRule() | Ssd():
            return mixers.build(work, case.kernel, pools, sets)
    msg = f"nothing runs {work.op}"
    raise BadValue(msg, field="workload")


def _product(w: Gemm, kernel: str, pools: Pools, sets: int) -> Call:
    torch = pools.torch
    m, n, k = int(w.m), int(w.n), int(w.k)
    given = pools.windows(w.dtype, [(m, k), (n, k)], sets)
    if w.dtype == "fp8":
        scale = torch.ones((), device="cuda")
        fast = kernel.endswith("fast")
        return lambda i: torch._scaled_mm(
            given[i][0], given[i][1].t(), scale, scale, out_dtype=torch.bfloat16,
            use_fast_accum=fast,
        )  # fmt: skip
    if w.dtype == "int8":
        sums = torch.empty((m, n), dtype=torch.int32, device="cuda")
        return lambda i: torch._int_mm(given[i][0], given[i][1].t(), out=sums)
    out = torch.empty((m, n), dtype=given[0][0].dtype, device="cuda")
    return lambda i: torch.matmul(given[i][0], given[i][1].t(), out=out)


def _attention(w: Attention, kernel: str, pools: Pools, sets: int) -> Call:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    attend = pools.torch.nn.functional.scaled_dot_product_attention
    backend = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    chosen = backend[kernel.split("/", maxsplit=1)[0]]
    assert w.kv_heads is not None
    batch, heads, kv, dim = (int(x) for x in (w.batch, w.heads, w.kv_heads, w.head_dim))
    shapes = [(batch, heads, int(w.q_len), dim), *[(batch, kv, int(w.kv_len), dim)] * 2]
    given = pools.windows(w.dtype, shapes, sets)
    masked, grouped = int(w.q_len) > 1, heads != kv

    def call(i: int) -> Any:
        with sdpa_kernel([chosen]):
            return attend(*given[i], is_causal=masked, enable_gqa=grouped)

    return call


def _norm(w: Norm, pools: Pools, sets: int) -> Call:
    functional, cols = pools.torch.nn.functional, int(w.cols)
    given = pools.windows(w.dtype, [(int(w.rows), cols), (cols,), (cols,)], sets)
    if w.kind == "softmax":
        return lambda i: functional.softmax(given[i][0], -1)
    if w.kind == "rms":
        return lambda i: functional.rms_norm(given[i][0], (cols,), given[i][1], 1e-6)
    return lambda i: functional.layer_norm(given[i][0], (cols,), given[i][1], given[i][2])


def _elementwise(w: Elementwise, pools: Pools, sets: int) -> Call:
    torch, n = pools.torch, int(w.elements)
    if w.name in ("rope", "silu_mul"):
        return _fused(w, pools, sets)
    given = pools.windows(w.dtype, [(n,)] * int(float(w.reads)), sets)
    if w.name == "sum":
        return lambda i: torch.sum(given[i][0])
    out = torch.empty(n, dtype=given[0][0].dtype, device="cuda")
    if w.name == "copy":
        return lambda i: out.copy_(given[i][0])
    if w.name in ("add", "mul", "relu"):
        function = getattr(torch, w.name) if w.name != "relu" else torch.clamp_min
        extra = (0.0,) if w.name == "relu" else ()
        return lambda i: function(*given[i], *extra, out=out)
    activate = getattr(torch.nn.functional, w.name)
    return lambda i: activate(given[i][0])


_COMPILED: dict[str, Any] = {}


def _fused(w: Elementwise, pools: Pools, sets: int) -> Call:
    """What eager torch would take several kernels for, compiled once for all sizes."""
    torch = pools.torch
    cols = int(w.cols or 1)
    rows = int(w.elements) // cols
    if w.name not in _COMPILED:
        body = rotate if w.name == "rope" else gate
        _COMPILED[w.name] = torch.compile(body, dynamic=True)
    run = _COMPILED[w.name]
    if w.name == "silu_mul":
        given = pools.windows(w.dtype, [(rows, cols)] * 2, sets)
    else:
        heads = cols // ROTATED
        shapes = [(rows, heads, ROTATED), (rows, 1, ROTATED), (rows, 1, ROTATED)]
        given = pools.windows(w.dtype, shapes, sets)
    return lambda i: run(*given[i])


ROTATED = 128
"""Head dimension of rotary embeddings timed here."""


def rotate(x: Any, cosine: Any, sine: Any) -> Any:
    """Rotary embedding of the two halves of the last axis (Su et al., arXiv:2104.09864)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    import torch

    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def gate(x: Any, y: Any) -> Any:
    """SiLU(x) * y, the middle of a gated feed-forward."""
    import torch

    return torch.nn.functional.silu(x) * y


def require_torch() -> None:
    """Raises MissingExtra without torch and a CUDA device that it can use."""
    try:
        import torch
    except ImportError:
        msg = "torch is not installed"
        raise MissingExtra(msg, fix="run this where torch sees a CUDA device") from None
    if not torch.cuda.is_available():
        msg = "torch sees no CUDA device"
        raise MissingExtra(msg, fix="run this on a machine with one")
