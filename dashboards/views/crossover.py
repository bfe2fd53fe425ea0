"""Crossover: which token mixer wins at which context length, and from where."""

from typing import Any

import streamlit as st
from explorer import answers, asking, measured, view
from explorer.inputs import Input, ask, ask_all, declare

from perfmodel.planning.crossover import Crossover
from perfmodel.report.crossover import crossover_shown
from perfmodel.report.figures.crossover import crossing, measured_mixers
from perfmodel.report.scenario import Scenario

declare(
    stage=Input(
        kind="choice", label="Tokens", default="decode", options=lambda: ("decode", "prefill")
    ),
    heads=Input(kind="count", label="Heads", default=32),
    kv_heads=Input(kind="count", label="KV heads of attention", default=8),
    head_dim=Input(kind="count", label="Head dimension", default=128),
    longest=Input(kind="count", label="Longest context", default=131072),
)


def question() -> Scenario:
    """The inputs, as a scenario."""
    inputs: dict[str, Any] = {"device": ask("device"), **ask_all("stage", "batch")}
    inputs |= ask_all("heads", "kv_heads", "head_dim", "longest", "dtype", "price")
    sizes = ("batch", "heads", "kv_heads", "head_dim", "longest")
    return Scenario(
        page="crossover",
        inputs=inputs,
        verb="crossover",
        function="crossover",
        arguments=[
            asking.on(inputs["device"]),
            asking.option("phase", inputs["stage"]),
            *(asking.option(n, inputs[n]) for n in sizes),
            *asking.dtypes({"dtype": inputs["dtype"]}),
            *asking.price(inputs),
        ],
    )


def show(found: Crossover) -> dict[str, Any]:
    """The break-evens and the three pictures; returns the pictures."""
    shown = crossover_shown(found)
    view.verdict(shown.lead, good=bool(found.break_evens))
    dots = measured_mixers(found, measured.measurements())
    pictures = {"time": crossing(found, "time", dots), "memory": crossing(found, "memory")}
    if found.curves[0].usd_per_million is not None:
        pictures["cost"] = crossing(found, "cost")
    for tab, (name, picture) in zip(st.tabs(list(pictures)), pictures.items(), strict=True):
        with tab:
            view.chart(picture, f"crossover {name}")
    for table in shown.tables[:-1]:
        view.table(table)
    with st.expander("Every point"):
        view.table(shown.tables[-1])
    view.notes(shown.notes, "What is assumed")
    return pictures


view.header("Crossover", "Which token mixer is fastest, smallest, cheapest at which context?")
with view.refusals():
    with st.sidebar:
        asked = question()
    answer = answers.answer(asked, "Comparing mixers ...")
    drawn = show(answer)
    view.closing(asked, rows=crossover_shown(answer).csv, pictures=drawn)
