"""Kernels: every reference kernel's ladder beside its peers, its roof and its prediction."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st
from explorer import files, measured, view
from explorer.inputs import Input, ask, declare

from perfmodel.report.accuracy import refusal_table
from perfmodel.report.figures.kernels import ladder, residuals
from perfmodel.report.kernels import (
    MOST_ROWS,
    Timed,
    gain_table,
    kernel_table,
    ladder_table,
    resource_table,
)
from perfmodel.report.scenario import Scenario
from perfmodel.report.shown import interval, seconds
from perfmodel.report.svg import fastest
from perfmodel.report.tables import Table
from perfmodel.validation import FileReport, Scored, errors

declare(
    family=Input(
        kind="choice", label="Family of kernels", default="", options=measured.family_names
    ),
    kernel_device=Input(kind="choice", label="Measured on", default="", options=measured.devices),
    sizes=Input(kind="choice", label="Sizes", default="", options=measured.sizes),
)

Own = tuple[FileReport, ...] | None


def question(own: Own) -> tuple[Scenario, list[Timed], list[Timed]]:
    """The inputs as a scenario; the rows of the family on the device, those of one size."""
    families = measured.families(own)
    inputs = {"family": ask("family", among=list(families))}
    rows = families[inputs["family"]]
    if rows:
        device = ask("kernel_device", among=_frequent(r.device for r in _leading(rows)))
        rows = [r for r in rows if r.device == device]
        sizes = ask("sizes", among=_frequent(r.sizes for r in _leading(rows)))
        inputs |= {"kernel_device": device, "sizes": sizes}
    scenario = Scenario(
        page="kernels",
        inputs=inputs,
        verb="validate",
        function="validate_files",
        arguments=[measured.word(p) for p in measured.files()] + measured.words(own),
    )
    return scenario, rows, [r for r in rows if r.sizes == inputs.get("sizes")]


def _leading(rows: Sequence[Timed]) -> Sequence[Timed]:
    """Ours, or all where there are none of ours: what is offered to choose from."""
    return [r for r in rows if r.ours] or rows


def _frequent(values: Iterable[str]) -> list[str]:
    """Every value once, the most frequent first."""
    return [value for value, _ in Counter(values).most_common()]


def show(family: str, rows: list[Timed], one_size: list[Timed], own: Own) -> tuple[Any, Table]:
    """The ladder, the residuals, every measurement, resources; returns pictures and the table."""
    planned, pictures = measured.planned(family), {}
    gains, table = gain_table(planned, one_size), kernel_table(rows)
    if one_size:
        scored = measured.scored_of(_leading(rows), own)
        _headline(one_size, scored, measured.scored_of(fastest(_leading(rows)), own))
        pictures = {"ladder": ladder(one_size), "residuals": residuals(scored)}
        view.chart(pictures["ladder"], "kernels ladder")
    else:
        view.empty(
            "Not timed here yet: run make bench on a GPU and upload its JSON. The plan follows."
        )
    if planned:
        view.table(gains)
    if one_size:
        view.table(ladder_table(one_size))
        view.chart(pictures["residuals"], "kernels residuals")
    resources = resource_table(measured.resources(family))
    if resources.rows:
        view.table(resources)
    if rows:
        view.table(table, most=MOST_ROWS)
    return pictures, table if rows else resources


def _headline(rows: Sequence[Timed], every: Sequence[Scored], quick: Sequence[Scored]) -> None:
    """The fastest kernel of one size, and how well its family was predicted: the fastest of each
    size, for which predictions are meant, and every rung.
    """
    best = min(_leading(rows), key=lambda r: r.measured_s)
    takes = best.types.partition("/")[0]
    others = [r for r in rows if not r.ours and r.types.partition("/")[0] == takes]
    if best.of_roof is not None:
        lines = [f"{best.name} reaches {best.of_roof:.0%} of its roof"]
        if best.ours and others:
            peer = min(others, key=lambda r: r.measured_s)
            lines.append(f"{peer.name} takes {peer.measured_s / best.measured_s:.2f} x as long")
        view.verdict(lines, good=True)
    told, whole = errors(quick), errors(every)
    known = best.low_s is not None and best.high_s is not None
    within = interval(best.low_s, best.high_s) if known else "no prediction"
    predicted = "-" if best.predicted_s is None else seconds(best.predicted_s)
    view.metrics(
        {
            "Fastest": (seconds(best.measured_s), best.name.rpartition("/")[2]),
            "Predicted": (predicted, within),
            "In interval": (
                f"{told.coverage:.0%}",
                f"of {told.rows} timings of the best, {whole.coverage:.0%} of {whole.rows} in all",
            ),
            "Factor": (f"{told.factor:.2f}", f"of the fastest; {whole.factor:.2f} of all rungs"),
        }
    )


view.header("Kernels", "How fast are the reference kernels, and how well was that predicted?")
with view.refusals():
    with st.sidebar:
        own = files.upload(
            "A pytest-benchmark JSON of your own", ["json"], "own_benchmark",
            files.measurements,
        )  # fmt: skip
        asked, rows, one_size = question(own)
    if own and not any(r.scored for r in own):
        view.verdict(["None of the uploaded measurements can be scored"], good=False)
        view.table(refusal_table(own))
    drawn, table = show(asked.inputs["family"], rows, one_size, own)
    view.closing(asked, rows=table, pictures=drawn)
