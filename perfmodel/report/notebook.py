"""Answers as a notebook shows them: the verdict, the tables, and the small print folded away.

IPython is told which function draws which answer when the first question is asked of
:mod:`perfmodel` in a notebook; without IPython nothing happens.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from perfmodel.report.shown import Shown

RENDERERS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("perfmodel.answer", "Estimate"): ("times", "estimate_shown"),
    ("perfmodel.planning.memory", "CapacityAnswer"): ("capacity", "capacity_shown"),
    ("perfmodel.planning.answers", "PlanAnswer"): ("plans", "plan_shown"),
    ("perfmodel.planning.compare", "Comparison"): ("times", "comparison_shown"),
    ("perfmodel.planning.crossover", "Crossover"): ("crossover", "crossover_shown"),
    ("perfmodel.mcu.arena", "ArenaPlan"): ("arena", "arena_shown"),
    ("perfmodel.models.shape", "ModelShape"): ("sheets", "model_shown"),
    ("perfmodel.hw.device", "Device"): ("sheets", "device_shown"),
    ("perfmodel.sweeps", "SweepResult"): ("times", "sweep_shown"),
    ("perfmodel.validation.score", "FileReport"): ("accuracy", "report_shown"),
}
"""An answer's module and name -> the module of this package and the function that lays it out."""


def to_html(shown: Shown) -> str:
    """Verdict, tables, notes; every word escaped."""
    lead = "<br>".join(escape(line) for line in shown.lead)
    tables = "".join(table.to_html() for table in shown.tables if table.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in shown.notes)
    folded = f"<details><summary>notes</summary><ul>{notes}</ul></details>" if notes else ""
    return f"<div><p><strong>{lead}</strong></p>{tables}{folded}</div>"


def register() -> bool:
    """Tell the running IPython, if there is one, how to draw answers; whether it was told."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or getattr(shell, "display_formatter", None) is None:
        return False
    drawn_as = shell.display_formatter.formatters["text/html"]
    for (module, name), function in RENDERERS.items():
        drawn_as.for_type_by_name(module, name, _drawing(*function))
    return True


def _drawing(module: str, function: str) -> Callable[[Any], str]:
    """The drawing of one kind of answer; what lays it out is loaded when the first one is shown."""

    def draw(answer: Any) -> str:
        lay_out = getattr(importlib.import_module(f"perfmodel.report.{module}"), function)
        return to_html(lay_out(answer))

    return draw
