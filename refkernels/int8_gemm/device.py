"""Launches the CUDA ladder. Nothing here waits for the device.

:func:`int8_gemm` allocates and runs; :func:`bind` and :func:`prepare` do everything but the launch
once, for timing, graphs and inference loops with fixed buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue, UnknownName
from refkernels._clusters import resident_clusters
from refkernels._compile import compile_kernel, device_capability
from refkernels._launch import (
    STORAGE,
    Kernel,
    as_device_array,
    launch,
    load_kernel,
    params_struct,
    tensor_map,
)
from refkernels._plan import ceil_div
from refkernels._sources import kernel_source, read_spec
from refkernels.int8_gemm.naive import check_operands

OUT_CODES = {"int32": 0, "fp32": 1, "fp16": 2, "bf16": 3}
"""Output types, numbered as problem.cuh numbers them."""

SKINNY_TILES = (8, 16, 32, 64)
"""Activation rows that rung 6 is compiled for."""

RESIDENT_BLOCKS = 8
"""Blocks of 256 bytes of k whose activations a CTA of rung 6 can keep in shared memory."""

ROW_BYTES = 16
"""Operand and output rows start at multiples of this: TMA, cp.async and vector stores need it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A launch with its arguments bound; calling it enqueues it on CuPy's current stream."""

    kernel: Kernel
    grid: int
    threads: int
    smem: int
    params: NDArray[Any]
    maps: tuple[NDArray[Any], ...] = ()
    keep: tuple[Any, ...] = ()
    """Arrays whose addresses the parameters hold."""

    def __call__(self) -> None:
        """Enqueue the kernel."""
        launch(self.kernel, (self.grid,), (self.threads,), self.params, *self.maps, smem=self.smem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """Checked device arrays of one product; scales and bias are fp32 or None."""

    a: Any
    b: Any
    out: Any
    row_scale: Any
    col_scale: Any
    bias: Any
    k: int
    out_dtype: str

    @property
    def m(self) -> int:
        """Rows of activations."""
        return int(self.a.shape[0])

    @property
    def n(self) -> int:
        """Rows of weights."""
        return int(self.b.shape[0])


def int8_gemm(
    a: Any,
    b: Any,
    *,
    row_scale: Any = None,
    col_scale: Any = None,
    bias: Any = None,
    out_dtype: str = "bf16",
    kernel: str | None = None,
) -> Any:
    """``row_scale * col_scale * (a @ b.T) + bias`` on the device; ``a`` [m, k], ``b`` [n, k] int8.

    The result is a CuPy array [m, n] (bf16 as uint16 bits) whose rows may be padded to 16 bytes.
    ``out_dtype="int32"`` gives the exact sums and takes no scales. ``kernel`` names a rung of
    :data:`RUNGS`; by default the fastest one for this shape and device.

    Raises:
        BadValue: operands of the wrong type or shape, k above ``naive.MAX_K``, missing scales.
        UnknownName: no such rung or output type.
    """
    bound = bind(a, b, row_scale=row_scale, col_scale=col_scale, bias=bias, out_dtype=out_dtype)
    prepare(bound, kernel)()
    return bound.out


def bind(
    a: Any,
    b: Any,
    *,
    row_scale: Any = None,
    col_scale: Any = None,
    bias: Any = None,
    out_dtype: str = "bf16",
    out: Any = None,
) -> Operands:
    """Check the operands of a product, pad rows where k needs it, and make room for the output.

    ``out`` is a buffer from :func:`empty_output`. Operands whose k is a multiple of 16 are used
    where they are; others are copied into padded rows (:func:`padded_rows` pads weights once).
    """
    if out_dtype not in OUT_CODES:
        raise UnknownName("output dtype", out_dtype, OUT_CODES)
    left = as_device_array(a, "a", dtype="int8", shape=(None, None))
    right = as_device_array(b, "b", dtype="int8", shape=(None, left.shape[1]))
    m, n, k = left.shape[0], right.shape[0], left.shape[1]
    check_operands(m, n, k)
    scales = {"row_scale": (row_scale, m), "col_scale": (col_scale, n), "bias": (bias, n)}
    checked = {
        name: None if x is None else vector(x, name, size) for name, (x, size) in scales.items()
    }
    _check_scales(checked, out_dtype)
    return Operands(
        a=padded_rows(left),
        b=padded_rows(right),
        out=empty_output(m, n, out_dtype) if out is None else out,
        k=k,
        out_dtype=out_dtype,
        **checked,
    )


def vector(x: Any, name: str, size: int) -> Any:
    """``x`` as an fp32 vector of ``size`` on the device."""
    return as_device_array(x, name, dtype="fp32", shape=(size,), alignment=4)


def _check_scales(checked: Mapping[str, Any], out_dtype: str) -> None:
    raw = out_dtype == "int32"
    for name, array in checked.items():
        if raw and array is not None:
            msg = "int32 output is the plain sum, it takes no scales and no bias"
            raise BadValue(msg, field=name, fix='out_dtype="fp32"')
        if not raw and array is None and name != "bias":
            msg = f"is needed for {out_dtype} output"
            raise BadValue(msg, field=name, fix='an fp32 vector, or out_dtype="int32"')


def padded_rows(x: Any) -> Any:
    """``x`` with rows padded by zeros to a multiple of 16 bytes; itself if they already are."""
    import cupy

    rows, cols = x.shape
    pitch = round_up(cols * x.dtype.itemsize, ROW_BYTES) // x.dtype.itemsize
    if pitch == cols:
        return x
    padded = cupy.zeros((rows, pitch), x.dtype)
    padded[:, :cols] = x
    return padded


def empty_output(m: int, n: int, out_dtype: str) -> Any:
    """An uninitialised [m, n] view of a buffer whose rows start at multiples of 16 bytes."""
    import cupy

    dtype = np.dtype(STORAGE[out_dtype])
    pitch = round_up(n * dtype.itemsize, ROW_BYTES) // dtype.itemsize
    return cupy.empty((m, pitch), dtype)[:, :n]


def round_up(value: int, unit: int) -> int:
    """The least multiple of ``unit`` that is at least ``value``."""
    return ceil_div(value, unit) * unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """Outlier columns gathered side by side, and how many there are (on the device)."""

    x: Any
    w: Any
    count: Any
    define: dict[str, int]


# ---------------------------------------------------------------- the rungs


def prepare(
    x: Operands, kernel: str | None = None, defines: Mapping[str, int] | None = None
) -> Prepared:
    """Bind a rung to operands; ``defines`` override compile-time constants (see the source).

    Raises:
        UnknownName: no such rung.
        BadValue: the rung does not run on this device, or takes fewer rows.
    """
    name = kernel or default_rung(x.m)
    if name not in RUNGS:
        raise UnknownName("rung", name, RUNGS)
    return RUNGS[name](name, x, dict(defines or {}))


def default_rung(m: int) -> str:
    """The fastest rung for ``m`` rows on the current device."""
    capability = device_capability()
    if capability == "90":
        return "06_skinny" if m <= SKINNY_TILES[-1] else "05_cluster_multicast"
    return "02_mma_sync" if int(capability) >= 80 else "01_dp4a"


def loaded(
    name: str, defines: Mapping[str, int], entry: str = "int8_gemm"
) -> tuple[Kernel, int, int]:
    """The kernel, its threads per block and its dynamic shared memory."""
    source = kernel_source(f"int8_gemm/{name}.cu")
    spec = read_spec(source)
    return (
        load_kernel(compile_kernel(source, defines=defines), entry),
        spec.threads,
        spec.dynamic_smem,
    )


def _problem(x: Operands, **more: Any) -> NDArray[Any]:
    """``Problem`` of problem.cuh, and what a rung's own struct appends to it."""
    null = np.uint64(0)
    return params_struct(
        a=x.a,
        b=x.b,
        out=np.uint64(x.out.data.ptr),
        row_scale=null if x.row_scale is None else x.row_scale,
        col_scale=null if x.col_scale is None else x.col_scale,
        bias=null if x.bias is None else x.bias,
        outlier_count=more.pop("outlier_count", null),
        m=x.m,
        n=x.n,
        k=x.k,
        lda=x.a.shape[1],
        ldb=x.b.shape[1],
        ldo=x.out.strides[0] // x.out.itemsize,
        outlier_cap=more.pop("outlier_cap", 0),
        **more,
    )


def _byte_map(x: Any, rows: int) -> NDArray[Any]:
    """Tiles of ``rows`` x 128 bytes with the 128-byte swizzle."""
    return tensor_map(x, (rows, 128 // x.dtype.itemsize))


def _plain(tile_m: int, tile_n: int, mapped: bool) -> Callable[..., Prepared]:
    """Rungs 1 to 4: one CTA per tile; 3 and 4 read their operands through maps."""

    def build(name: str, x: Operands, defines: dict[str, int]) -> Prepared:
        kernel, threads, smem = loaded(name, {"OUT": OUT_CODES[x.out_dtype], **defines})
        maps = (_byte_map(x.a, tile_m), _byte_map(x.b, tile_n)) if mapped else ()
        return Prepared(
            kernel=kernel,
            grid=ceil_div(x.m, tile_m) * ceil_div(x.n, tile_n),
            threads=threads,
            smem=smem,
            params=_problem(x),
            maps=maps,
            keep=(x,),
        )

    return build


def _output_map(x: Operands) -> NDArray[Any]:
    itemsize = x.out.itemsize
    return tensor_map(x.out, (64, 128 // itemsize), strides=(x.out.strides[0], itemsize))


def clustered(
    name: str, x: Operands, defines: dict[str, int], outliers: Outliers | None = None
) -> Prepared:
    """Rung 5: as many CTAs as SMs, in pairs, each pair working tiles of 256 x 256."""
    tile_m, tile_n = 128, 256
    codes = {"OUT": OUT_CODES[x.out_dtype], **defines}
    kernel, threads, smem = loaded(name, codes | (outliers.define if outliers else {}))
    cluster = kernel.cluster
    tiles = ceil_div(x.m, tile_m * cluster) * ceil_div(x.n, tile_n)
    maps = [_byte_map(x.a, tile_m), _byte_map(x.b, tile_n // cluster), _output_map(x)]
    more: dict[str, Any] = {}
    if outliers:
        maps += [_byte_map(outliers.x, tile_m), _byte_map(outliers.w, tile_n // cluster)]
        more = {"outlier_count": outliers.count, "outlier_cap": int(outliers.x.shape[1])}
    return Prepared(
        kernel=kernel,
        grid=min(resident_clusters(kernel, threads=threads, smem=smem), tiles) * cluster,
        threads=threads,
        smem=smem,
        params=_problem(x, **more),
        maps=tuple(maps),
        keep=(x, outliers),
    )


def _skinny(name: str, x: Operands, defines: dict[str, int]) -> Prepared:
    """Rung 6: pairs of CTAs share a tile of 64 weight rows and split its k."""
    if x.m > SKINNY_TILES[-1]:
        msg = f"rung {name} takes at most {SKINNY_TILES[-1]} rows, got {x.m}"
        raise BadValue(msg, field="m", fix="05_cluster_multicast")
    tile_m = next(t for t in SKINNY_TILES if t >= x.m)
    resident = int(ceil_div(x.k, 256) <= 2 * RESIDENT_BLOCKS)
    codes = {"OUT": OUT_CODES[x.out_dtype], "TILE_M": tile_m, "RESIDENT": resident, **defines}
    kernel, threads, smem = loaded(name, codes)
    clusters = resident_clusters(kernel, threads=threads, smem=smem)
    return Prepared(
        kernel=kernel,
        grid=min(clusters, ceil_div(x.n, 64)) * kernel.cluster,
        threads=threads,
        smem=smem,
        params=_problem(x),
        maps=(_byte_map(x.a, tile_m), _byte_map(x.b, 64)),
        keep=(x,),
    )


RUNGS: dict[str, Callable[..., Prepared]] = {
    "01_dp4a": _plain(128, 128, mapped=False),
    "02_mma_sync": _plain(128, 256, mapped=False),
    "03_wgmma_tma": _plain(128, 128, mapped=True),
    "04_warp_specialised": _plain(128, 256, mapped=True),
    "05_cluster_multicast": clustered,
    "06_skinny": _skinny,
}
"""The ladder: name (of the source file) -> how it is bound to operands."""
