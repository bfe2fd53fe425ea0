"""Launches the CUDA ladder of prefill attention. Nothing here waits for the device.

:func:`flash_attention` allocates and runs; :func:`bind` and :func:`prepare` do everything but the
launch once, for timing, graphs and loops with fixed buffers. Sigmoid attention
(``refkernels.sigmoid_attention``) is the same launch of another source; decoding is in ``decode``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import BadValue, UnknownName
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
from refkernels._sources import kernel_source
from refkernels.attention.naive import Form

HEAD_DIMS = (64, 128, 256)
LOG2E = math.log2(math.e)
PANEL = 64
"""Columns of a tile that lie side by side in shared memory (128 bytes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A launch with its arguments bound; calling it enqueues it on CuPy's current stream."""

    kernel: Kernel
    grid: tuple[int, ...]
    threads: int
    smem: int
    params: NDArray[Any]
    maps: tuple[NDArray[Any], ...] = ()
    keep: tuple[Any, ...] = ()
    """Arrays whose addresses the parameters hold."""

    def __call__(self) -> None:
        """Enqueue the kernel."""
        launch(self.kernel, self.grid, (self.threads,), self.params, *self.maps, smem=self.smem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """Checked device arrays: q, out [tokens, heads, d], k, v [kv tokens, kv_heads, d]."""

    q: Any
    k: Any
    v: Any
    out: Any
    lse: Any
    q_starts: Any
    kv_starts: Any
    sequences: int
    q_len: int
    kv_len: int
    form: Form
    dtype: str

    @property
    def heads(self) -> int:
        """Query heads."""
        return int(self.q.shape[1])

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return int(self.k.shape[1])

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return int(self.q.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """How a source of the ladder is shaped and launched."""

    source: str
    entry: str = "attention_forward"
    hopper: bool = True
    producer: bool = True
    """A warpgroup that only loads, beside those that multiply."""
    persistent: bool = False


RUNGS: dict[str, Rung] = {
    "01_mma_sync": Rung(source="attention/01_mma_sync.cu", hopper=False, producer=False),
    "02_wgmma_tma": Rung(source="attention/02_wgmma_tma.cu", producer=False),
    "03_warp_specialised": Rung(source="attention/03_warp_specialised.cu"),
    "04_overlap": Rung(source="attention/04_overlap.cu"),
    "05_persistent": Rung(source="attention/05_persistent.cu", persistent=True),
}
"""The ladder: name (of the source file) -> how it is launched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Tile shape of a rung for one head dimension; the arithmetic is in the sources' headers."""

    tile_m: int
    tile_n: int
    threads: int
    smem: int


def flash_attention(
    q: Any,
    k: Any,
    v: Any,
    form: Form | None = None,
    *,
    dtype: str = "bf16",
    lse: bool = False,
    kernel: str | None = None,
    q_starts: Any = None,
    kv_starts: Any = None,
) -> Any:
    """Softmax attention on the device: o like q, or ``(o, lse)``; lse is [heads, tokens] fp32.

    ``q`` is [batch, q_len, heads, d] and ``k``, ``v`` [batch, kv_len, kv_heads, d]; or, with
    ``q_starts`` and ``kv_starts`` (cumulative token counts, int32), all are packed, without the
    batch. d is 64, 128 or 256. ``kernel`` names a rung of :data:`RUNGS`.

    Raises:
        BadValue: operands of the wrong type or shape.
        UnknownName: no such rung.
    """
    x = bind(q, k, v, form, dtype=dtype, lse=lse, q_starts=q_starts, kv_starts=kv_starts)
    prepare(x, kernel)()
    out = x.out.reshape(q.shape)
    return (out, x.lse) if lse else out


def bind(
    q: Any,
    k: Any,
    v: Any,
    form: Form | None = None,
    *,
    dtype: str = "bf16",
    lse: bool = False,
    q_starts: Any = None,
    kv_starts: Any = None,
    longest: tuple[int, int] | None = None,
) -> Operands:
    """Check operands and make room for the outputs.

    ``longest`` is the longest (q_len, kv_len) of packed sequences; without it they are read from
    the device, which waits for it.
    """
    import cupy

    if dtype not in ("bf16", "fp16"):
        raise UnknownName("attention dtype", dtype, ("bf16", "fp16"))
    packed = q_starts is not None
    rank = (None,) * (3 if packed else 4)
    arrays = [
        as_device_array(x, name, dtype=dtype, shape=rank)
        for x, name in ((q, "q"), (k, "k"), (v, "v"))
    ]
    check_shapes(*arrays)
    flat = [x.reshape(-1, *x.shape[-2:]) for x in arrays]
    if packed:
        bounds = _bounds(q_starts, kv_starts, flat[0].shape[0], flat[1].shape[0])
        sequences = int(bounds[0].shape[0]) - 1
        q_len, kv_len = longest or tuple(int(cupy.diff(b).max()) for b in bounds)
    else:
        bounds = (None, None)
        sequences, q_len, kv_len = arrays[0].shape[0], arrays[0].shape[1], arrays[1].shape[1]
    tokens, heads = flat[0].shape[:2]
    return Operands(
        q=flat[0],
        k=flat[1],
        v=flat[2],
        out=cupy.empty(flat[0].shape, STORAGE[dtype]),
        lse=cupy.empty((heads, tokens), cupy.float32) if lse else None,
        q_starts=bounds[0],
        kv_starts=bounds[1],
        sequences=int(sequences),
        q_len=int(q_len),
        kv_len=int(kv_len),
        form=form or Form(),
        dtype=dtype,
    )


def check_shapes(q: Any, k: Any, v: Any) -> None:
    """Refuse device operands that do not fit together; raises BadValue."""
    if k.shape != v.shape:
        msg = f"keys have shape {tuple(k.shape)}, values {tuple(v.shape)}"
        raise BadValue(msg, field="v")
    if q.shape[-1] not in HEAD_DIMS or k.shape[-1] != q.shape[-1]:
        msg = f"q and k have heads of {q.shape[-1]} and {k.shape[-1]}, kernels exist for one of "
        raise BadValue(msg + ", ".join(map(str, HEAD_DIMS)), field="head_dim")
    if 0 in q.shape or 0 in k.shape or q.shape[-2] % k.shape[-2]:
        msg = f"{q.shape[-2]} heads over {k.shape[-2]} KV heads, shapes {q.shape} and {k.shape}"
        raise BadValue(msg, field="kv_heads", fix="a divisor of the heads, and no empty operand")
    if q.ndim == 4 and q.shape[0] != k.shape[0]:
        msg = f"q has a batch of {q.shape[0]}, k of {k.shape[0]}"
        raise BadValue(msg, field="k")


def _bounds(q_starts: Any, kv_starts: Any, tokens: int, kv_tokens: int) -> tuple[Any, Any]:
    starts = as_device_array(q_starts, "q_starts", dtype="int32", shape=(None,), alignment=4)
    kv = as_device_array(kv_starts, "kv_starts", dtype="int32", shape=starts.shape, alignment=4)
    if starts.shape[0] < 2 or tokens < 1 or kv_tokens < 1:
        msg = f"{starts.shape[0]} entries for {tokens} queries and {kv_tokens} keys"
        raise BadValue(msg, field="q_starts", fix="sequences + 1 cumulative token counts")
    return starts, kv


# ---------------------------------------------------------------- the rungs


def prepare(
    x: Operands, kernel: str | None = None, defines: Mapping[str, int] | None = None
) -> Prepared:
    """Bind a rung to operands; ``defines`` override compile-time constants (see the sources).

    Raises:
        UnknownName: no such rung.
    """
    name = kernel or default_rung()
    if name not in RUNGS:
        raise UnknownName("rung", name, RUNGS)
    return prepare_rung(RUNGS[name], x, dict(defines or {}))


def default_rung() -> str:
    """The fastest rung for the current device."""
    return "05_persistent" if device_capability() == "90" else "01_mma_sync"


def prepare_rung(rung: Rung, x: Operands, defines: dict[str, int]) -> Prepared:
    """Compile, load and bind one source of this ladder or of the sigmoid's."""
    import cupy

    codes = base_defines(rung, x, defines)
    shape = shape_of(rung, x.head_dim, codes)
    kernel = load_kernel(compile_kernel(kernel_source(rung.source), defines=codes), rung.entry)
    counters = cupy.zeros(2, cupy.uint32)
    blocks = -(-x.q_len // shape.tile_m)
    grid: tuple[int, ...] = (blocks, x.heads, x.sequences)
    if rung.persistent:
        sms = int(cupy.cuda.Device().attributes["MultiProcessorCount"])
        grid = (min(sms, blocks * x.heads * x.sequences),)
    maps: tuple[NDArray[Any], ...] = ()
    if rung.hopper:
        maps = tuple(
            _tile_map(tensor, rows)
            for tensor, rows in ((x.q, 64), (x.k, shape.tile_n), (x.v, shape.tile_n))
        )
    return Prepared(
        kernel=kernel,
        grid=grid,
        threads=shape.threads,
        smem=shape.smem,
        params=problem(x, counters, section_of(x, _l2_bytes())),
        maps=maps,
        keep=(x, counters),
    )


def base_defines(rung: Rung, x: Operands, defines: Mapping[str, int]) -> dict[str, int]:
    """The compile-time constants of a launch."""
    codes = {"HEAD_DIM": x.head_dim, "FP16": int(x.dtype == "fp16")}
    if rung.hopper:
        codes["TILE_N"] = tile_keys(x.head_dim, x.form, x.kv_len)
    if rung.persistent and x.head_dim == 64:
        codes["CONSUMERS"] = 2 if x.form.causal and x.kv_len < SHORT_CAUSAL else 3
    return codes | dict(defines)


def tile_choices(rung: Rung, head_dim: int) -> list[dict[str, int]]:
    """The tile shapes among which :func:`base_defines` chooses."""
    if not rung.hopper:
        return [{}]
    keys = {64: (128,), 128: (128, 176), 256: (64, 80)}[head_dim]
    widths = [{"TILE_N": n} for n in keys]
    if rung.persistent and head_dim == 64:
        return [width | {"CONSUMERS": n} for width in widths for n in (2, 3)]
    return widths


SHORT_CAUSAL = 2048
"""Keys below which a causal mask wastes more of a large tile than its size gains: of 192 queries
(d = 64) instead of 128, of 80 keys (d = 256) instead of 64."""

WIDE_FROM = {False: 2048, True: 8192}
"""Keys from which blocks of 176 (d = 128) gain more than their padding costs, causal or not."""


def tile_keys(head_dim: int, form: Form, kv_len: int) -> int:
    """Keys per block on Hopper: as many as registers and shared memory hold, unless waste counts.

    A wide block has more padding at the end and, under a causal mask, more beyond the diagonal.
    """
    if head_dim == 256:
        return 64 if form.causal and kv_len < SHORT_CAUSAL else 80
    wide = head_dim == 128 and form.window is None and kv_len >= WIDE_FROM[form.causal]
    return 176 if wide else 128


def shape_of(rung: Rung, head_dim: int, codes: Mapping[str, int]) -> Shape:
    """Tile, threads and dynamic shared memory, as the sources compute them from ``codes``."""
    if not rung.hopper:
        keys = {64: 64, 128: 48, 256: 32}[head_dim]
        threads = 256 if head_dim == 256 else 128
        smem = (128 + 2 * keys) * head_dim * 2 + 256
        return Shape(tile_m=128, tile_n=keys, threads=threads, smem=smem)
    consumers = codes.get("CONSUMERS", 3 if head_dim == 64 else 2)
    stages = 4 if head_dim == 64 and rung.producer else 2
    rows, tile_n = 64 * consumers, codes["TILE_N"]
    return Shape(
        tile_m=rows,
        tile_n=tile_n,
        threads=128 * (consumers + rung.producer),
        smem=(rows + 2 * stages * tile_n) * head_dim * 2 + 1024,
    )


def section_of(x: Operands, l2_bytes: int) -> int:
    """(sequence, head) pairs to work together: their keys and values fill half of L2 at most.

    A divisor of all pairs: a last section of fewer tiles than SMs would leave most of them idle.
    """
    pairs = x.heads * x.sequences
    pair_bytes = 2 * x.kv_len * x.head_dim * 2 * x.kv_heads / x.heads
    most = max(1, min(pairs, int(l2_bytes / 2 / pair_bytes)))
    return next(n for n in range(most, 0, -1) if pairs % n == 0)


def _l2_bytes() -> int:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return int(properties["l2CacheSize"])


def problem(x: Operands, counters: Any, section: int) -> NDArray[Any]:
    """``Problem`` of attention/problem.cuh."""
    null = np.uint64(0)
    form = x.form
    return params_struct(
        q=x.q,
        k=x.k,
        v=x.v,
        out=x.out,
        lse=null if x.lse is None else x.lse,
        q_starts=null if x.q_starts is None else x.q_starts,
        kv_starts=null if x.kv_starts is None else x.kv_starts,
        counters=counters,
        sequences=x.sequences,
        heads=x.heads,
        kv_heads=x.kv_heads,
        q_len=x.q_len,
        kv_len=x.kv_len,
        tokens=int(x.q.shape[0]),
        causal=int(form.causal),
        window=form.window or 0,
        section=section,
        scale_log2=np.float32(_positive_scale(form, x.head_dim) * LOG2E),
        bias_log2=np.float32((form.bias or 0.0) * LOG2E),
        bias_from_length=int(form.bias is None),
    )


def _positive_scale(form: Form, head_dim: int) -> float:
    scale = form.scale_of(head_dim)
    if not scale > 0 or (form.window is not None and form.window < 1):
        msg = f"scale must be positive and window at least 1, got {scale} and {form.window}"
        raise BadValue(msg, field="scale")
    return scale


def _tile_map(x: Any, rows: int) -> NDArray[Any]:
    """Tiles of ``rows`` tokens of one head, panel by panel with the 128-byte swizzle."""
    tokens, heads, head_dim = x.shape
    panels = head_dim // PANEL
    return tensor_map(
        x,
        (panels, 1, rows, PANEL),
        shape=(panels, heads, tokens, PANEL),
        strides=(2 * PANEL, 2 * head_dim, 2 * head_dim * heads, 2),
    )
