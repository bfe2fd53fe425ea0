"""Prefill beside its peers: all that compute a shape take turns under one lasting load.

Their ratios are then not those of the clocks, which follow power and temperature
(``time_beside``). A kernel takes turns only behind its gate at that very shape. What a peer takes
is told in our rows: by itself, drawing less power, it may run at a higher clock, and rows of its
own are of ``alone``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.workload import Attention, Workload
from refkernels._check import Gate, generator
from refkernels._record import kernel_time
from refkernels._timing import Contender, rotation_sets, time_beside
from refkernels.attention import peers
from refkernels.attention.cases import draw
from refkernels.attention.device import bind, prepare
from refkernels.attention.gates import check_packed, check_sampled
from refkernels.attention.naive import Form
from refkernels.attention.problem import PrefillProblem, shapes, size
from refkernels.attention.timed import (
    BUDGET_S,
    Row,
    flops_of,
    grouped_prefills,
    line_of,
    moved_bytes,
    other_prefills,
    prefill,
    red_row,
    shape_of,
)
from refkernels.int8_gemm.peers import capture_torch
from refkernels.sigmoid_attention.device import prepare_sigmoid

NAME = "refkernels.attention/05_persistent"


def grid(head_dim: int) -> list[Row]:
    """Softmax, its peers, and sigmoid with bias -log n and 0; on some shapes tanh, too."""
    rows: list[Row] = []
    for w in prefill(head_dim):
        turns = [softmax(w), *peer_turns(w), sigmoid(w, None), sigmoid(w, 0.0)]
        if size(w.q_len) in (1024, 16384) and head_dim != 256:
            turns.append(sigmoid(w, None, "tanh"))
        rows += beside("grid", turns)
    return rows


def grouped() -> list[Row]:
    """4 KV heads for 16 beside 16, and the peers."""
    rows: list[Row] = []
    for w in grouped_prefills():
        alone = dataclasses.replace(w, kv_heads=w.heads)
        rows += beside("grouped", [softmax(w), softmax(alone), *peer_turns(w)])
    return rows


def others() -> list[Row]:
    """The shapes outside the literature's grid, with the peers that know them."""
    return [row for w in other_prefills() for row in beside("other", [softmax(w), *peer_turns(w)])]


def packed() -> list[Row]:
    """16 packed sequences, lengths uniform in 0.2 to 1 of 4096, beside 16 of the full length."""
    drawn = np.random.default_rng(3).uniform(0.2, 1.0, 16) * 4096
    lengths = (np.full(16, 4096), drawn.astype(np.int64))
    masks = (False, True)
    return [row for c in masks for row in beside("packed", [packed_turn(n, c) for n in lengths])]


# ---------------------------------------------------------------- turns under one load


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn(Contender):
    """A kernel that takes turns with others, and what is said of it."""

    name: str
    shape: str
    flops: float
    moved: float
    workload: Workload | None
    """None where no workload says what was computed: a line is all that comes of it."""
    gate: Gate | None = None
    framework: str | None = None

    def label(self, load: str) -> str:
        """The name, and the shape where it is not that of the load."""
        return self.name if load.endswith(self.shape) else f"{self.name} {self.shape}"


def beside(kind: str, turns: Sequence[Turn]) -> list[Row]:
    """Rows of kernels timed under one load; those whose gate is red take no turn."""
    load = f"{kind} {turns[0].shape}"
    green = [t for t in turns if t.gate is None or t.gate.passed]
    rows = [red_row(t.name, t.shape, t.gate) for t in turns if t.gate and not t.gate.passed]
    timings = time_beside(green, budget_s=BUDGET_S)
    spent = {t.label(load): timing.time_s for t, timing in zip(green, timings, strict=True)}
    for turn, timing in zip(green, timings, strict=True):
        line = line_of(turn.name, turn.shape, timing, turn.flops, turn.moved)
        ours = turn.workload if turn.framework is None else None
        others = {name: time_s for name, time_s in spent.items() if name != turn.label(load)}
        measured = ours and kernel_time(
            ours,
            turn.name,
            timing,
            flops=turn.flops,
            moved_bytes=turn.moved,
            gate=turn.gate,
            load=load,
            beside=others,
        )
        rows.append({"ok": True, "line": line, "measurement": measured})
    return rows


def _turn(w: Attention, name: str, call: Callable[[int], None], sets: int, **more: Any) -> Turn:
    return Turn(
        name=name,
        workload=w,
        shape=shape_of(w),
        call=call,
        sets=sets,
        flops=flops_of(w),
        moved=moved_bytes(w),
        **more,
    )


def softmax(w: Attention) -> Turn:
    """The last rung of the softmax ladder."""
    sets = rotation_sets(moved_bytes(w))
    problem = PrefillProblem(w, size(w.q_len), sets, "05_persistent")
    return _turn(w, NAME, problem.run, sets, gate=problem.gate())


def sigmoid(w: Attention, bias: float | None, weights: str = "accurate") -> Turn:
    """Sigmoid attention of a softmax workload, with one bias and one form of the weights."""
    import cupy

    form = Form(causal=bool(w.causal), score="sigmoid", bias=bias)
    rng, calls, operands = generator(size(w.q_len), cupy), [], []
    q_shape, kv_shape = shapes(w)
    for _ in range(rotation_sets(moved_bytes(w))):
        q, k, v = (draw(rng, s, str(w.dtype)) for s in (q_shape, kv_shape, kv_shape))
        operands.append(bind(q, k, v, form, dtype=str(w.dtype)))
        calls.append(prepare_sigmoid(operands[-1], "02_persistent", weights))
    gate = check_sampled(operands[0], calls[0]) if weights == "accurate" else None
    name = f"refkernels.sigmoid_attention/02_persistent ({weights}, bias "
    name += "-log n)" if bias is None else f"{bias:g})"
    squashed = dataclasses.replace(w, score="sigmoid")
    return _turn(squashed, name, lambda i: calls[i](), len(calls), gate=gate)


def peer_turns(w: Attention) -> list[Turn]:
    """The peers that know this workload."""
    sets = rotation_sets(moved_bytes(w), most=64)
    how = {"capture": capture_torch}
    return [
        _turn(w, name, build(sets), sets, framework=peers.framework(), **how)
        for name, build in peers.peers_of(w).items()
    ]


def packed_turn(lens: Any, causal: bool) -> Turn:
    """Packed self-attention of sequences of these lengths, 16 heads of 128."""
    import cupy

    bounds = np.concatenate(([0], np.cumsum(lens))).astype(np.int32)
    draws = generator(4, cupy)
    q, k, v = (draw(draws, (int(bounds[-1]), 16, 128), "bf16") for _ in range(3))
    starts = {"q_starts": cupy.asarray(bounds), "kv_starts": cupy.asarray(bounds)}
    x = bind(q, k, v, Form(causal=causal), **starts, longest=(int(max(lens)),) * 2)
    call = prepare(x, "05_persistent")
    pairs = float((lens.astype(np.float64) ** 2).sum()) * (0.5 if causal else 1.0)
    return Turn(
        name=NAME,
        shape=f"packed 16x{min(lens)}..{max(lens)} {'c' if causal else ''}",
        call=lambda i: call(),
        sets=1,
        flops=4.0 * 128 * 16 * pairs,
        moved=0.0,
        workload=None,
        gate=check_packed(x, call, bounds),
    )
