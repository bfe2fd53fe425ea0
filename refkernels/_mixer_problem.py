"""What the mixers' problems share: how outputs are poisoned and judged, a plan per input set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from refkernels._check import Gate, array_module, judge, poisoned, random_normal, widen
from refkernels._matrix_state import CHUNK, Bound, empty_outputs
from refkernels._plan import Plan, ceil_div

Inputs = TypeVar("Inputs")
X = TypeVar("X", bound=Bound)


def poisoned_outputs(x: Bound) -> tuple[Any, Any]:
    """Output (bf16 bits) and final state that are NaN until a kernel writes them."""
    import cupy

    out, final = empty_outputs(x)
    out[...] = poisoned(out.shape, "uint16", cupy)
    final[...] = poisoned(final.shape, "float32", cupy)
    return out, final


def worse(operator: str, out: Any, o: Any, final: Any, state: Any) -> Gate:
    """The gate of the output and that of the state, whichever is nearer its limit."""
    gates = [judge(operator, "bf16", out, o), judge(operator, "state", final, state)]
    return max(gates, key=lambda gate: gate.error / gate.tolerance)


def unless_unwritten(gate: Gate, *outputs: Any) -> Gate:
    """``gate``, or a red one where an element of an output (fp32, or bf16 bits) is NaN still."""
    wide = [widen(x, "bf16") for x in outputs]
    if not any(bool(array_module(x).isnan(x).any()) for x in wide):
        return gate
    return replace(gate, passed=False, error=float("inf"))


def three_calls(
    operator: str, length: int, run: Callable[[slice, Any, int], tuple[Any, Any]]
) -> Gate:
    """A sequence cut at two multiples of a chunk, the state handed on, gives one call's bits.

    ``run`` gives output and final state of a slice of the tokens, from a state (None: the first),
    where a launcher cuts into segments in those of so many tokens.
    """
    third = ceil_div(length, 3 * CHUNK) * CHUNK
    whole, last = run(slice(0, length), None, 3 * third)
    state, gates = None, []
    for start in range(0, length, third):
        part = slice(start, start + third)
        out, state = run(part, state, third)
        gates.append(judge(operator, "repeat", out, whole[:, part]))
    gates.append(judge(operator, "repeat", state, last))
    return max(gates, key=lambda gate: gate.error)


def plan_each(
    bind: Callable[[Inputs, Any], X],
    prepare: Callable[[X, Any, Any], Plan],
    inputs: Iterable[Inputs],
    rng: Any,
    state: tuple[int, ...],
    *,
    step: bool,
) -> list[Plan]:
    """A plan for each input set; a decode step starts from a state, in place of which it writes."""
    plans = []
    for arrays in inputs:
        start = random_normal(rng, state) if step else None
        x = bind(arrays, start)
        out, final = empty_outputs(x)
        plans.append(prepare(x, out, start if step else final))
    return plans


class HostProblem(Generic[Inputs]):
    """A compiled recurrence in fp32, ``compute``, beside its definition, ``exact``."""

    def __init__(
        self,
        operator: str,
        inputs: Sequence[Inputs],
        compute: Callable[[Inputs], Any],
        exact: Callable[[Inputs], Any],
    ) -> None:
        self.operator, self.inputs, self.sets = operator, inputs, len(inputs)
        self.compute, self.exact = compute, exact
        self.out: Any = None

    def run(self, i: int) -> None:
        """Compute set ``i``."""
        self.out = self.compute(self.inputs[i])

    def gate(self) -> Gate:
        """The first set against the oracle."""
        self.run(0)
        return judge(self.operator, "fp32", self.out, self.exact(self.inputs[0]))
