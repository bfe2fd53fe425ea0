"""Capacity for people: does it fit, the memory stack, what would help."""

from __future__ import annotations

from perfmodel.planning.memory import CapacityAnswer
from perfmodel.report.shown import Shown, assumed, parameters, seconds, stack_table
from perfmodel.report.tables import Column, Table
from perfmodel.units import format_binary

CAPACITY = (
    Column(key="params", title="parameters", text=parameters),
    Column(key="weights_bytes", title="weights", text=format_binary),
    Column(key="kv_bytes_per_token", title="KV per token", text=format_binary),
    Column(key="kv_bytes_per_user", title="KV per user", text=format_binary),
    Column(key="state_bytes_per_user", title="state per user", text=format_binary),
    Column(key="budget_bytes", title="memory", text=format_binary),
    Column(key="max_users", title="max users"),
    Column(key="max_context", title="max context"),
    Column(key="fits", title="fits"),
)

RELAXATIONS = (
    Column(key="change", title="what would relax it", right=False),
    Column(key="max_users", title="max users"),
    Column(key="max_context", title="max context"),
)


def capacity_shown(answer: CapacityAnswer) -> Shown:
    """The verdict, the memory stack with its budget line, and what would relax it."""
    total = Table(title="over all devices", columns=CAPACITY, rows=(answer.to_dict(),))
    tables = [total, stack_table(answer.stack, answer.per_device["memory_bytes"])]
    if answer.relax:
        rows = tuple(r.to_dict() for r in answer.relax)
        tables.append(Table(title="relaxations", columns=RELAXATIONS, rows=rows))
    notes = [f"what binds: {answer.binds}"]
    if answer.swap_s is not None:
        moved = seconds(answer.swap_s)
        notes.append(f"moving one user's cache over the host link takes {moved} [analytic]")
    return Shown(
        lead=(capacity_verdict(answer),),
        tables=tuple(tables),
        notes=(*notes, *assumed(answer.assumptions)),
    )


def capacity_verdict(answer: CapacityAnswer) -> str:
    """One line: whether the users asked for fit, and how many would."""
    s = answer.setting
    asked = f"{s.users:,} user{'s' if s.users > 1 else ''} of {s.context:,} tokens"
    does = "fits" if answer.fits else "DOES NOT FIT"
    where = f"{answer.model} on {s.devices} x {answer.device}"
    return f"{where}: {does} {asked}; room for {answer.max_users:,} [analytic]"
