"""The delta rule as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from perfmodel.workload import DeltaRule
from refkernels._check import Gate, generator, judge, narrow_bf16, poisoned, random_normal, widen
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
    import cupy

    from refkernels.delta_rule import device

    x = device.bind(**arrays, initial=initial)
    out, final = device.empty_outputs(x)
    out[...] = poisoned(out.shape, "uint16", cupy)
    final[...] = poisoned(final.shape, "float32", cupy)
    device.prepare(x, out, final=final, rung=rung)()
    heads = CHECKED_GROUPS * (x.v.shape[2] // x.q.shape[2])
    start = None if initial is None else host_copy(initial[:, :heads])
    o, state = exact(head_slice(arrays, CHECKED_GROUPS), start)
    worst = worse(
        host_copy(widen(out, "bf16")[:, :, :heads]), o, host_copy(final[:, :heads]), state
    )
    written = not bool(cupy.isnan(widen(out, "bf16")).any() | cupy.isnan(final).any())
    return worst if written else replace(worst, passed=False, error=float("inf"))


def exact(x: dict[str, Any], initial: Any = None) -> tuple[Any, Any]:
    """The oracle's answer by its compiled form: thousands of tokens in a second."""
    from refkernels.delta_rule import host

    wide = {name: host_copy(array).astype(np.float64) for name, array in x.items()}
    return host.delta_rule(**wide, initial=initial)


def host_copy(x: Any) -> Any:
    """A device array in host memory; a NumPy array as it is."""
    return x.get() if hasattr(x, "get") else x


def gate_three_calls(arrays: dict[str, Any], rung: str | None, initial: Any = None) -> Gate:
    """Elements in which three calls that hand over their states at chunk boundaries differ from one
    call's output and final state."""
    import cupy

    from refkernels.delta_rule import device

    run = partial(device.delta_rule, rung=rung)
    whole, last = run(**arrays, initial=initial)
    length = whole.shape[1]
    cuts = (0, device.CHUNK, (length - 1) // device.CHUNK * device.CHUNK, length)
    parts, state = [], initial
    for start, end in pairwise(cuts):
        piece = {name: cupy.ascontiguousarray(x[:, start:end]) for name, x in arrays.items()}
        out, state = run(**piece, initial=state)
        parts.append(out)
    gates = [
        judge("delta_rule", "repeat", cupy.concatenate(parts, axis=1), whole),
        judge("delta_rule", "repeat", state, last),
    ]
    return max(gates, key=lambda gate: gate.error)


def worse(out: Any, o: Any, final: Any, state: Any) -> Gate:
    """The gate of the output and that of the state, whichever is nearer its limit."""
    gates = [judge("delta_rule", "bf16", out, o), judge("delta_rule", "state", final, state)]
    return max(gates, key=lambda gate: gate.error / gate.tolerance)


class DeltaProblem:
    """One rung on ``sets`` independent inputs."""

    def __init__(self, workload: DeltaRule, seed: int, sets: int, rung: str) -> None:
        import cupy

        from refkernels.delta_rule import device

        self.sets, self.rung = sets, rung
        rng = generator(seed, cupy)
        self.arrays = [random_arrays(rng, workload) for _ in range(sets)]
        batch, length, _, heads, dk, dv = sizes(workload)
        step = length == 1  # decode reads the state that it writes
        shape = (batch, heads, dk, dv)
        starts = [random_normal(rng, shape) if step else None for _ in range(sets)]
        self.plans = []
        for arrays, start in zip(self.arrays, starts, strict=True):
            x = device.bind(**arrays, initial=start)
            out, final = device.empty_outputs(x)
            self.plans.append(device.prepare(x, out, final=start if step else final, rung=rung))

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.plans[i]()

    def gate(self) -> Gate:
        """The first set against the oracle."""
        return gate_delta(self.arrays[0], self.rung)


class HostDeltaProblem:
    """The numba recurrence in fp32."""

    def __init__(self, workload: DeltaRule, seed: int, sets: int) -> None:
        rng = generator(seed)
        self.sets = sets
        drawn = [random_arrays(rng, workload) for _ in range(sets)]
        self.arrays = [head_slice(x, sizes(workload)[2]) for x in drawn]
        self.out: Any = None

    def run(self, i: int) -> None:
        """Compute set ``i``."""
        from refkernels.delta_rule.host import delta_rule

        self.out, _ = delta_rule(**self.arrays[i])

    def gate(self) -> Gate:
        """The first set against the oracle."""
        self.run(0)
        o, _ = naive.delta_rule(**self.arrays[0])
        return judge("delta_rule", "fp32", self.out, o)
