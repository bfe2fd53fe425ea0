"""Correctness gates of attention on the device, shared by the tests and the benchmark.

The yardstick beside the float64 oracle is the plain implementation in the same 16-bit type: every
error is stated as a share of what that one makes on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refkernels._check import Gate, array_module, generator, judge, poisoned, tolerance, widen
from refkernels._launch import STORAGE
from refkernels.attention import naive
from refkernels.attention.cases import Case, DecodeCase, draw, draw_bytes, from_e4m3
from refkernels.attention.decode import DecodeOperands, bind_decode, prepare_decode
from refkernels.attention.device import RUNGS, Operands, Prepared, bind, prepare, tile_choices

UNIT = {"bf16": 2.0**-8, "fp16": 2.0**-11}
"""Spacing of a 16-bit type just above 1."""

Prepare = Callable[[Operands], list[Prepared]]
"""The launches of one problem, one for each tile shape that it may meet."""


@dataclass(slots=True, kw_only=True)
class Sweep:
    """Many problems held to one tolerance; ``add`` collects, the rest reports."""

    shapes: int = 0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)
    errors: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Sums of squares: our error, the plain implementation's."""

    def add(self, case: Case | DecodeCase, verdict: Verdict) -> None:
        """Count one problem; loud ones, where the plain result is far off, not in the RMS."""
        self.shapes += 1
        self.worst = max(self.worst, verdict.gate.error)
        if case.loudness <= 1:
            self.errors = [a + b for a, b in zip(self.errors, verdict.squares, strict=True)]
        if not verdict.gate.passed:
            self.failures.append(f"{case}: {verdict.gate.metric} {verdict.gate.error:.3g}")

    @property
    def rms_ratio(self) -> float:
        """Our RMS error over the plain implementation's, over all problems."""
        return float(np.sqrt(self.errors[0] / max(self.errors[1], 1e-300)))

    @property
    def passed(self) -> bool:
        """Whether every problem passed, and the RMS error over all of them."""
        return not self.failures and self.rms_ratio <= tolerance("attention", "rms").limit

    def report(self) -> dict[str, Any]:
        """As the benchmark's report stores it."""
        return {
            "shapes": self.shapes,
            "worst": self.worst,
            "rms_ratio": self.rms_ratio,
            "failures": self.failures[:20],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One problem's gate, and its squared errors for the sweep's RMS."""

    gate: Gate
    squares: tuple[float, float]


def held(actual: Any, exact: Any, plain: Any, dtype: str) -> Verdict:
    """An output against the oracle, by the plain implementation's error."""
    xp = array_module(actual)
    bound = 2.0 * xp.abs(plain - exact).max() + 0.5 * UNIT[dtype] * xp.abs(exact).max()
    values = widen(actual, dtype).astype(xp.float64)
    gate = judge("attention", dtype, values, exact, bound=xp.maximum(bound, 1e-30))
    mine, its = (float(((x - exact) ** 2).sum()) for x in (values, plain))
    return Verdict(gate=gate, squares=(mine, its))


def run_twice(call: Callable[[], None], out: Any, lse: Any, dtype: str) -> tuple[Any, Gate]:
    """Run on outputs poisoned in two ways; the result, and whether both runs agree bit by bit."""
    import cupy

    results = []
    for pattern in (0, 1):
        out[...] = poisoned(out.shape, STORAGE[dtype], cupy, pattern)
        if lse is not None:
            lse[...] = poisoned(lse.shape, "float32", cupy, pattern)
        call()
        results.append(out.view(cupy.uint16).copy())
    return out, judge("attention", "repeat", results[0], results[1])


# ---------------------------------------------------------------- prefill


def draw_operands(case: Case, rng: Any) -> Operands:
    """Inputs of a case on the device."""
    import cupy

    q_bounds, kv_bounds = case.bounds
    q_shape = (int(q_bounds[-1]), case.heads, case.head_dim)
    kv_shape = (int(kv_bounds[-1]), case.kv_heads, case.head_dim)
    q = draw(rng, q_shape, case.dtype, case.loudness)
    k, v = (draw(rng, kv_shape, case.dtype) for _ in range(2))
    wants_lse = case.form.score == "softmax"
    if case.packed:
        starts = [cupy.asarray(b) for b in (q_bounds, kv_bounds)]
        longest = (max(case.q_lens), max(case.kv_lens))
        return bind(
            q,
            k,
            v,
            case.form,
            dtype=case.dtype,
            lse=wants_lse,
            q_starts=starts[0],
            kv_starts=starts[1],
            longest=longest,
        )
    batch = len(case.q_lens)
    q, k, v = (x.reshape(batch, -1, *x.shape[1:]) for x in (q, k, v))
    return bind(q, k, v, case.form, dtype=case.dtype, lse=wants_lse)


def check_case(case: Case, prepared: Prepare, seed: int) -> Verdict:
    """Each launch on poisoned outputs, twice, against the oracle; the worst counts."""
    import cupy

    x = draw_operands(case, generator(seed, cupy))
    q, k, v = (widen(array, case.dtype) for array in (x.q, x.k, x.v))
    q_starts, kv_starts = case.bounds
    exact, lse = naive.attend_packed(q, k, v, case.form, q_starts, kv_starts, cupy)
    plain, _ = naive.attend_packed(q, k, v, case.form, q_starts, kv_starts, cupy, case.dtype)
    verdicts = []
    for launch in prepared(x):
        out, repeat = run_twice(launch, x.out, x.lse, x.dtype)
        verdict = held(out, exact, plain, case.dtype)
        red = [gate for gate in (repeat, _lse_gate(x.lse, lse)) if not gate.passed]
        gate = red[0] if verdict.gate.passed and red else verdict.gate
        verdicts.append(Verdict(gate=gate, squares=verdict.squares))
    return max(verdicts, key=lambda v: (not v.gate.passed, v.squares[0]))


def _lse_gate(actual: Any, exact: Any) -> Gate:
    """Where a row sees a key; elsewhere both are -inf."""
    if actual is None:
        return Gate(passed=True, error=0.0, tolerance=0.0, metric="none wanted")
    xp = array_module(actual)
    seen = xp.isfinite(exact)
    if not bool((xp.isneginf(actual) == ~seen).all()):
        return Gate(passed=False, error=float("inf"), tolerance=0.0, metric="unseen rows of lse")
    found = xp.where(seen, actual, 0.0), xp.where(seen, exact, 0.0)
    return judge("attention", "lse", *found)


def sweep(cases: Iterable[Case], prepared: Prepare, seed: int) -> Sweep:
    """Many cases of one kernel."""
    total = Sweep()
    for index, case in enumerate(cases):
        total.add(case, check_case(case, prepared, seed + index))
    return total


def check_sampled(x: Operands, call: Callable[[], None], rows: int = 96) -> Gate:
    """A large problem of one length: a few rows of the first and last head of every end.

    The last ``rows`` queries up to any query are a whole problem of their own: under a causal
    mask with the keys up to the last of them, else with all keys.
    """
    out, repeat = run_twice(call, x.out, x.lse, x.dtype)
    if not repeat.passed:
        return repeat
    ends = sorted({min(rows, x.q_len), x.q_len // 2 + 1, x.q_len})
    gates = [
        _slice_gate(x, out, i, end, rows) for i in sorted({0, x.sequences - 1}) for end in ends
    ]
    return max(gates, key=lambda gate: gate.error / max(gate.tolerance, 1e-300))


def _slice_gate(x: Operands, out: Any, i: int, end: int, rows: int) -> Gate:
    import cupy

    keys = max(1, end + x.kv_len - x.q_len) if x.form.causal else x.kv_len
    queries = slice(i * x.q_len + max(0, end - rows), i * x.q_len + end)
    tokens = slice(i * x.kv_len, i * x.kv_len + keys)
    verdicts = []
    for head in sorted({0, x.heads - 1}):
        kv_head = head * x.kv_heads // x.heads
        q = widen(x.q[queries, head : head + 1], x.dtype)
        k, v = (widen(y[tokens, kv_head : kv_head + 1], x.dtype) for y in (x.k, x.v))
        form = _with_bias(x)
        exact = naive.attend(q, k, v, form, cupy)[0]
        plain = naive.rounded(q, k, v, form, x.dtype, cupy)
        verdicts.append(held(out[queries, head : head + 1], exact, plain, x.dtype))
    return max((v.gate for v in verdicts), key=lambda gate: gate.error)


def check_packed(x: Operands, call: Callable[[], None], starts: Any, rows: int = 96) -> Gate:
    """Large packed self-attention: the last queries of the first and last sequence, one head."""
    import cupy

    out, repeat = run_twice(call, x.out, x.lse, x.dtype)
    gates = [repeat]
    for i in (0, len(starts) - 2):
        first, end = int(starts[i]), int(starts[i + 1])
        queries = slice(max(first, end - rows), end)
        q = widen(x.q[queries, :1], x.dtype)
        k, v = (widen(y[first:end, :1], x.dtype) for y in (x.k, x.v))
        exact = naive.attend(q, k, v, x.form, cupy)[0]
        plain = naive.rounded(q, k, v, x.form, x.dtype, cupy)
        gates.append(held(out[queries, :1], exact, plain, x.dtype).gate)
    return min(gates, key=lambda gate: gate.passed)


def _with_bias(x: Operands) -> naive.Form:
    """The bias follows from the whole sequence, not from a slice of it."""
    return replace(x.form, bias=x.form.bias_of(x.kv_len))


# ---------------------------------------------------------------- decoding


def draw_decode(case: DecodeCase, rng: Any) -> DecodeOperands:
    """Operands of a case on the device; lengths where they differ or pages need them."""
    import cupy

    sequences, longest = len(case.kv_lens), max(case.kv_lens)
    table, outer, tokens = None, sequences, longest
    if case.page:
        width = -(-longest // case.page)
        order = cupy.asarray(np.random.default_rng(longest).permutation(sequences * width))
        table = order.reshape(sequences, width).astype(cupy.int32)
        outer, tokens = order.size, case.page
    lengths = (tokens, case.kv_heads) if case.layout == "bshd" else (case.kv_heads, tokens)
    shape = (outer, *lengths, case.head_dim)
    q = draw(rng, (sequences, case.q_len, case.heads, case.head_dim), case.dtype, case.loudness)
    narrow = case.kv_dtype in ("fp8", "int8")
    k, v = (
        draw_bytes(rng, shape, case.kv_dtype) if narrow else draw(rng, shape, case.kv_dtype)
        for _ in range(2)
    )
    scale = cupy.linspace(0.02, 0.03, case.kv_heads, dtype=cupy.float32) if narrow else None
    return bind_decode(
        q,
        k,
        v,
        case.form,
        dtype=case.dtype,
        kv_dtype=case.kv_dtype,
        layout=case.layout,
        lengths=cupy.asarray(case.kv_lens, cupy.int32)
        if case.page or min(case.kv_lens) < longest
        else None,
        table=table,
        k_scale=scale,
        v_scale=scale,
        lse=True,
    )


def sequence_values(x: DecodeOperands, stored: Any, scale: Any, i: int, length: int) -> Any:
    """Keys or values of sequence ``i`` as float64 [length, kv_heads, d]."""
    xp = array_module(stored)
    rows = stored if x.layout == "bshd" else stored.transpose(0, 2, 1, 3)
    held = rows[i, :length] if x.table is None else naive.gather_pages(rows, x.table[i], length)
    if x.kv_dtype == "fp8":
        return from_e4m3(held, xp) * scale[:, None].astype(xp.float64)
    if x.kv_dtype == "int8":
        return held.astype(xp.float64) * scale[:, None].astype(xp.float64)
    return widen(held, x.kv_dtype).astype(xp.float64)


def check_decode(case: DecodeCase, seed: int) -> Verdict:
    """One launch on poisoned outputs, twice, against the oracle; the first red gate counts."""
    import cupy

    x = draw_decode(case, generator(seed, cupy))
    out, repeat = run_twice(prepare_decode(x), x.out, x.lse, case.dtype)
    queries = widen(x.q, case.dtype)
    exact, plain, lse = (cupy.zeros(y.shape) for y in (x.q, x.q, x.lse))
    for i, length in enumerate(case.kv_lens):
        k = sequence_values(x, x.k, x.k_scale, i, length)
        v = sequence_values(x, x.v, x.v_scale, i, length)
        exact[i], lse[:, i] = naive.attend(queries[i], k, v, case.form, cupy)
        k16, v16 = (naive.rounded_to(y, case.dtype, cupy) for y in (k, v))
        plain[i] = naive.rounded(queries[i], k16, v16, case.form, case.dtype, cupy)
    verdict = held(out, exact, plain, case.dtype)
    for gate in (repeat, _lse_gate(x.lse, lse)):
        if verdict.gate.passed and not gate.passed:
            verdict = Verdict(gate=gate, squares=verdict.squares)
    return verdict


def sweep_decode(cases: Iterable[DecodeCase], seed: int) -> Sweep:
    """Many decoding cases."""
    total = Sweep()
    for index, case in enumerate(cases):
        total.add(case, check_decode(case, seed + index))
    return total


def rung(name: str) -> Prepare:
    """How the named rung of the softmax ladder is prepared: with every tile shape it has."""
    return lambda x: [prepare(x, name, t) for t in tile_choices(RUNGS[name], x.head_dim)]
