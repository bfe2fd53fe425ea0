"""SSD as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.workload import Ssd
from refkernels._check import Gate, generator, narrow_bf16, random_normal, widen
from refkernels._mixer_problem import (
    HostProblem,
    plan_each,
    poisoned_outputs,
    three_calls,
    unless_unwritten,
    worse,
)
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
    from refkernels.gla.device import prepare
    from refkernels.ssd.device import bind

    x = bind(s, initial)
    out, final = poisoned_outputs(x)
    prepare(x, out, final=final, rung=rung, segment=segment)()
    return out, final


def gate_three_calls(s: Inputs, rung: str) -> Gate:
    """Three calls that hand on the state against one."""

    def run(tokens: slice, state: Any, segment: int) -> tuple[Any, Any]:
        part: dict[str, Any] = {name: getattr(s, name)[:, tokens].copy() for name in STREAMS}
        return run_poisoned(replace(s, **part), rung, state, segment)

    return three_calls("ssd", s.x.shape[1], run)


def gate_ssd(s: Inputs, rung: str | None, initial: Any = None) -> Gate:
    """Run on poisoned outputs; output and final state against the oracle, the worse of the two."""
    import cupy

    out, final = run_poisoned(s, rung, initial)
    start = None if initial is None else initial[:1]
    y, state = naive.ssd(first_sequence(widened(s)), start, cupy, oracle.gla)
    gate = worse("ssd", widen(out, "bf16")[:1], y, final[:1], state)
    return unless_unwritten(gate, out, final)


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
        self.plans = plan_each(
            bind,
            lambda x, out, final: prepare(x, out, final=final, rung=rung),
            self.inputs,
            rng,
            (batch, heads, states, width),
            step=length == 1,
        )

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.plans[i]()

    def gate(self) -> Gate:
        """The first set against the oracle."""
        return gate_ssd(self.inputs[0], self.rung)


class HostSsdProblem(HostProblem[Inputs]):
    """The numba recurrence in fp32."""

    def __init__(self, workload: Ssd, seed: int, sets: int) -> None:
        from refkernels.ssd import host

        rng = generator(seed)
        inputs = [widened(random_inputs(rng, workload)) for _ in range(sets)]
        super().__init__("ssd", inputs, lambda s: host.ssd(s)[0], lambda s: naive.ssd(s)[0])
