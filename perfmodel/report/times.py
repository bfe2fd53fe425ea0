"""Times for people: one estimate, devices side by side, a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel.answer import Estimate, Part
from perfmodel.planning.compare import Comparison, Contender
from perfmodel.report.shown import Shown, assumed, dollars, interval, seconds
from perfmodel.report.tables import Column, Table
from perfmodel.sweeps import SweepResult

SHOWN = 50
"""Points of a grid that people are shown; CSV and JSON have all."""

TIMES = (
    Column(key="time_s", title="time", unit="s"),
    Column(key="low_s", title="low", unit="s"),
    Column(key="high_s", title="high", unit="s"),
    Column(key="lower_bound_s", title="lower bound", unit="s"),
    Column(key="bound", title="bound", right=False),
)
SOURCE = Column(key="source", title="source", right=False)

PARTS = (
    Column(key="group", title="group", right=False),
    Column(key="op", title="operator", right=False),
    Column(key="count", title="count"),
    Column(key="each_s", title="each", unit="s"),
    Column(key="total_s", title="total", unit="s"),
    Column(key="share", title="share", text="{:.1%}".format),
    Column(key="of_roof", title="of roof", text="{:.0%}".format),
    Column(key="bound", title="bound", right=False),
    SOURCE,
)

DEVICES = (
    Column(key="device", title="device", right=False),
    *TIMES,
    Column(key="times_fastest", title="x fastest"),
    Column(key="max_users", title="max users"),
    Column(key="act", title="dtype", right=False),
    Column(key="usd_per_million", title="$/M", text=dollars),
    SOURCE,
    Column(key="refused", title="no answer because", right=False),
)


def estimate_shown(estimate: Estimate, most: int | None = SHOWN) -> Shown:
    """The time with its interval, then the parts or terms that make it; of a grid its first
    ``most`` points (None: all of them, as CSV has them).
    """
    notes = (f"time = {estimate.formula}", *assumed(estimate.assumptions))
    if estimate.shape:
        size = math.prod(estimate.shape)
        points = f"{estimate.name}: {size:,} points [{estimate.source}]"
        table = _grid_table(estimate, most)
        notes = (*_hidden(size - len(table.rows)), *notes)
        return Shown(lead=(points,), tables=(table,), notes=notes)
    inside = _parts_table(estimate) if estimate.parts else _terms_table(estimate)
    tables = (_time_table(estimate), inside)
    return Shown(lead=(_verdict(estimate), *_tokens(estimate)), tables=tables, notes=notes)


def _tokens(e: Estimate) -> Iterator[str]:
    """Tokens per second of a model's step, its interval, and the most that physics allows."""
    if "tokens" in e.facts:
        tokens = float(e.facts["tokens"])
        mean, least, most, bound = (
            tokens / float(t) for t in (e.time_s, e.high_s, e.low_s, e.lower_bound_s)
        )
        yield f"{mean:.3g} tokens/s ({least:.3g} .. {most:.3g}), at most {bound:.3g}"


def _hidden(rows: int) -> tuple[str, ...]:
    return (f"{rows:,} more rows (--csv or --json has all)",) if rows else ()


def _verdict(e: Estimate) -> str:
    within = "" if e.coverage is None else f", {e.coverage:.0%} interval"
    ends = interval(float(e.low_s), float(e.high_s))
    return f"{e.name}: {seconds(float(e.time_s))} ({ends}{within}), bound by {e.bound} [{e.source}]"


def _time_table(estimate: Estimate) -> Table:
    return Table(title="estimate", columns=(*TIMES, SOURCE), rows=(_times(estimate),))


def _times(estimate: Estimate) -> dict[str, Any]:
    row = {c.key: getattr(estimate, c.key) for c in TIMES}
    return row | {"bound": str(estimate.bound), "source": estimate.source}


def _grid_table(estimate: Estimate, most: int | None) -> Table:
    """One row per point of a grid, the first ``most`` of them."""
    spread = {c.key: np.broadcast_to(getattr(estimate, c.key), estimate.shape) for c in TIMES}
    rows = tuple(
        {"point": str(at), "source": estimate.source}
        | {key: values[at].item() for key, values in spread.items()}
        for at in itertools.islice(np.ndindex(estimate.shape), most)
    )
    columns = (Column(key="point", title="point", right=False), *TIMES, SOURCE)
    return Table(title="estimates", columns=columns, rows=rows)


def _terms_table(estimate: Estimate) -> Table:
    columns = (
        Column(key="term", title="term", right=False),
        Column(key="time_s", title="time", unit="s"),
    )
    rows = tuple({"term": k, "time_s": float(v)} for k, v in estimate.terms.items())
    return Table(title="terms", columns=columns, rows=rows)


def _parts_table(estimate: Estimate) -> Table:
    parts = sorted(estimate.parts, key=lambda p: -_total(p))
    rows = tuple(_part(p, float(estimate.time_s)) for p in parts)
    return Table(title="operators, slowest first", columns=PARTS, rows=rows)


def _part(part: Part, whole: float) -> dict[str, Any]:
    return {
        "group": part.group,
        "op": part.estimate.name,
        "count": int(part.count),
        "each_s": float(part.estimate.time_s),
        "total_s": _total(part),
        "share": _total(part) / whole,
        "of_roof": float(part.estimate.lower_bound_s / part.estimate.time_s),
        "bound": str(part.estimate.bound),
        "source": part.estimate.source,
    }


def _total(part: Part) -> float:
    return float(part.count * part.estimate.time_s)


def comparison_shown(found: Comparison) -> Shown:
    """Devices side by side, fastest first."""
    best = found.fastest
    lead = f"{found.question}: {best.device} is fastest" if best is not None else found.question
    rows = tuple(_contender(found, row) for row in found.rows)
    title = f"devices, fastest first ($/M: per million {found.per})"
    table = Table(title=title, columns=DEVICES, rows=rows)
    return Shown(lead=(lead,), tables=(table,), notes=assumed(tuple(_doubts(found))))


def _contender(found: Comparison, row: Contender) -> dict[str, Any]:
    times = {} if row.estimate is None else _times(row.estimate)
    return times | {
        "device": row.device,
        "times_fastest": found.ratio(row),
        "max_users": row.max_users,
        "act": None if row.dtypes is None else row.dtypes.act,
        "usd_per_million": row.usd_per_million,
        "refused": row.refused,
    }


def _doubts(found: Comparison) -> Iterator[str]:
    notes = (n for r in found.rows if r.estimate is not None for n in r.estimate.assumptions)
    yield from dict.fromkeys(notes)


def sweep_answer(found: SweepResult) -> dict[str, Any]:
    """JSON-ready: axes, one row per point, and what was refused."""
    return {
        "axes": {name: values.tolist() for name, values in found.axes.items()},
        "rows": _records(found.to_frame()),
        "refused": _refused(found),
    }


def sweep_shown(found: SweepResult, most: int | None = SHOWN) -> Shown:
    """The grid's first ``most`` rows (None: all of them, as CSV has them)."""
    frame = found.to_frame()
    axes = tuple(Column(key=name, title=name, right=False) for name in found.axes)
    rows = _records(frame if most is None else frame.head(most))
    table = Table(title="predictions", columns=(*axes, *TIMES), rows=rows)
    refused = (f"no answer for {key}: {why}" for key, why in _refused(found).items())
    lead = (f"{found.size:,} predictions",)
    return Shown(lead=lead, tables=(table,), notes=(*_hidden(found.size - len(rows)), *refused))


def _records(frame: Any) -> tuple[dict[str, Any], ...]:
    return tuple(frame.to_dict("records"))


def _refused(found: SweepResult) -> dict[str, str]:
    return {" ".join(key): why for key, why in found.refused.items()}
