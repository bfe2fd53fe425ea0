"""SSD as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.workload import Ssd
from refkernels._check import Gate, generator, judge, narrow_bf16, poisoned, random_normal, widen
from refkernels._matrix_state import empty_outputs
from refkernels._mixer_problem import worse
from refkernels.gla import oracle
from refkernels.ssd import naive
from refkernels.ssd.naive import Inputs

STREAMS = ("x", "delta", "b", "c")


def sizes(w: Ssd) -> tuple[int, ...]:
    """``(batch, length, heads, P, N, groups)``."""
    found = (w.batch, w.seq_len, w.heads, w.head_dim, w.state, w.groups)
    return tuple(int(np.asarray(n)) for n in found)


def random_inputs(rng: Any, w: Ssd, xp: ModuleType = np, *, strong: bool = False) -> Inputs:
    """Normal x, B, C in bf16 bits, ``A = -exp(normal)``; ``strong`` shifts delta by 20."""
    batch, length, heads, width, states, groups = sizes(w)

    def element(*shape: int, shift: float = 0.0) -> Any:
        return narrow_bf16(random_normal(rng, shape) + np.float32(shift))

    return Inputs(
        x=element(batch, length, heads, width),
        delta=element(batch, length, heads, shift=20.0 if strong else 0.0),
        a=-xp.exp(random_normal(rng, (heads,))),
        b=element(batch, length, groups, states),
        c=element(batch, length, groups, states),
        skip=random_normal(rng, (heads,)),
        bias=random_normal(rng, (heads,)) - np.float32(4.0),
    )


def widened(s: Inputs) -> Inputs:
    """Everything as fp32."""
    wide: dict[str, Any] = {name: widen(getattr(s, name), "bf16") for name in STREAMS}
    return replace(s, **wide)


def with_zero_steps(s: Inputs, xp: ModuleType = np) -> Inputs:
    """Every third token has a step of zero: softplus of a number far below."""
    delta = widen(s.delta, "bf16").copy()
    delta[:, ::3] = xp.float32(-1e4)
    return replace(s, delta=narrow_bf16(delta))


def run_poisoned(
    s: Inputs, rung: str | None, initial: Any = None, segment: int | None = None
) -> tuple[Any, Any]:
    """Output (bf16 bits) and final state of one call, both NaN before it."""
    import cupy

    from refkernels.gla.device import prepare
    from refkernels.ssd.device import bind

    x = bind(s, initial)
    out, final = empty_outputs(x)
    out[...] = poisoned(out.shape, "uint16", cupy)
    final[...] = poisoned(final.shape, "float32", cupy)
    prepare(x, out, final=final, rung=rung, segment=segment)()
    return out, final


def gate_three_calls(s: Inputs, rung: str) -> Gate:
    """A sequence cut at two multiples of 64 tokens, the state handed on, gives one call's bits."""
    length = s.x.shape[1]
    first = -(-length // 192) * 64
    whole, last = run_poisoned(s, rung, segment=3 * first)
    state, gates = None, []
    for start in range(0, length, first):
        part: dict[str, Any] = {n: getattr(s, n)[:, start : start + first].copy() for n in STREAMS}
        out, state = run_poisoned(replace(s, **part), rung, state, first)
        gates.append(judge("ssd", "repeat", out, whole[:, start : start + first]))
    gates.append(judge("ssd", "repeat", state, last))
    return max(gates, key=lambda gate: gate.error)


def gate_ssd(s: Inputs, rung: str | None, initial: Any = None) -> Gate:
    """Run on poisoned outputs; output and final state against the oracle, the worse of the two."""
    import cupy

    out, final = run_poisoned(s, rung, initial)
    some = first_sequence(widened(s))
    start = None if initial is None else initial[:1]
    y, state = naive.ssd(some, start, cupy, oracle.gla)
    worst = worse("ssd", widen(out, "bf16")[:1], y, final[:1], state)
    written = not bool(cupy.isnan(widen(out, "bf16")).any())
    return worst if written else replace(worst, passed=False, error=float("inf"))


def first_sequence(s: Inputs) -> Inputs:
    """The first of the batch: sequences are independent, and the oracle walks every token."""
    first: dict[str, Any] = {name: getattr(s, name)[:1] for name in STREAMS}
    return replace(s, **first)


class SsdProblem:
    """One rung on ``sets`` independent inputs."""

    def __init__(self, workload: Ssd, seed: int, sets: int, rung: str) -> None:
        import cupy

        from refkernels.gla.device import prepare
        from refkernels.ssd.device import bind

        self.sets, self.rung = sets, rung
        rng = generator(seed, cupy)
        self.inputs = [random_inputs(rng, workload, cupy) for _ in range(sets)]
        batch, length, heads, width, states, _ = sizes(workload)
        step = length == 1  # decode reads the state that it writes
        self.plans = []
        for s in self.inputs:
            start = random_normal(rng, (batch, heads, states, width)) if step else None
            x = bind(s, start)
            out, final = empty_outputs(x)
            self.plans.append(prepare(x, out, final=start if step else final, rung=rung))

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.plans[i]()

    def gate(self) -> Gate:
        """The first set against the oracle."""
        return gate_ssd(self.inputs[0], self.rung)


class HostSsdProblem:
    """The numba recurrence in fp32."""

    def __init__(self, workload: Ssd, seed: int, sets: int) -> None:
        rng = generator(seed)
        self.sets = sets
        self.inputs = [widened(random_inputs(rng, workload)) for _ in range(sets)]
        self.out: Any = None

    def run(self, i: int) -> None:
        """Compute set ``i``."""
        from refkernels.ssd.host import ssd

        self.out, _ = ssd(self.inputs[i])

    def gate(self) -> Gate:
        """The first set against the oracle."""
        self.run(0)
        y, _ = naive.ssd(self.inputs[0])
        return judge("ssd", "fp32", self.out, y)
