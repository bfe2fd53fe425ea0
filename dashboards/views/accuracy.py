"""Accuracy: how far predictions lie from measurements, by class and device, and what is refused."""

from collections.abc import Sequence
from typing import Any

import streamlit as st
from explorer import files, measured, view
from explorer.inputs import Input, ask, declare

from perfmodel import catalog
from perfmodel.report.accuracy import (
    class_table,
    compared_table,
    coverage_verdict,
    refusal_table,
    run_table,
    validation_table,
)
from perfmodel.report.figures.kernels import predicted_measured, residuals
from perfmodel.report.scenario import Scenario
from perfmodel.validation import FileReport

declare(
    tell_by=Input(
        kind="choice", label="Tell apart by", default="scenario",
        options=lambda: ("scenario", "device", "implementation"),
    ),
    file=Input(
        kind="choice", label="Measurements", default="all",
        options=lambda: ("all", *catalog.names("measured")),
    ),
)  # fmt: skip


def question() -> tuple[Scenario, tuple[FileReport, ...]]:
    """The inputs as a scenario, and the reports that it asks for."""
    inputs = {"file": ask("file"), "tell_by": ask("tell_by")}
    own = files.upload(
        "Measurements of your own: tidy CSV, pytest-benchmark or Measurement JSON",
        ["csv", "json"], "own_measurements", files.measurements,
    )  # fmt: skip
    chosen = [p for p in measured.files() if inputs["file"] in ("all", p.stem)]
    scenario = Scenario(
        page="accuracy", inputs=inputs, verb="validate", function="validate_files",
        arguments=measured.words(own) or [measured.word(p) for p in chosen],
    )  # fmt: skip
    return scenario, own or tuple(measured.report(p) for p in chosen)


def show(reports: Sequence[FileReport], tell_by: str) -> dict[str, Any]:
    """The figures and tables of scored rows; returns the pictures."""
    rows = [s for r in reports for s in r.scored]
    if not rows:
        view.verdict(["None of these rows can be scored; the reasons are below."], good=False)
        return {}
    told, enough = coverage_verdict(rows)
    view.verdict([told], good=enough)
    pictures = {
        "predicted against measured": predicted_measured(rows, by=tell_by),
        "residuals": residuals(rows),
    }
    for name, picture in pictures.items():
        view.chart(picture, f"accuracy {name}")
    return pictures


@st.fragment
def everything() -> None:
    """The document of this release, drawn when it is opened: its tables take a browser longer than
    all else on the page.
    """
    document = measured.accuracy_page()
    if not document:
        return
    label = "All that this release was scored on, tables of others included"
    with st.expander(label, on_change="rerun", key="accuracy document") as folded:
        if folded.open:
            st.markdown(document)


view.header("Accuracy", "How far do predictions lie from what was measured, and what is refused?")
with view.refusals():
    with st.sidebar:
        asked, found = question()
    drawn = show(found, asked.inputs["tell_by"])
    if drawn:
        view.table(compared_table(measured.compared(found)))
    view.table(validation_table(found))
    if refusal_table(found).rows:
        view.table(refusal_table(found))
    view.table(class_table())
    view.table(run_table())
    everything()
    view.closing(asked, rows=validation_table(found), pictures=drawn)
