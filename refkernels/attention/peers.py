"""What people would call instead, through torch: cuDNN's and FlashAttention-2's kernels.

PyTorch's own choice between them varies with its version, so each is asked for by name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from perfmodel.workload import Attention
from refkernels.attention.problem import shapes, size

Call = Callable[[int], None]
BACKENDS = {
    "cuDNN (torch SDPA)": "CUDNN_ATTENTION",
    "FlashAttention-2 (torch SDPA)": "FLASH_ATTENTION",
}


def peers_of(w: Attention) -> dict[str, Callable[[int], Call]]:
    """Name -> ``prepare(sets)`` of the peers that compute this workload; none without torch.

    They know no window, no sigmoid, no pages and no bytes, and align a causal mask top-left where
    lengths differ; decoding of one query needs no mask.
    """
    one_query = size(w.q_len) == 1
    plain = w.score == "softmax" and w.window is None and w.page_size is None
    aligned = not w.causal or one_query or size(w.q_len) == size(w.kv_len)
    if not (plain and aligned and w.kv_dtype == w.dtype and importlib.util.find_spec("torch")):
        return {}
    return {name: _prepare(w, backend) for name, backend in BACKENDS.items()}


def framework() -> str:
    """``"torch 2.11.0"``."""
    import torch

    return f"torch {torch.__version__}"


def _prepare(w: Attention, backend: str) -> Callable[[int], Call]:
    def prepare(sets: int) -> Call:
        import torch

        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[str(w.dtype)]
        inputs = [_inputs(w, dtype) for _ in range(sets)]
        causal = bool(w.causal) and size(w.q_len) > 1
        grouped = size(w.heads) != size(w.kv_heads)
        return lambda i: _attend(inputs[i], backend, causal, grouped)

    return prepare


def _inputs(w: Attention, dtype: Any) -> list[Any]:
    """q, k, v as [batch, heads, length, d], contiguous: the layout these kernels are timed in."""
    import torch

    q, kv = shapes(w)
    turned = [(s[0], s[2], s[1], s[3]) for s in (q, kv, kv)]
    return [torch.randn(s, device="cuda", dtype=torch.float32).to(dtype) for s in turned]


def _attend(inputs: list[Any], backend: str, causal: bool, grouped: bool) -> None:
    import cupy
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    stream = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)
    with torch.no_grad(), torch.cuda.stream(stream), sdpa_kernel(getattr(SDPBackend, backend)):
        scaled_dot_product_attention(*inputs, is_causal=causal, enable_gqa=grouped)
