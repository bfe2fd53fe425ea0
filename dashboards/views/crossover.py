"""Crossover: which token mixer wins at which context length, and from where."""

from collections import Counter
from typing import Any

import streamlit as st
from explorer import answers, asking, measured, view
from explorer.inputs import Input, ask, ask_all, declare

from perfmodel.planning.crossover import Crossover
from perfmodel.report.crossover import crossover_shown
from perfmodel.report.figures.crossover import crossing
from perfmodel.report.kernels import OURS
from perfmodel.report.scenario import Scenario
from perfmodel.report.timed_mixers import TimedMixer, timed_table

MOST_LINKS = 12  # sizes with measurements that are offered, those of most kernels of ours first

declare(
    stage=Input(
        kind="choice", label="Tokens", default="decode", options=lambda: ("decode", "prefill")
    ),
    heads=Input(kind="count", label="Heads", default=32),
    kv_heads=Input(kind="count", label="KV heads of attention", default=8),
    head_dim=Input(kind="count", label="Head dimension", default=128),
    longest=Input(kind="count", label="Longest context", default=131072),
    aspect=Input(
        kind="choice", label="Picture of", default="time",
        options=lambda: ("time", "memory", "cost"),
    ),
)  # fmt: skip


def question() -> Scenario:
    """The inputs, as a scenario."""
    inputs: dict[str, Any] = {"device": ask("device"), **ask_all("stage", "batch")}
    inputs |= ask_all("heads", "kv_heads", "head_dim", "longest", "dtype", "price", "aspect")
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


def show(found: Crossover, aspect: Any) -> dict[str, Any]:
    """The break-evens and the picture asked for; returns all pictures."""
    shown = crossover_shown(found)
    view.verdict(shown.lead, good=bool(found.break_evens))
    dots = measured.mixers()
    pictures = {"time": crossing(found, "time", dots), "memory": crossing(found, "memory")}
    if found.curves[0].usd_per_million is not None:
        pictures["cost"] = crossing(found, "cost")
    if aspect in pictures:
        view.chart(pictures[aspect], "crossover")
    else:
        view.empty(f"No price is known of {found.device}: give one to see what this costs.")
    for table in shown.tables[:-1]:
        view.table(table)
    with st.expander("Every point"):
        view.table(shown.tables[-1])
    _measured(found, dots)
    view.notes(shown.notes, "What is assumed")
    return pictures


def _measured(found: Crossover, dots: tuple[TimedMixer, ...]) -> None:
    """Which dots are shown, and the links to the sizes that have others."""
    here = [d for d in dots if d.answers(found.mixing, found.device)]
    with st.expander(f"Measured: {len(here)} of {len(dots)} timed kernels ran these sizes"):
        if here:
            view.table(timed_table(here))
        ours = Counter((d.device, d.mixing) for d in dots if d.kernel.startswith(OURS))
        every = Counter((d.device, d.mixing) for d in dots)
        best = sorted(every, key=lambda q: (-ours[q], -every[q], str(q)))
        for device, m in best[:MOST_LINKS]:
            names = sorted({d.mixer for d in dots if d.answers(m, device)})
            inputs = {
                "device": device, "stage": m.phase, "batch": m.batch, "heads": m.heads,
                "kv_heads": m.kv_heads, "head_dim": m.head_dim, "dtype": m.dtype,
            }  # fmt: skip
            view.other("/crossover", inputs, f"{', '.join(names)}: {_told(inputs)}")


def _told(inputs: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in inputs.items())


view.header("Crossover", "Which token mixer is fastest, smallest, cheapest at which context?")
with view.refusals():
    with st.sidebar:
        asked = question()
    answer = answers.answer(asked, "Comparing mixers ...")
    drawn = show(answer, asked.inputs["aspect"])
    view.closing(asked, rows=crossover_shown(answer).csv, pictures=drawn)
