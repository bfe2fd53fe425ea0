"""Kernels: every reference kernel's ladder beside its peers, its roof and its prediction."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import streamlit as st
from explorer import files, measured, view
from explorer.inputs import Input, ask, declare

from perfmodel.report.figures.kernels import ladder, residuals
from perfmodel.report.kernels import (
    Timed,
    kernel_table,
    ladder_table,
    resource_table,
    sized,
)
from perfmodel.report.scenario import Scenario
from perfmodel.validation import FileReport, validate_files

declare(
    kernel_op=Input(kind="choice", label="Operator", default="", options=measured.ops),
    kernel_device=Input(kind="choice", label="Measured on", default="", options=measured.devices),
    sizes=Input(kind="choice", label="Sizes", default="", options=measured.sizes),
)


def question(rows: Sequence[Timed]) -> tuple[Scenario, list[Timed], list[Timed]]:
    """The inputs as a scenario; the rows of the operator, and those of the sizes chosen."""
    op = ask("kernel_op", among=_distinct(r.workload.op for r in rows))
    device = ask("kernel_device", among=_distinct(r.device for r in rows if r.workload.op == op))
    mine = [r for r in rows if (r.workload.op, r.device) == (op, device)]
    sizes = ask("sizes", among=_distinct(sized(r.workload) for r in mine))
    words = [measured.word(p) for p in measured.files()]
    scenario = Scenario(
        page="kernels",
        inputs={"kernel_op": op, "kernel_device": device, "sizes": sizes},
        verb="validate",
        function="validate_files",
        arguments=words,
    )
    return scenario, mine, [r for r in mine if sized(r.workload) == sizes]


def _distinct(values: Any) -> list[str]:
    """Every value once, the most frequent first."""
    return [value for value, _ in Counter(values).most_common()]


def show(mine: list[Timed], rung: list[Timed], own: tuple[FileReport, ...] | None) -> Any:
    """The ladder, the residuals, every measurement, resources; returns pictures and the table."""
    op = rung[0].workload.op
    best = min((r for r in rung if r.ours), key=lambda r: r.measured_s, default=None)
    if best is not None and best.of_roof is not None:
        view.verdict([f"{best.kernel} reaches {best.of_roof:.0%} of its roof"], good=True)
    pictures = {"ladder": ladder(rung)}
    view.chart(pictures["ladder"], "kernels ladder")
    view.table(ladder_table(rung))
    for section in measured.ladders(op):
        st.markdown(section)
    rows = [s for s in measured.scored(own) if s.measurement.scenario == op]
    if rows:
        pictures["residuals"] = residuals(rows)
        view.chart(pictures["residuals"], "kernels residuals")
    table = kernel_table(mine)
    view.table(table)
    resources = resource_table(measured.resources(), op)
    if resources.rows:
        view.table(resources)
    return pictures, table


view.header("Kernels", "How fast are the reference kernels, and how well was that predicted?")
with view.refusals():
    with st.sidebar:
        own = files.upload(
            "A pytest-benchmark JSON of your own", ["json"], "own_benchmark",
            lambda path: tuple(validate_files([path])),
        )  # fmt: skip
    timed = measured.timed(own)
    if not timed:
        view.empty("No kernel measurements here: upload a benchmark's JSON, or run make bench.")
    else:
        with st.sidebar:
            asked, mine, rung = question(timed)
        drawn, table = show(mine, rung, own)
        view.closing(asked, rows=table, pictures=drawn)
