"""Compare: one question on two to six devices, and what more of a resource would buy."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import streamlit as st
from explorer import answers, asking, subject, view
from explorer.inputs import Input, ask, declare

from perfmodel import api
from perfmodel.planning.compare import FEWEST, Comparison
from perfmodel.planning.sensitivity import Gain, sensitivity
from perfmodel.report.figures.compare import side_by_side, tornado
from perfmodel.report.scenario import Scenario
from perfmodel.report.times import comparison_shown

declare(of=Input(kind="choice", label="Sensitivity of", default="", options=tuple, open_ended=True))


def question() -> Scenario:
    """The inputs, as a scenario."""
    devices = ask("devices")
    inputs, arguments, _ = subject.about()
    inputs |= {"devices": devices, "price": ask("price")}
    return Scenario(
        page="compare",
        inputs=inputs,
        verb="compare",
        function="compare",
        arguments=[*arguments, asking.on(devices), *asking.price(inputs)],
    )


def show(found: Comparison, scenario: Scenario) -> tuple[dict[str, Any], str]:
    """All devices on one axis, as a table, and one device's tornado; returns the pictures and
    that device.
    """
    shown = comparison_shown(found)
    view.verdict(shown.lead, good=True)
    full = [
        r.device for r in found.rows if r.max_users is not None and r.max_users < _users(scenario)
    ]
    if full:
        view.verdict([f"Does not fit in the memory of {', '.join(full)}"], good=False)
    pictures = {"devices": side_by_side(found)}
    view.chart(pictures["devices"], "compare devices")
    view.table(shown.tables[0])
    answered = [r.device for r in found.rows if r.estimate is not None]
    device = ask("of", among=answered)
    pictures["sensitivity"] = tornado(device, _gains(device, scenario))
    view.chart(pictures["sensitivity"], "compare sensitivity")
    view.notes(shown.notes, "What is assumed")
    return pictures, device


def _users(scenario: Scenario) -> int:
    return int(scenario.keywords().get("batch", 1))


def _gains(device: str, scenario: Scenario) -> tuple[Gain, ...]:
    with st.spinner("Raising one resource at a time ..."):
        return _raised(device, answers.Key(scenario))


@lru_cache(maxsize=64)
def _raised(device: str, key: answers.Key) -> tuple[Gain, ...]:
    """The comparison's own question, put to one device with each resource raised."""
    of, question = key.scenario.positional()[0], key.scenario.keywords()
    run = {k: v for k, v in question.items() if k not in ("on", "price")}
    function = api.step if "phase" in run else api.estimate
    return sensitivity(api.device(device), lambda raised: function(of, raised, **run))


view.header("Compare", "Which device is fastest at this, how sure is that, and what would help?")
with view.refusals():
    with st.sidebar:
        asked = question()
    if len(asked.inputs["devices"]) < FEWEST:
        view.empty("Choose two to six devices.")
    else:
        answer = answers.answer(asked, "Comparing ...")
        drawn, device = show(answer, asked)
        asked = replace(asked, inputs={**asked.inputs, "of": device})
        view.closing(asked, rows=comparison_shown(answer).csv, pictures=drawn)
