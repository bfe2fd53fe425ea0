"""The inner kernel of the host product, as LLVM vectors: numba has no intrinsics of its own.

A *word* is one 32-bit lane of packed operands: 4 bytes, or 2 bytes widened to 16 bits. A tile of
``ROWS`` x ``VECTORS * lanes`` sums stays in registers while words stream by::

    sums[r][v] += dot(broadcast(a[word, r]), b[word, v])        lane by lane

Which dot there is depends on the processor:

- ``vpdpbusd`` (AVX-512 VNNI): 4 products per lane of unsigned times signed bytes. The signed a is
  offset by 128, and 128 * sum(b) is taken off again; all of it modulo 2**32, so exact.
- ``vpmaddwd`` (AVX-512 BW or AVX2): 2 products per lane of signed 16-bit values, then an addition.
- ``generic``: the same as LLVM's own vector code, for any processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

ROWS = 12
VECTORS = 2
"""24 sums, 2 words of b and a broadcast: 27 of the 32 vector registers."""

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
POINTER: Any = types.CPointer(types.int32)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One way to multiply and add along k."""

    name: str
    lanes: int
    bytes_per_word: int
    """Values of k in a 32-bit word: 4 signed bytes, or 2 widened to 16 bits."""
    build: Callable[[Any, Any, Any, Any], Any]
    """(builder, sum, a, b) -> sum + a . b, on vectors of 32-bit words."""

    @property
    def columns(self) -> int:
        """Columns of the register tile."""
        return VECTORS * self.lanes


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    module = builder.module
    function = module.globals.get(name) or ir.Function(
        module, ir.FunctionType(result, [a.type for a in arguments]), name
    )
    return builder.call(function, arguments)


def _busd(builder: Any, total: Any, a: Any, b: Any) -> Any:
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", total.type, total, a, b)


def _maddwd(name: str) -> Callable[[Any, Any, Any, Any], Any]:
    def build(builder: Any, total: Any, a: Any, b: Any) -> Any:
        halves = ir.VectorType(I16, 2 * total.type.count)
        pairs = (builder.bitcast(x, halves) for x in (a, b))
        return builder.add(total, _call(builder, name, total.type, *pairs))

    return build


def _generic(builder: Any, total: Any, a: Any, b: Any) -> Any:
    lanes = total.type.count
    halves, wide = ir.VectorType(I16, 2 * lanes), ir.VectorType(I32, 2 * lanes)
    x, y = (builder.sext(builder.bitcast(v, halves), wide) for v in (a, b))
    product = builder.mul(x, y)
    none = ir.Constant(wide, ir.Undefined)
    for first in (0, 1):
        mask = ir.Constant(ir.VectorType(I32, lanes), list(range(first, 2 * lanes, 2)))
        total = builder.add(total, builder.shuffle_vector(product, none, mask))
    return total


GENERIC = Dot(name="generic", lanes=8, bytes_per_word=2, build=_generic)

_BY_FEATURE: tuple[tuple[str, Dot], ...] = (
    ("avx512vnni", Dot(name="vpdpbusd", lanes=16, bytes_per_word=4, build=_busd)),
    (
        "avx512bw",
        Dot(
            name="vpmaddwd-512",
            lanes=16,
            bytes_per_word=2,
            build=_maddwd("llvm.x86.avx512.pmaddw.d.512"),
        ),
    ),
    (
        "avx2",
        Dot(name="vpmaddwd", lanes=8, bytes_per_word=2, build=_maddwd("llvm.x86.avx2.pmadd.wd")),
    ),
)


def available_dots() -> tuple[Dot, ...]:
    """The ways that this processor can run, fastest first."""
    features = binding.get_host_cpu_features()
    return (*(dot for feature, dot in _BY_FEATURE if features.get(feature)), GENERIC)


def tile_kernel(dot: Dot) -> Any:
    """``tile(out, a, b, words)`` for use in numba code; pointers to int32.

    ``a`` holds ``words`` x ``ROWS`` words, ``b`` ``words`` x ``dot.columns``; ``out`` gets ``ROWS``
    x ``dot.columns`` sums.
    """

    @intrinsic
    def tile(_context: Any, _out: Any, _a: Any, _b: Any, _words: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            _emit(builder, dot, args)
            return context.get_dummy_value()

        return types.void(POINTER, POINTER, POINTER, types.int64), generate

    return tile


def _emit(builder: Any, dot: Dot, args: Any) -> None:
    out, a, b, words = args
    vector = ir.VectorType(I32, dot.lanes)
    cells = [(r, v) for r in range(ROWS) for v in range(VECTORS)]
    entry, loop = builder.block, builder.append_basic_block("word")
    done = builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    word = builder.phi(I64)
    word.add_incoming(I64(0), entry)
    sums = {cell: builder.phi(vector) for cell in cells}
    for phi in sums.values():
        phi.add_incoming(ir.Constant(vector, [0] * dot.lanes), entry)
    columns = [_load(builder, b, word, dot.columns, v * dot.lanes, vector) for v in range(VECTORS)]
    rows = [_broadcast(builder, a, word, r, vector) for r in range(ROWS)]
    new = {(r, v): dot.build(builder, sums[r, v], rows[r], columns[v]) for r, v in cells}
    following = builder.add(word, I64(1))
    word.add_incoming(following, loop)
    for cell, phi in sums.items():
        phi.add_incoming(new[cell], loop)
    builder.cbranch(builder.icmp_signed("<", following, words), loop, done)
    builder.position_at_end(done)
    for (r, v), total in new.items():
        to = builder.gep(out, [I64(r * dot.columns + v * dot.lanes)])
        builder.store(total, builder.bitcast(to, vector.as_pointer())).align = 4


def _load(builder: Any, base: Any, word: Any, pitch: int, offset: int, vector: Any) -> Any:
    at = builder.add(builder.mul(word, I64(pitch)), I64(offset))
    loaded = builder.load(builder.bitcast(builder.gep(base, [at]), vector.as_pointer()))
    loaded.align = 4
    return loaded


def _broadcast(builder: Any, base: Any, word: Any, row: int, vector: Any) -> Any:
    at = builder.add(builder.mul(word, I64(ROWS)), I64(row))
    none = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(none, builder.load(builder.gep(base, [at])), I32(0))
    zeros = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, none, zeros)
