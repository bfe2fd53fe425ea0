"""Launches split-KV decoding: a few queries per sequence against long keys, in one launch.

Keys lie contiguously or in pages, in 16 or 8 bits; lengths may differ. See
``cuda/attention/decode_split_kv.cu``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import BadValue, UnknownName
from refkernels._compile import compile_kernel
from refkernels._launch import STORAGE, as_device_array, load_kernel, params_struct
from refkernels._sources import kernel_source
from refkernels.attention.device import HEAD_DIMS, LOG2E, Prepared
from refkernels.attention.naive import Form

KV_CODES = {"bf16": 0, "fp16": 0, "fp8": 1, "int8": 2}
"""Types of keys and values, numbered as the source numbers them."""

TILE = 16
"""Keys a warp works on at once; pages hold a multiple of them."""

MAX_SEQUENCES = 1024
MAX_QUERIES = 16
NO_SUM = -1.0
"""The sum of a row's weights in a letter box that is empty."""
RING_BYTES = 128 * 1024
"""Shared memory for keys on their way, per block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOperands:
    """Checked device arrays: q, out [sequences, q_len, heads, d]; k, v [outer, tokens, kv_heads, d]
    or, for layout "bhsd", [outer, kv_heads, tokens, d]; outer counts sequences or pages."""

    q: Any
    k: Any
    v: Any
    out: Any
    lse: Any
    lengths: Any
    table: Any
    k_scale: Any
    v_scale: Any
    layout: str
    form: Form
    dtype: str
    kv_dtype: str

    @property
    def token_axis(self) -> int:
        """The axis of k that counts tokens."""
        return 1 if self.layout == "bshd" else 2

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return int(self.k.shape[3 - self.token_axis])

    @property
    def tokens(self) -> int:
        """Tokens per sequence or page."""
        return int(self.k.shape[self.token_axis])


def decode_attention(q: Any, k: Any, v: Any, form: Form | None = None, **options: Any) -> Any:
    """Softmax attention of the last ``q_len`` tokens of each sequence; o like ``q``.

    ``options`` are those of :func:`bind_decode`.
    """
    x = bind_decode(q, k, v, form, **options)
    prepare_decode(x)()
    return x.out


def bind_decode(
    q: Any,
    k: Any,
    v: Any,
    form: Form | None = None,
    *,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    layout: str = "bshd",
    lengths: Any = None,
    table: Any = None,
    k_scale: Any = None,
    v_scale: Any = None,
    lse: bool = False,
) -> DecodeOperands:
    """Check operands and make room for the outputs.

    ``q`` is [sequences, q_len <= 16, heads, d] of ``dtype``. ``lengths`` (int32 on the device)
    are the keys of each sequence, its own queries' included; without it all of ``k`` counts.
    ``table`` [sequences, pages] (int32) says which pages, ``k[page]``, hold a sequence's keys;
    it needs ``lengths``. Bytes need ``k_scale`` and ``v_scale``, fp32 [kv_heads].

    Raises:
        BadValue: operands of the wrong type or shape, pages that are no multiple of 16 tokens.
        UnknownName: an unknown type or layout.
    """
    import cupy

    kind = kv_dtype or dtype
    if kind not in KV_CODES or (kind != dtype and KV_CODES[kind] == 0):
        raise UnknownName("KV dtype", kind, (dtype, "fp8", "int8"))
    if layout not in ("bshd", "bhsd"):
        raise UnknownName("KV layout", layout, ("bshd", "bhsd"))
    queries = as_device_array(q, "q", dtype=dtype, shape=(None, None, None, None))
    keys = as_device_array(k, "k", dtype=kind, shape=(None, None, None, queries.shape[3]))
    values = as_device_array(v, "v", dtype=kind, shape=keys.shape)
    sequences, q_len, heads, _ = queries.shape
    x = DecodeOperands(
        q=queries,
        k=keys,
        v=values,
        out=cupy.empty(queries.shape, STORAGE[dtype]),
        lse=cupy.empty((heads, sequences, q_len), cupy.float32) if lse else None,
        lengths=_optional(lengths, "lengths", "int32", (sequences,)),
        table=_optional(table, "table", "int32", (sequences, None)),
        k_scale=_scale(k_scale, "k_scale", kind, keys, layout),
        v_scale=_scale(v_scale, "v_scale", kind, keys, layout),
        layout=layout,
        form=form or Form(causal=True),
        dtype=dtype,
        kv_dtype=kind,
    )
    _check(x)
    return x


def _optional(x: Any, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
    return None if x is None else as_device_array(x, name, dtype=dtype, shape=shape, alignment=4)


def _scale(x: Any, name: str, kind: str, keys: Any, layout: str) -> Any:
    if KV_CODES[kind] == 0:
        return None
    if x is None:
        msg = f"is needed for {kind} keys and values"
        raise BadValue(msg, field=name, fix="fp32, one per KV head")
    heads = keys.shape[2 if layout == "bshd" else 1]
    return as_device_array(x, name, dtype="fp32", shape=(heads,), alignment=4)


def _check(x: DecodeOperands) -> None:
    sequences, q_len, heads, head_dim = x.q.shape
    paged = x.table is not None
    rules = {
        f"heads of {', '.join(map(str, HEAD_DIMS))}": head_dim in HEAD_DIMS,
        "heads that are a multiple of the KV heads": heads % x.kv_heads == 0,
        f"1 to {MAX_QUERIES} queries": 1 <= q_len <= MAX_QUERIES,
        f"1 to {MAX_SEQUENCES} sequences": 1 <= sequences <= MAX_SEQUENCES,
        "as many sequences of keys as of queries": paged or x.k.shape[0] == sequences,
        f"pages of a multiple of {TILE} tokens": not paged or x.tokens % TILE == 0,
        "the lengths of paged sequences": not paged or x.lengths is not None,
    }
    for rule, holds in rules.items():
        if not holds:
            msg = f"decoding needs {rule}: q {tuple(x.q.shape)}, k {tuple(x.k.shape)} ({x.layout})"
            raise BadValue(msg, field="k")


def decode_defines(x: DecodeOperands) -> dict[str, int]:
    """The compile-time constants of a launch."""
    head_dim = int(x.q.shape[3])
    rows = int(x.q.shape[1] * x.q.shape[2]) // x.kv_heads
    return {
        "HEAD_DIM": head_dim,
        "KV": KV_CODES[x.kv_dtype],
        "FP16": int(x.dtype == "fp16"),
        "STRIPS": 2 if rows > 16 and head_dim < 256 else 1,
        "FIXED": int(x.lengths is None and x.table is None),
    }


def tile_shape(head_dim: int, kv_dtype: str) -> tuple[int, int]:
    """Bytes of a tile of keys, and warps per block."""
    tile_bytes = TILE * head_dim * (2 if KV_CODES[kv_dtype] == 0 else 1)
    return tile_bytes, 4 if tile_bytes > 4096 else 8


def shared_bytes(defines: Mapping[str, int], kv_dtype: str) -> int:
    """Dynamic shared memory of a launch, as the source's struct adds it up."""
    head_dim, rows = defines["HEAD_DIM"], 16 * defines["STRIPS"]
    warps = tile_shape(head_dim, kv_dtype)[1]
    merge_rows = min(8, 16384 // (4 * warps * head_dim))
    merging = 4 * warps * merge_rows * (head_dim + 8)
    sums = 2 * 4 * warps * rows
    queries = rows * head_dim * 2
    cursors = 48 * warps
    return RING_BYTES + merging + sums + queries + cursors + 4 * (MAX_SEQUENCES + 1) + 128


def prepare_decode(x: DecodeOperands, defines: Mapping[str, int] | None = None) -> Prepared:
    """Compile, load and bind; ``defines`` override compile-time constants (see the source).

    The launch is a cooperative one: blocks wait for each other, so all must be resident.
    """
    import cupy

    device = cupy.cuda.Device()
    codes = decode_defines(x) | dict(defines or {})
    compiled = compile_kernel(kernel_source("attention/decode_split_kv.cu"), defines=codes)
    ctas = int(device.attributes["MultiProcessorCount"])
    letters = cupy.full(letters_shape(codes, ctas), NO_SUM, cupy.float32)
    return Prepared(
        kernel=load_kernel(compiled, "attention_decode", cooperative=True),
        grid=(ctas,),
        threads=32 * tile_shape(codes["HEAD_DIM"], x.kv_dtype)[1],
        smem=shared_bytes(codes, x.kv_dtype),
        params=_problem(x, letters, row_groups(x, codes)),
        keep=(x, letters),
    )


def letters_shape(defines: Mapping[str, int], ctas: int) -> tuple[int, ...]:
    """Of the fp32 array in which the pieces of lists are mailed, empty between launches."""
    return 2 * ctas, 16 * defines["STRIPS"], defines["HEAD_DIM"] // 2, 4


def row_groups(x: DecodeOperands, defines: Mapping[str, int]) -> int:
    """Lists per sequence and KV head: its queries in groups of a CTA's rows."""
    _, q_len, heads, _ = x.q.shape
    return -(-(int(heads) // x.kv_heads * int(q_len)) // (16 * defines["STRIPS"]))


def _problem(x: DecodeOperands, letters: Any, row_groups: int) -> Any:
    """``Problem`` of decode_split_kv.cu."""
    null = np.uint64(0)

    def address(array: Any) -> Any:
        return null if array is None else array

    sequences, q_len, heads, head_dim = x.q.shape
    strides = x.k.strides
    return params_struct(
        q=x.q,
        k=x.k,
        v=x.v,
        out=x.out,
        lse=address(x.lse),
        lengths=address(x.lengths),
        table=address(x.table),
        k_scale=address(x.k_scale),
        v_scale=address(x.v_scale),
        letters=letters,
        outer_bytes=np.int64(strides[0]),
        token_bytes=np.int64(strides[x.token_axis]),
        head_bytes=np.int64(strides[3 - x.token_axis]),
        sequences=sequences,
        q_len=q_len,
        kv_len=x.tokens,
        heads=heads,
        kv_heads=x.kv_heads,
        group=heads // x.kv_heads,
        row_groups=row_groups,
        page_size=x.tokens if x.table is not None else 0,
        table_width=int(x.table.shape[1]) if x.table is not None else 0,
        causal=int(x.form.causal),
        window=x.form.window or 0,
        scale_log2=np.float32(x.form.scale_of(head_dim) * LOG2E),
    )
