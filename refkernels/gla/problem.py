"""Gated linear attention as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.workload import LinearAttention
from refkernels._check import Gate, generator, narrow_bf16, random_normal, widen
from refkernels._mixer_problem import (
    HostProblem,
    plan_each,
    poisoned_outputs,
    three_calls,
    unless_unwritten,
    worse,
)
from refkernels.gla import naive, oracle

CHECKED_HEADS = 5
"""Heads that a gate compares, the first, the last and between: they are independent."""


def sizes(w: LinearAttention) -> tuple[int, ...]:
    """``(batch, length, heads, dk, dv)``."""
    found = (w.batch, w.seq_len, w.heads, w.key_dim, w.value_dim)
    return tuple(int(np.asarray(n)) for n in found)


def random_arrays(rng: Any, w: LinearAttention, *, gate: float = 1.0) -> dict[str, Any]:
    """Normal q, k, v and log gates ``gate * log(sigmoid(normal))`` in bf16 bits; ``gate`` 20 is
    strong: decays of e^-16 in a mean step."""
    batch, length, heads, dk, dv = sizes(w)
    drawn = {
        "q": random_normal(rng, (batch, length, heads, dk)),
        "k": random_normal(rng, (batch, length, heads, dk)),
        "v": random_normal(rng, (batch, length, heads, dv)),
    }
    shape = {"vector": (batch, length, heads, dk), "scalar": (batch, length, heads)}.get(w.gate)
    if shape is not None:
        x = random_normal(rng, shape)
        drawn["g"] = np.float32(-gate) * np.logaddexp(np.float32(0.0), -x)
    return {name: narrow_bf16(x.astype(np.float32)) for name, x in drawn.items()}


def checked_heads(heads: int) -> list[int]:
    """The numbers of the heads that a gate compares."""
    return sorted({int(h) for h in np.linspace(0, heads - 1, CHECKED_HEADS)})


def head_slice(x: dict[str, Any], heads: list[int]) -> dict[str, Any]:
    """Some heads, widened to fp32."""
    return {name: widen(array[:, :, heads], "bf16") for name, array in x.items()}


def gate_gla(
    arrays: dict[str, Any], rung: str | None, *, initial: Any = None, segment: int | None = None
) -> Gate:
    """Run on poisoned outputs; output and final state against the oracle, the worse of the two."""
    import cupy

    out, final = run_poisoned(arrays, rung, initial, segment)
    heads = checked_heads(final.shape[1])
    start = None if initial is None else initial[:, heads]
    o, state = oracle.gla(**head_slice(arrays, heads), initial=start, xp=cupy)
    gate = worse("gla", widen(out, "bf16")[:, :, heads], o, final[:, heads], state)
    return unless_unwritten(gate, out, final)


def run_poisoned(
    arrays: dict[str, Any], rung: str | None, initial: Any = None, segment: int | None = None
) -> tuple[Any, Any]:
    """Output (bf16 bits) and final state of one call, both NaN before it."""
    from refkernels.gla import device

    x = device.bind(**arrays, initial=initial)
    out, final = poisoned_outputs(x)
    device.prepare(x, out, final=final, rung=rung, segment=segment)()
    return out, final


def gate_three_calls(arrays: dict[str, Any], rung: str) -> Gate:
    """Three calls that hand on the state against one."""

    def run(tokens: slice, state: Any, segment: int) -> tuple[Any, Any]:
        piece = {name: x[:, tokens].copy() for name, x in arrays.items()}
        return run_poisoned(piece, rung, state, segment)

    return three_calls("gla", arrays["v"].shape[1], run)


class GlaProblem:
    """One rung on ``sets`` independent inputs."""

    def __init__(self, workload: LinearAttention, seed: int, sets: int, rung: str) -> None:
        import cupy

        from refkernels.gla import device

        self.sets, self.rung = sets, rung
        rng = generator(seed, cupy)
        self.arrays = [random_arrays(rng, workload) for _ in range(sets)]
        batch, length, *state = sizes(workload)
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
        return gate_gla(self.arrays[0], self.rung)


class HostGlaProblem(HostProblem[dict[str, Any]]):
    """The numba recurrence in fp32."""

    def __init__(self, workload: LinearAttention, seed: int, sets: int) -> None:
        from refkernels.gla import host

        rng = generator(seed)
        heads = list(range(sizes(workload)[2]))
        inputs = [head_slice(random_arrays(rng, workload), heads) for _ in range(sets)]
        super().__init__("gla", inputs, lambda x: host.gla(**x)[0], lambda x: naive.gla(**x)[0])
