"""The timed part of the benchmark: rungs and peers on the same shapes, one after the other.

Rates are computed from the median; a rung is timed only behind its gate at that very shape. Random
data: bytes as a quantised normal activation has them, and uniform ones (more power per operation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from perfmodel.workload import Elementwise, Gemm, Workload
from refkernels._check import Gate, generator, random_int8, random_normal
from refkernels._compile import compile_kernel
from refkernels._launch import Kernel, launch, load_kernel, params_struct
from refkernels._record import kernel_time
from refkernels._sources import kernel_source, read_spec
from refkernels._timing import Timing, rotation_sets, time_kernel
from refkernels.int8_gemm import peers
from refkernels.int8_gemm.device import RUNGS, Operands, Prepared, bind, prepare
from refkernels.int8_gemm.gates import gate_llm_int8, gate_product, random_activations
from refkernels.int8_gemm.llm_int8 import Quantiser, prepare_llm_int8, prepare_quantise
from refkernels.int8_gemm.problem import copied

PRODUCTS = (
    (8192, 8192, 8192),
    (4096, 11008, 4096),
    (2048, 28672, 4096),
    (8192, 4096, 14336),
    (4096, 16384, 4096),
)
"""m, n, k of the timed products: square, and the layers of 7B to 70B models."""

SKINNY = tuple((m, n, k) for n, k in ((28672, 4096), (4096, 14336)) for m in (1, 16, 17, 32, 64))

OUTLIER_SHAPE = (4096, 16384, 4096)
OUTLIER_COLUMNS = 4
"""0.1 % of k."""

Row = dict[str, Any]


def large() -> list[Row]:
    """All rungs and peers on the large products; rung 5 also on uniform bytes."""
    rows: list[Row] = []
    for m, n, k in PRODUCTS:
        rungs = [r for r in RUNGS if r != "06_skinny" and (r != "01_dp4a" or m * n * k <= 2**39)]
        for rung in rungs:
            rows += _rung(rung, m, n, k, "normal")
        rows += _rung("05_cluster_multicast", m, n, k, "uniform")
        rows += _peers(m, n, k)
    return rows


def skinny() -> list[Row]:
    """Rung 6, ``torch._int_mm`` and the plain read of as many bytes, weights rotated past L2."""
    rows: list[Row] = []
    for m, n, k in SKINNY:
        rows += _rung("06_skinny", m, n, k, "normal")
        rows += _peers(m, n, k, names=("torch._int_mm",))
    for n, k in sorted({(n, k) for _, n, k in SKINNY}):
        rows += list(_reads(n * k))
    return rows


def llm_int8() -> list[Row]:
    """LLM.int8() with 0.1 % outlier columns, its parts, and plain int8 on the same activations."""
    import cupy

    m, n, k = OUTLIER_SHAPE
    rng = generator(5, cupy)
    gate = gate_llm_int8(rng, m, n, k, OUTLIER_COLUMNS, "bf16")
    x = [random_activations(rng, m, k, OUTLIER_COLUMNS, "bf16") for _ in range(2)]
    b, scale = random_int8(rng, (n, k)), cupy.full(n, 0.01, cupy.float32)
    full = [prepare_llm_int8(each, b, scale) for each in x]
    plain = [_plain_int8(each, b, scale) for each in x]
    work = Gemm(m=m, n=n, k=k, dtype="int8", out_dtype="bf16")
    rows_only = Elementwise(elements=m * k, writes=0.5, dtype="bf16", name="quantise_rows")
    gathered = Elementwise(elements=32 * (m + n), dtype="bf16", name="gather_outliers")
    moved, quantised = _moved(m, n, k, 2), 3.0 * m * k
    cases: list[tuple[str, Workload, list[Callable[[], None]], float]] = [
        ("05_cluster_multicast", work, [product for _, product in plain], moved),
        ("05_cluster_multicast + outliers", work, [f.multiply for f in full], moved),
        ("quantise_rows", rows_only, [quantise for quantise, _ in plain], quantised),
        ("quantise_rows + flags", rows_only, [f.quantise for f in full], quantised),
        ("gather_outliers", gathered, [f.gather for f in full], 128.0 * (m + n)),
        (
            "quantise_rows, 05_cluster_multicast",
            work,
            [_both(*p) for p in plain],
            moved + quantised,
        ),
        ("llm_int8", work, list(full), moved + quantised),
    ]
    rows = []
    for name, workload, calls, size in [*cases, *cases[:2], *cases[-2:]]:
        timing = time_kernel(lambda i, calls=calls: calls[i](), sets=2)  # type: ignore[misc]
        rows.append(_row(name, workload, timing, gate, size))
    return rows


def _plain_int8(x: Any, b: Any, scale: Any) -> tuple[Quantiser, Prepared]:
    """Quantisation without outliers and the product of its bytes."""
    quantise = prepare_quantise(x)
    bound = bind(quantise.q, b, row_scale=quantise.scale, col_scale=scale)
    return quantise, prepare(bound, "05_cluster_multicast")


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


def _moved(m: int, n: int, k: int, out_bytes: int) -> float:
    """Compulsory bytes: operands and output once, scales."""
    return float(m * k + n * k + out_bytes * m * n + 4 * (m + n))


def _operands(m: int, n: int, k: int, data: str) -> Operands:
    """Fresh bytes; ``normal`` ones are a normal row quantised by its largest of ~4.2 sigma."""
    import cupy

    rng = generator(m + n + k, cupy)

    def draw(rows: int) -> Any:
        if data == "uniform":
            return random_int8(rng, (rows, k))
        out = cupy.empty((rows, k), cupy.int8)
        for start in range(0, rows, 1024):
            part = out[start : start + 1024]
            values = cupy.rint(random_normal(rng, part.shape, scale=30.0))
            part[...] = cupy.clip(values, -127, 127).astype(cupy.int8)
        return out

    ones = [cupy.full(size, 0.01, cupy.float32) for size in (m, n)]
    return bind(draw(m), draw(n), row_scale=ones[0], col_scale=ones[1])


def _rung(rung: str, m: int, n: int, k: int, data: str) -> list[Row]:
    moved = _moved(m, n, k, 2)
    count = rotation_sets(moved)
    first = _operands(m, n, k, data)
    gate = gate_product(first, rung)
    # The other sets are copies elsewhere in memory: cold in cache, alike in power.
    sets = [first, *(copied(first) for _ in range(count - 1))]
    bound = [prepare(each, rung) for each in sets]
    timing = time_kernel(lambda i: bound[i](), sets=count) if gate.passed else None
    name = rung if data == "normal" else f"{rung} ({data} bytes)"
    work = Gemm(m=m, n=n, k=k, dtype="int8", out_dtype="bf16")
    return [_row(name, work, timing, gate, moved)]


def _peers(m: int, n: int, k: int, names: tuple[str, ...] = peers.NAMES) -> list[Row]:
    rows = []
    for name in names:
        peer = peers.PEERS[name]
        moved = m * k * peer.in_bytes + n * k * peer.in_bytes + m * n * peer.out_bytes
        # _int_mm refuses 16 rows and fewer: 17 stand for them.
        rows_m = max(m, 17) if name == "torch._int_mm" else m
        count = rotation_sets(float(moved))
        calls = peer.prepare(rows_m, n, k, count)
        timing = time_kernel(calls, sets=count, capture=peers.capture_torch)
        work = Gemm(m=rows_m, n=n, k=k, dtype=peer.dtype, out_dtype=peer.out_dtype)
        rows.append(_row(name, work, timing, None, float(moved), framework=peers.framework()))
    return rows


def _reads(size: int) -> Iterator[Row]:
    """The plain read kernel of the roofs on ``size`` bytes, in both its schedules."""
    import cupy

    count = rotation_sets(size)
    buffers = [random_int8(generator(i, cupy), (size,)) for i in range(count)]
    sink, elapsed = cupy.zeros(1024, cupy.uint64), cupy.zeros(2, cupy.uint64)
    sms = int(cupy.cuda.Device().attributes["MultiProcessorCount"])
    work = Elementwise(elements=size, writes=0.0, dtype="int8", name="read")
    path = kernel_source("roofs/memory.cu")
    kernel, threads = load_kernel(compile_kernel(path), "read"), read_spec(path).threads
    words = np.uint64(size // 16)
    params = [
        params_struct(source=b, target=sink, words=words, rounds=1, elapsed=elapsed)
        for b in buffers
    ]
    tiles = size // (threads * 8 * 16)
    for schedule, grid in (("persistent", min(tiles, 4 * sms)), ("tiles", tiles)):
        timing = time_kernel(_reader(kernel, grid, threads, params), sets=count)
        yield _row(f"roofs/read ({schedule})", work, timing, None, float(size))


def _reader(kernel: Kernel, grid: int, threads: int, params: list[Any]) -> Callable[[int], None]:
    return lambda i: launch(kernel, (grid,), (threads,), params[i])


def _row(
    name: str,
    work: Workload,
    timing: Timing | None,
    gate: Gate | None,
    moved: float,
    framework: str | None = None,
) -> Row:
    flops = float(2 * work.m * work.n * work.k) if isinstance(work, Gemm) else 0.0
    shape = f"{work.m}x{work.n}x{work.k}" if isinstance(work, Gemm) else f"{moved:.4g} B"
    if timing is None:
        line = f"{name:38} {shape:18} gate red: {gate}"
        print(line, flush=True)  # noqa: T201
        return {"ok": False, "line": line, "measurement": None}
    line = (
        f"{name:38} {shape:18} {timing.time_s * 1e6:9.2f} us"
        f"  {flops / timing.time_s / 1e12:7.1f} TOP/s  {moved / timing.time_s / 1e9:7.0f} GB/s"
        f"  spread {timing.spread:.3f}  {(timing.sm_clock_hz or 0) / 1e6:5.0f} MHz"
        f"  {timing.power_w or 0:4.0f} W  stream {(timing.stream_time_s or 0) * 1e6:.1f} us"
    )
    print(line, flush=True)  # noqa: T201
    kernel = name if framework else f"refkernels.int8_gemm/{name}"
    measured = kernel_time(
        work, kernel, timing, flops=flops, moved_bytes=moved, gate=gate, framework=framework
    )
    return {"ok": gate is None or gate.passed, "line": line, "measurement": measured}
