"""The delta rule as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.workload import DeltaRule
from refkernels._check import Gate, generator, narrow_bf16, random_normal, widen
from refkernels._mixer_problem import (
    HostProblem,
    plan_each,
    poisoned_outputs,
    three_calls,
    unless_unwritten,
    worse,
)
from refkernels.delta_rule import naive

CHECKED_GROUPS = 1
"""Key heads (with all heads that share them) that a gate compares: they are independent."""


def sizes(w: DeltaRule) -> tuple[int, ...]:
    """``(batch, length, key_heads, heads, dk, dv)``."""
    found = (w.batch, w.seq_len, w.key_heads, w.value_heads, w.key_dim, w.value_dim)
    return tuple(int(np.asarray(n)) for n in found)


def random_arrays(rng: Any, w: DeltaRule, *, gate: float = 1.0) -> dict[str, Any]:
    """q, k of unit length, normal v, beta = sigmoid(normal) and, if gated, log gates
    ``gate * log(sigmoid(normal))``, all in bf16 bits; ``gate`` 20 is strong: e^-16 a mean step."""
    batch, length, key_heads, heads, dk, dv = sizes(w)
    drawn = {
        "q": _unit(random_normal(rng, (batch, length, key_heads, dk))),
        "k": _unit(random_normal(rng, (batch, length, key_heads, dk))),
        "v": random_normal(rng, (batch, length, heads, dv)),
        "beta": 1 / (1 + np.exp(-random_normal(rng, (batch, length, heads)))),
    }
    if w.gated:
        x = random_normal(rng, (batch, length, heads))
        drawn["g"] = np.float32(-gate) * np.logaddexp(np.float32(0.0), -x)
    return {name: narrow_bf16(x.astype(np.float32)) for name, x in drawn.items()}


def _unit(x: Any) -> Any:
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def head_slice(x: dict[str, Any], groups: int) -> dict[str, Any]:
    """The first ``groups`` key heads with the heads that share them, widened to fp32."""
    shared = x["v"].shape[2] // x["q"].shape[2]
    kept = {"q": groups, "k": groups}
    return {
        name: widen(array[:, :, : kept.get(name, groups * shared)], "bf16")
        for name, array in x.items()
    }


def gate_delta(arrays: dict[str, Any], rung: str | None, *, initial: Any = None) -> Gate:
    """Run on poisoned outputs; output and final state against the oracle, the worse of the two."""
    out, final = run_poisoned(arrays, rung, initial)
    heads = CHECKED_GROUPS * (out.shape[2] // arrays["q"].shape[2])
    start = None if initial is None else host_copy(initial[:, :heads])
    o, state = exact(head_slice(arrays, CHECKED_GROUPS), start)
    some, last = host_copy(widen(out, "bf16")[:, :, :heads]), host_copy(final[:, :heads])
    return unless_unwritten(worse("delta_rule", some, o, last, state), out, final)


def run_poisoned(arrays: dict[str, Any], rung: str | None, initial: Any = None) -> tuple[Any, Any]:
    """Output (bf16 bits) and final state of one call, both NaN before it."""
    from refkernels.delta_rule import device

    x = device.bind(**arrays, initial=initial)
    out, final = poisoned_outputs(x)
    device.prepare(x, out, final=final, rung=rung)()
    return out, final


def exact(x: dict[str, Any], initial: Any = None) -> tuple[Any, Any]:
    """The oracle's answer by its compiled form: thousands of tokens in a second."""
    from refkernels.delta_rule import host

    wide = {name: host_copy(array).astype(np.float64) for name, array in x.items()}
    return host.delta_rule(**wide, initial=initial)


def host_copy(x: Any) -> Any:
    """A device array in host memory; a NumPy array as it is."""
    return x.get() if hasattr(x, "get") else x


def gate_three_calls(arrays: dict[str, Any], rung: str | None, initial: Any = None) -> Gate:
    """Three calls that hand on the state against one."""

    def run(tokens: slice, state: Any, _: int) -> tuple[Any, Any]:
        piece = {name: x[:, tokens].copy() for name, x in arrays.items()}
        return run_poisoned(piece, rung, initial if state is None else state)

    return three_calls("delta_rule", arrays["v"].shape[1], run)


class DeltaProblem:
    """One rung on ``sets`` independent inputs."""

    def __init__(self, workload: DeltaRule, seed: int, sets: int, rung: str) -> None:
        import cupy

        from refkernels.delta_rule import device

        self.sets, self.rung = sets, rung
        rng = generator(seed, cupy)
        self.arrays = [random_arrays(rng, workload) for _ in range(sets)]
        batch, length, _, *state = sizes(workload)
        self.plans = plan_each(
            lambda arrays, start: device.bind(**arrays, initial=start),
            lambda x, out, final: device.prepare(x, out, final=final, rung=rung),
            self.arrays,
            rng,
            (batch, *state),
            step=length == 1,
        )

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.plans[i]()

    def gate(self) -> Gate:
        """The first set against the oracle."""
        return gate_delta(self.arrays[0], self.rung)


class HostDeltaProblem(HostProblem[dict[str, Any]]):
    """The numba recurrence in fp32."""

    def __init__(self, workload: DeltaRule, seed: int, sets: int) -> None:
        from refkernels.delta_rule import host

        rng = generator(seed)
        groups = sizes(workload)[2]
        inputs = [head_slice(random_arrays(rng, workload), groups) for _ in range(sets)]
        super().__init__(
            "delta_rule",
            inputs,
            lambda x: host.delta_rule(**x)[0],
            lambda x: naive.delta_rule(**x)[0],
        )
