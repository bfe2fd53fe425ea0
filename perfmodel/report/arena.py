"""An arena for people: the verdict, each memory, what every move saves, time against address."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from perfmodel.mcu.arena import ArenaPlan, Placement
from perfmodel.mcu.memory import MemoryUse
from perfmodel.report.shown import BAR, Shown, assumed
from perfmodel.report.tables import Column, Table, plain
from perfmodel.units import format_binary

CHART_COLUMNS = 64
CHART_ROWS = 16
"""Size of the chart in characters."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

MEMORIES = (
    Column(key="memory", title="memory", right=False),
    Column(key="used_bytes", title="used", text=format_binary),
    Column(key="budget_bytes", title="budget", text=format_binary),
    Column(key="reserve_bytes", title="kept free", text=format_binary),
    Column(key="capacity_bytes", title="capacity", text=format_binary),
    Column(key="fits", title="fits"),
    Column(key="bar", title="", right=False),
)
MOVES = (
    Column(key="move", title="move", right=False),
    Column(key="peak_bytes", title="arena", text=format_binary),
    Column(key="saved_bytes", title="saves", text=format_binary),
    Column(key="largest_bytes", title="largest buffer saved", text=format_binary),
    Column(key="does", title="", right=False),
)
OFFSETS = (
    Column(key="letter", title="", right=False),
    Column(key="buffer", title="buffer", right=False),
    Column(key="memory", title="memory", right=False),
    Column(key="offset", title="offset"),
    Column(key="bytes", title="bytes"),
    Column(key="first", title="first step"),
    Column(key="last", title="last step"),
    Column(key="tensors", title="tensors", right=False),
)
SUGGESTIONS = (
    Column(key="change", title="what to change", right=False),
    Column(key="memory", title="memory", right=False),
    Column(key="saved_bytes", title="saves", text=format_binary),
    Column(key="used_bytes", title="then used", text=format_binary),
    Column(key="fits", title="then fits"),
)


def arena_shown(plan: ArenaPlan) -> Shown:
    """The verdict, the memories, the moves, the buffers at the peak, the chart, suggestions."""
    step = _worst_step(plan)
    peak = [p for p in plan.placements if p.first <= step <= p.last and p.memory == "sram"]
    peak.sort(key=lambda p: p.offset)
    letters = {p.buffer: letter for p, letter in zip(peak, LETTERS, strict=False)}
    worst = plan.layout.network.ops[step].name
    tables = [
        Table(title="memories", columns=MEMORIES, rows=tuple(map(_memory_row, plan.memories))),
        Table(title="what each move saves", columns=MOVES, rows=_rows(plan, "moves")),
        Table(
            title=f"alive at the worst step: {step}, {worst}",
            columns=OFFSETS,
            rows=tuple(_offset_row(p, letters) for p in peak),
            caption="--csv lists every buffer",
        ),
    ]
    if plan.suggestions:
        rows = _rows(plan, "suggestions")
        tables.append(Table(title="what would help", columns=SUGGESTIONS, rows=rows))
    every = tuple(_offset_row(p, letters) for p in plan.placements)
    return Shown(
        lead=(arena_verdict(plan), *_proof(plan)),
        tables=tuple(tables),
        notes=(*chart(plan, letters), *_weights(plan), *assumed(plan.assumptions)),
        rows=Table(title="offsets", columns=OFFSETS[1:], rows=every),
    )


def arena_verdict(plan: ArenaPlan) -> str:
    """One line: whether the network fits, and where not."""
    lacking = [m.memory for m in plan.memories if m.fits is False]
    does = "fits" if not lacking else f"DOES NOT FIT ({', '.join(lacking)})"
    arena = f"arena {format_binary(plan.peak_bytes)}"
    weights = f"weights {format_binary(plan.network.weight_bytes)}"
    macs = f"{plain(plan.network.macs)} multiply-accumulates"
    return f"{plan.network.name} on {plan.device}: {does}; {arena}, {weights}, {macs}"


def _proof(plan: ArenaPlan) -> tuple[str, ...]:
    if plan.peak_bytes == plan.live_bytes:
        how = "optimal: as many bytes as live at its worst step"
    elif plan.optimal:
        how = f"optimal, proven by {plan.method}: the live bytes ({plan.live_bytes:,}) do not pack"
    else:
        gap = plan.peak_bytes - plan.bound_bytes
        how = f"at most {gap:,} bytes above the best arrangement (proven bound)"
    order = ", in the best order of operators" if plan.layout.order_optimal else ""
    return (f"arrangement {how}{order}",)


def _worst_step(plan: ArenaPlan) -> int:
    """The step at which most bytes of SRAM are alive."""
    live = [0] * max(len(plan.layout.network.ops), 1)
    for p in plan.placements:
        if p.memory == "sram":
            for s in range(p.first, p.last + 1):
                live[s] += p.bytes
    return live.index(max(live))


def _rows(plan: ArenaPlan, key: str) -> tuple[dict[str, object], ...]:
    return tuple(plan.to_dict()[key])


def _memory_row(use: MemoryUse) -> dict[str, object]:
    row = use.to_dict()
    budget, used = row["budget_bytes"], row["used_bytes"]
    assert isinstance(used, int)
    if isinstance(budget, int) and budget > 0:
        full = round(used / budget * BAR)
        edge = "|" if used <= budget else "|>"
        row["bar"] = "#" * min(full, BAR) + "." * max(BAR - full, 0) + edge
    return row


def _offset_row(p: Placement, letters: dict[str, str]) -> dict[str, object]:
    return {
        "letter": letters.get(p.buffer, ""),
        "buffer": p.buffer,
        "memory": p.memory,
        "offset": p.offset,
        "bytes": p.bytes,
        "first": p.first,
        "last": p.last,
        "tensors": " > ".join(p.tensors) if len(p.tensors) < 5 else _ends(p.tensors),
    }


def _ends(names: Sequence[str]) -> str:
    return f"{names[0]} > ({len(names) - 2} more) > {names[-1]}"


def _weights(plan: ArenaPlan) -> tuple[str, ...]:
    """Where the constants lie."""
    size = {t.name: t.bytes for t in plan.network.of_kind("weight")}
    parts = [
        f"{format_binary(sum(size[n] for n in names))} in {memory.replace('_', ' ')}"
        for memory, names in plan.weights.items()
        if names
    ]
    return (f"weights: {', '.join(parts)}",) if parts else ()


def chart(plan: ArenaPlan, letters: dict[str, str]) -> tuple[str, ...]:
    """Time (left to right) against address (bottom to top) of the SRAM.

    A letter is a buffer of the table, ``#`` another, ``.`` free. Several steps may share a column;
    the fullest of them is shown.
    """
    inside = [p for p in plan.placements if p.memory == "sram"]
    steps = len(plan.layout.network.ops)
    columns = min(steps, CHART_COLUMNS)
    if not inside or not plan.peak_bytes:
        return ()
    edges = [c * steps // columns for c in range(columns + 1)]
    shown = [_fullest(inside, first, end) for first, end in itertools.pairwise(edges)]
    lines = []
    for row in reversed(range(CHART_ROWS)):
        address = (row + 0.5) * plan.peak_bytes / CHART_ROWS
        cells = "".join(_cell(inside, step, address, letters) for step in shown)
        edge = format_binary((row + 1) * plan.peak_bytes / CHART_ROWS)
        lines.append(f"{edge:>10} |{cells}")
    foot = f"{'0 B':>10} +{'-' * columns}"
    return (
        "SRAM, address against time (A, B, ...: the table; #: other buffers; .: free)",
        *lines,
        foot,
        f"{'':>10}  step 0 to {steps - 1}",
    )


def _fullest(inside: Sequence[Placement], first: int, end: int) -> int:
    return max(
        range(first, end),
        key=lambda s: sum(p.bytes for p in inside if p.first <= s <= p.last),
    )


def _cell(inside: Sequence[Placement], step: int, address: float, letters: dict[str, str]) -> str:
    for p in inside:
        if p.first <= step <= p.last and p.offset <= address < p.offset + p.bytes:
            return letters.get(p.buffer, "#")
    return "."
