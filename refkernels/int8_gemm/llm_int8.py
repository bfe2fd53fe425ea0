"""Row-wise dynamic quantisation and LLM.int8() on the device: three launches, no wait.

quantise.cu turns 16-bit activations into bytes and lists the outlier columns; a second kernel
gathers those columns; rung 5 multiplies both parts into one result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import BadValue, UnknownName
from refkernels._launch import as_device_array, params_struct
from refkernels._plan import ceil_div
from refkernels.int8_gemm.device import (
    OUT_CODES,
    ROW_BYTES,
    Operands,
    Outliers,
    Prepared,
    clustered,
    empty_output,
    loaded,
    padded_rows,
    round_up,
    vector,
)
from refkernels.int8_gemm.naive import OUTLIER_THRESHOLD, check_operands

MAX_OUTLIERS = 256
"""Default room for outlier columns; more of them make the result NaN."""

MOST_OUTLIERS = 1024
"""Outlier columns that quantise.cu can list."""

STEP = 64
"""Outlier columns per stage of the product's ring: 128 bytes of 16-bit values."""

SHORT_ROW = 4096
"""Longest row that two warps of quantise.cu keep in registers; longer ones get a whole block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """A bound quantisation: rows of ``x`` to bytes ``q`` with one scale each."""

    launch: Prepared
    x: Any
    q: Any
    scale: Any
    flags: Any

    def __call__(self) -> None:
        """Enqueue it."""
        self.launch()


def prepare_quantise(x: Any, *, dtype: str = "bf16", threshold: float | None = None) -> Quantiser:
    """Bind row-wise dynamic quantisation of 16-bit ``x`` [m, k]; see ``naive.quantise_rows``.

    With a ``threshold`` columns with an outlier are flagged too, for :func:`prepare_llm_int8` to
    clear and to multiply in 16 bits.
    """
    import cupy

    if dtype not in ("bf16", "fp16"):
        raise UnknownName("activation dtype", dtype, ("bf16", "fp16"))
    array = as_device_array(x, "x", dtype=dtype, shape=(None, None))
    m, k = array.shape
    check_operands(m, 1, k)
    q, scale = cupy.empty((m, round_up(k, ROW_BYTES)), cupy.int8), cupy.empty(m, cupy.float32)
    flags = cupy.zeros(ceil_div(k, 32), cupy.uint32)
    row_warps = 2 if k <= SHORT_ROW else 8
    defines = {"IN": OUT_CODES[dtype], "ROW_WARPS": row_warps}
    kernel, threads, smem = loaded("quantise", defines, "quantise_rows")
    params = params_struct(
        x=array,
        q=q,
        scale=scale,
        flags=flags if threshold is not None else np.uint64(0),
        m=m,
        k=k,
        ldx=k,
        ldq=q.shape[1],
        threshold=float(threshold or 0.0),
    )
    bound = Prepared(
        kernel=kernel,
        grid=ceil_div(m * row_warps * 32, threads),
        threads=threads,
        smem=smem,
        params=params,
        keep=(array, q, scale, flags),
    )
    return Quantiser(launch=bound, x=array, q=q, scale=scale, flags=flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmInt8:
    """Three bound launches: quantise, gather outliers, multiply."""

    quantise: Quantiser
    gather: Prepared
    multiply: Prepared
    out: Any

    def __call__(self) -> None:
        """Enqueue them."""
        self.quantise()
        self.gather()
        self.multiply()


def prepare_llm_int8(
    x: Any,
    b: Any,
    col_scale: Any,
    *,
    bias: Any = None,
    dtype: str = "bf16",
    out_dtype: str | None = None,
    threshold: float = OUTLIER_THRESHOLD,
    max_outliers: int = MAX_OUTLIERS,
) -> LlmInt8:
    """Bind LLM.int8() of 16-bit ``x`` [m, k] with int8 weights ``b`` [n, k] (needs sm_90).

    ``dtype`` is the type of ``x`` (bf16 or fp16) and by default of the result. More than
    ``max_outliers`` outlier columns (rounded up to a multiple of 64) make the result NaN: the
    count stays on the device, where the host would have to wait for it.
    """
    import cupy

    if not 1 <= max_outliers <= MOST_OUTLIERS:
        msg = f"must be 1 to {MOST_OUTLIERS}, got {max_outliers}"
        raise BadValue(msg, field="max_outliers")
    quantise = prepare_quantise(x, dtype=dtype, threshold=threshold)
    m, k = quantise.x.shape
    weights = as_device_array(b, "b", dtype="int8", shape=(None, k))
    n = int(weights.shape[0])
    kind = out_dtype or dtype
    operands = Operands(
        a=quantise.q,
        b=padded_rows(weights),
        out=empty_output(m, n, kind),
        row_scale=quantise.scale,
        col_scale=vector(col_scale, "col_scale", n),
        bias=None if bias is None else vector(bias, "bias", n),
        k=k,
        out_dtype=kind,
    )
    cap = round_up(max_outliers, STEP)
    held = Outliers(
        x=cupy.empty((m, cap), cupy.uint16),
        w=cupy.empty((n, cap), cupy.uint16),
        count=cupy.zeros(1, cupy.int32),
        define={"OUTLIERS": {"bf16": 1, "fp16": 2}[dtype]},
    )
    return LlmInt8(
        quantise=quantise,
        gather=_gather(quantise, operands, held, dtype),
        multiply=clustered("05_cluster_multicast", operands, {}, held),
        out=operands.out,
    )


def _gather(quantise: Quantiser, x: Operands, held: Outliers, dtype: str) -> Prepared:
    import cupy

    defines = {"IN": OUT_CODES[dtype], "ROW_WARPS": 2}
    kernel, threads, smem = loaded("quantise", defines, "gather_outliers")
    arrived = cupy.zeros(1, cupy.int32)
    params = params_struct(
        x=quantise.x,
        q=quantise.q,
        scale=quantise.scale,
        w=x.b,
        x_outlier=held.x,
        w_outlier=held.w,
        flags=quantise.flags,
        count=held.count,
        arrived=arrived,
        m=x.m,
        n=x.n,
        k=x.k,
        ldx=quantise.x.shape[1],
        ldq=quantise.q.shape[1],
        ldw=x.b.shape[1],
        cap=int(held.x.shape[1]),
    )
    sms = int(cupy.cuda.Device().attributes["MultiProcessorCount"])
    grid = min(ceil_div((x.m + x.n) * 32, threads), 4 * sms)
    return Prepared(
        kernel=kernel,
        grid=grid,
        threads=threads,
        smem=smem,
        params=params,
        keep=(quantise, x, held, arrived),
    )


def llm_int8(x: Any, b: Any, col_scale: Any, **options: Any) -> Any:
    """Run LLM.int8() once and return the result; options as :func:`prepare_llm_int8`."""
    bound = prepare_llm_int8(x, b, col_scale, **options)
    bound()
    return bound.out
