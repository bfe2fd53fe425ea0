"""Decoding beside the plain read of as many bytes and the peers, in turns under one load.

The bars are shares of the read's rate: both meet the same clocks, and the same refreshes of the
memory (``beside``).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from perfmodel.workload import Attention, Elementwise
from refkernels._check import generator, random_int8
from refkernels._compile import compile_kernel
from refkernels._launch import launch, load_kernel, params_struct
from refkernels._sources import kernel_source, read_spec
from refkernels._timing import rotation_sets
from refkernels.attention.beside import Turn, beside, peer_turns
from refkernels.attention.cases import DecodeCase
from refkernels.attention.decode import prepare_decode
from refkernels.attention.gates import check_decode, draw_decode
from refkernels.attention.problem import DecodeProblem, decode_case, size
from refkernels.attention.timed import Row, decodes, flops_of, kv_bytes, moved_bytes, shape_of

NAME = "refkernels.attention/decode_split_kv"


def decode() -> list[Row]:
    """Every decoding shape with the plain read of its keys and values and with its peers."""
    rows: list[Row] = []
    for w in decodes():
        rows += beside("decode", [split_kv(w), plain_read(int(kv_bytes(w))), *peer_turns(w)])
    return rows


def layouts() -> list[Row]:
    """The same gigabyte of keys and values contiguous and in pages, in either order of tokens and
    heads; and sequences of 1 Ki to 64 Ki keys, mixed."""
    w = Attention(batch=32, q_len=1, kv_len=8192, heads=32, kv_heads=8, head_dim=128)
    case = decode_case(w)
    rows: list[Row] = []
    for layout in ("bhsd", "bshd"):
        cases = [dataclasses.replace(case, layout=layout, page=page) for page in (0, 16, 64)]
        rows += beside("layouts", [*map(case_turn, cases), plain_read(_case_bytes(case))])
    drawn = np.random.default_rng(9).uniform(np.log(1024), np.log(65536), 48)
    lens = tuple(int(x) for x in np.exp(drawn))
    ragged = dataclasses.replace(case, kv_lens=lens, layout="bshd", page=64)
    return rows + beside("ragged", [case_turn(ragged), plain_read(_case_bytes(ragged))])


def split_kv(w: Attention) -> Turn:
    """Split-KV decoding."""
    sets = rotation_sets(moved_bytes(w), most=64)
    problem = DecodeProblem(w, size(w.kv_len), sets)
    return Turn(
        name=NAME,
        workload=w,
        shape=shape_of(w),
        call=problem.run,
        sets=sets,
        flops=flops_of(w),
        moved=moved_bytes(w),
        gate=problem.gate(),
    )


def case_turn(case: DecodeCase) -> Turn:
    """One case: no workload says what tells it from others."""
    import cupy

    rng, moved = generator(22, cupy), float(_case_bytes(case))
    calls = [prepare_decode(draw_decode(case, rng)) for _ in range(rotation_sets(moved, most=4))]
    pages = f"pages of {case.page}" if case.page else "contiguous"
    return Turn(
        name=f"decode_split_kv {case.layout}, {pages}",
        workload=None,
        shape=f"{len(case.kv_lens)} sequences, {sum(case.kv_lens)} keys",
        call=lambda i: calls[i](),
        sets=len(calls),
        flops=4.0 * case.head_dim * case.heads * case.q_len * sum(case.kv_lens),
        moved=moved,
        gate=check_decode(case, 21).gate,
    )


def _case_bytes(case: DecodeCase) -> int:
    return 2 * 2 * sum(case.kv_lens) * case.kv_heads * case.head_dim


class PlainRead:
    """The read kernel of the roofs on ``sets`` buffers of ``words`` words of 16 bytes."""

    def __init__(self, words: int, sets: int) -> None:
        import cupy

        path = kernel_source("roofs/memory.cu")
        self.kernel = load_kernel(compile_kernel(path), "read")
        self.threads = int(read_spec(path).threads)
        self.grid = max(1, words // (self.threads * 8))
        self.buffers = [random_int8(generator(i, cupy), (words * 16,)) for i in range(sets)]
        self.sink, self.elapsed = cupy.zeros(1024, cupy.uint64), cupy.zeros(2, cupy.uint64)
        more = {"words": np.uint64(words), "rounds": 1, "elapsed": self.elapsed}
        self.params = [params_struct(source=b, target=self.sink, **more) for b in self.buffers]

    def __call__(self, i: int) -> None:
        """Read buffer ``i``."""
        launch(self.kernel, (self.grid,), (self.threads,), self.params[i])


def plain_read(count: int) -> Turn:
    """The plain read of ``count`` bytes."""
    sets, words = rotation_sets(count, most=64), count // 16
    return Turn(
        name="roofs/read",
        workload=Elementwise(elements=words * 16, writes=0.0, dtype="int8", name="read"),
        shape=f"{count:.4g} B",
        call=PlainRead(words, sets),
        sets=sets,
        flops=0.0,
        moved=float(count),
    )
