"""The scan as tests and benchmarks see it: inputs from a seed, a run, a gate."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from types import ModuleType
from typing import Any

import numpy as np

from perfmodel.workload import SelectiveScan
from refkernels._check import (
    Gate,
    array_module,
    generator,
    judge,
    narrow_bf16,
    poisoned,
    random_normal,
    widen,
)
from refkernels._launch import STORAGE
from refkernels._plan import ceil_div
from refkernels.selective_scan import oracle
from refkernels.selective_scan.naive import Inputs

CHECKED_CHANNELS = 64
"""Channels that a gate compares: they are independent, and the oracle walks every token."""


def sizes(w: SelectiveScan) -> tuple[int, int, int, int, int]:
    """``(batch, length, channels, N, groups)``."""
    found = (w.batch, w.seq_len, w.channels, w.state, w.groups)
    return tuple(int(np.asarray(n)) for n in found)  # type: ignore[return-value]


def random_inputs(
    rng: Any, w: SelectiveScan, xp: ModuleType = np, *, strong: bool = False
) -> Inputs:
    """Normal u, z, B, C; ``A = -exp(normal)``; deltas as a trained model's (dt of 0.001 to 0.1).

    ``strong`` shifts delta by 20: decays of e^-20 and less in a step.
    """
    batch, length, channels, states, groups = sizes(w)

    def element(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Any:
        values = random_normal(rng, shape, scale=scale) + np.float32(shift)
        return narrowed(values, str(w.dtype))

    def wide(*shape: int) -> Any:
        return random_normal(rng, shape)

    return Inputs(
        u=element(batch, channels, length),
        delta=element(batch, channels, length, scale=0.5, shift=20.0 if strong else 0.0),
        a=-xp.exp(wide(channels, states)),
        b=element(batch, groups, states, length),
        c=element(batch, groups, states, length),
        skip=wide(channels),
        z=element(batch, channels, length) if w.gated else None,
        bias=wide(channels) - np.float32(4.0),
    )


def narrowed(values: Any, dtype: str) -> Any:
    """fp32 values in the storage of ``dtype``."""
    if dtype == "bf16":
        return narrow_bf16(values)
    return values.astype(STORAGE[dtype])


def widened(x: Inputs, dtype: str) -> Inputs:
    """Everything as fp32."""
    arrays = {f.name: getattr(x, f.name) for f in fields(x) if f.name != "softplus"}
    wide: dict[str, Any] = {
        k: None if v is None else widen(v, dtype).astype(np.float32) for k, v in arrays.items()
    }
    return replace(x, **wide)


def checked_channels(channels: int) -> Any:
    """Indices of the channels that a gate compares, the first and the last among them."""
    return np.unique(np.linspace(0, channels - 1, CHECKED_CHANNELS).astype(int))


def in_numpy(array: Any) -> Any:
    """A copy on the host as fp32, if it is on the device."""
    return np.asarray(array.get() if hasattr(array, "get") else array, dtype=np.float32)


def has_nan(array: Any, dtype: str) -> bool:
    """Whether any element was not written (outputs are poisoned with NaN)."""
    return bool(array_module(array).isnan(widen(array, dtype)).any())


def judged(x: Inputs, dtype: str, out: Any, final: Any, initial: Any = None) -> Gate:
    """Output and final state of some channels against the oracle, the worse of the two."""
    some = checked_channels(x.u.shape[1])
    y, h = oracle.selective_scan(x, some, initial, dtype)
    gates = [
        judge("selective_scan", dtype, in_numpy(widen(out[:, some], dtype)), y),
        judge("selective_scan", "state", in_numpy(final[:, some]), h),
    ]
    worst = max(gates, key=lambda gate: gate.error / gate.tolerance)
    written = not any(has_nan(array, kind) for array, kind in ((out, dtype), (final, "fp32")))
    return worst if written else replace(worst, passed=False, error=float("inf"))


def gate_scan(x: Inputs, dtype: str, rung: str, initial: Any = None, **chosen: Any) -> Gate:
    """Run on poisoned outputs; output and final state against the oracle, the worse of the two."""
    import cupy

    from refkernels.selective_scan import device

    bound = device.bind(x, dtype)
    out = poisoned(bound.u.shape, STORAGE[dtype], cupy)
    final = poisoned(device.state_shape(bound), "float32", cupy)
    device.prepare(bound, dtype, out, final=final, initial=initial, rung=rung, **chosen)()
    return judged(x, dtype, out, final, initial)


def gate_three_calls(x: Inputs, dtype: str, rung: str) -> Gate:
    """A sequence cut at two multiples of 64 tokens, the state handed on, gives one call's bits."""
    whole, last = _in_one_walk(x, dtype, rung, None)
    length = x.u.shape[2]
    first = ceil_div(length // 3, 64) * 64
    state, gates = None, []
    for start, end in itertools.pairwise((0, first, min(2 * first, length), length)):
        pieces: dict[str, Any] = {
            name: None if (array := getattr(x, name)) is None else array[..., start:end].copy()
            for name in ("u", "delta", "z", "b", "c")
        }
        out, state = _in_one_walk(replace(x, **pieces), dtype, rung, state)
        gates.append(judge("selective_scan", "repeat", out, whole[..., start:end]))
    gates.append(judge("selective_scan", "repeat", state, last))
    return max(gates, key=lambda gate: gate.error)


def _in_one_walk(x: Inputs, dtype: str, rung: str, initial: Any) -> tuple[Any, Any]:
    """Output and final state of a call that does not cut the sequence itself."""
    import cupy

    from refkernels.selective_scan import device

    bound = device.bind(x, dtype)
    out = poisoned(bound.u.shape, STORAGE[dtype], cupy)
    final = poisoned(device.state_shape(bound), "float32", cupy)
    segment = ceil_div(x.u.shape[2], device.TILE) * device.TILE
    device.prepare(bound, dtype, out, final=final, initial=initial, rung=rung, segment=segment)()
    return out, final


class ScanProblem:
    """One rung on ``sets`` independent inputs."""

    def __init__(self, workload: SelectiveScan, seed: int, sets: int, rung: str) -> None:
        import cupy

        from refkernels.selective_scan import device

        self.sets, self.rung, self.dtype = sets, rung, str(workload.dtype)
        rng = generator(seed, cupy)
        self.inputs = [random_inputs(rng, workload, cupy) for _ in range(sets)]
        bound = [device.bind(x, self.dtype) for x in self.inputs]
        self.plans = [
            device.prepare(
                x,
                self.dtype,
                cupy.empty_like(x.u),
                final=cupy.empty(device.state_shape(x), cupy.float32),
                rung=rung,
            )
            for x in bound
        ]

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.plans[i]()

    def gate(self) -> Gate:
        """The first set against the oracle."""
        return gate_scan(self.inputs[0], self.dtype, self.rung)


class StepProblem:
    """The decode step; states are read and written in place."""

    def __init__(self, workload: SelectiveScan, seed: int, sets: int) -> None:
        import cupy

        from refkernels.selective_scan import device

        self.sets, self.dtype = sets, str(workload.dtype)
        rng = generator(seed, cupy)
        self.inputs = [random_inputs(rng, workload, cupy) for _ in range(sets)]
        bound = [device.bind(x, self.dtype) for x in self.inputs]
        self.states = [random_normal(rng, device.state_shape(x)) for x in bound]
        self.outs = [poisoned(x.u.shape, STORAGE[self.dtype], cupy) for x in bound]
        self.plans = [
            device.prepare_step(x, self.dtype, state, out)
            for x, state, out in zip(bound, self.states, self.outs, strict=True)
        ]

    def run(self, i: int) -> None:
        """Launch set ``i``."""
        self.plans[i]()

    def gate(self) -> Gate:
        """The first set against the oracle, output and state."""
        before = self.states[0].copy()
        self.run(0)
        return judged(self.inputs[0], self.dtype, self.outs[0], self.states[0], before)


class HostScanProblem:
    """The numba scan in fp32."""

    def __init__(self, workload: SelectiveScan, seed: int, sets: int) -> None:
        rng = generator(seed)
        self.sets = sets
        self.inputs = [
            widened(random_inputs(rng, workload), str(workload.dtype)) for _ in range(sets)
        ]
        self.out: Any = None

    def run(self, i: int) -> None:
        """Compute set ``i``."""
        from refkernels.selective_scan.host import selective_scan

        self.out, _ = selective_scan(self.inputs[i])

    def gate(self) -> Gate:
        """The first set against the oracle."""
        self.run(0)
        y, _ = oracle.selective_scan(self.inputs[0])
        return judge("selective_scan", "fp32", self.out, y)
