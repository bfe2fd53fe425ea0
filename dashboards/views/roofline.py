"""Roofline: where every operator stands under the roofs of a device, predicted and measured."""

from dataclasses import replace
from typing import Any

import streamlit as st
from explorer import answers, asking, measured, subject, view
from explorer.inputs import Input, ask, declare

from perfmodel import api
from perfmodel.answer import Estimate
from perfmodel.report.capacity import capacity_verdict
from perfmodel.report.explain import explain
from perfmodel.report.figures.roofline import roofline
from perfmodel.report.roofs import Ceiling, Spot, ceilings, special_ceiling, spots
from perfmodel.report.scenario import Scenario
from perfmodel.report.shown import interval, seconds
from perfmodel.report.tables import plain
from perfmodel.report.times import estimate_shown
from perfmodel.units import format_si
from perfmodel.validation import Scored

NOTHING = "the whole answer"
OURS, PEERS, ALL, NONE = "ours", "ours and their peers", "all", "none"
declare(
    inspect=Input(
        kind="choice", label="Explain", default=NOTHING, options=lambda: (NOTHING,),
        open_ended=True,
    ),
    timed=Input(
        kind="choice", label="Measured kernels", default=OURS,
        options=lambda: (OURS, PEERS, ALL, NONE),
    ),
)  # fmt: skip
CHART = "roofline chart"


def question() -> Scenario:
    """The inputs, as a scenario."""
    device = ask("device")
    inputs, arguments, step = subject.about()
    inputs["timed"] = ask("timed")
    return Scenario(
        page="roofline",
        inputs={"device": device, **inputs},
        verb="estimate",
        function="step" if step else "estimate",
        arguments=[*arguments, asking.on(device)],
    )


def show(found: Estimate, device_name: str, timed: str) -> tuple[dict[str, Any], str]:
    """The figures, the picture, and what was clicked or chosen; returns the pictures and that."""
    view.metrics(
        {
            "Time": (seconds(float(found.time_s)), _sure(found)),
            "Lower bound": (seconds(float(found.lower_bound_s)), "physics: total work over peak"),
            "Bound by": (str(found.bound), f"{found.source} estimate"),
            "Intensity": (_intensity(found), _moved(found)),
        }
    )
    device = api.device(device_name)
    roofs, points = ceilings(device), spots(found)
    picture = roofline(device, points, roofs=roofs, measured=_dots(device.name, timed))
    view.chart(picture, CHART, on_select=_clicked)
    chosen = _explained(
        found, {f"operator: {p.name}": p for p in points}, (*roofs, *special_ceiling(device))
    )
    for table in estimate_shown(found).tables[1:]:
        view.table(table)
    return {"roofline": picture}, chosen


def _dots(device: str, timed: str) -> list[Scored]:
    """The timed kernels that are wanted in the picture."""
    if timed == NONE:
        return []
    if timed == ALL:
        return [s for s in measured.scored() if s.measurement.device == device]
    families = measured.families().values()
    rows = [r for family in families if any(r.ours for r in family) for r in family]
    wanted = [r for r in rows if r.device == device and (r.ours or timed == PEERS)]
    return measured.scored_of(wanted)


def _room(scenario: Scenario) -> None:
    """Say so where the sequences of a model's step do not fit in memory."""
    given = scenario.keywords()
    tokens = given.get("context", given.get("prompt"))
    if scenario.function != "step" or tokens is None:
        return
    kept = {k: v for k, v in given.items() if k in ("on", "tp", *asking.DTYPE_INPUTS)}
    of = scenario.positional()[0]
    room = api.capacity(of, context=tokens, users=given["batch"], **kept)
    if not room.fits:
        view.verdict([capacity_verdict(room)], good=False)


def _sure(found: Estimate) -> str:
    within = "" if found.coverage is None else f", {found.coverage:.0%} of such cases"
    return f"{interval(float(found.low_s), float(found.high_s))}{within}"


def _intensity(found: Estimate) -> str:
    traffic = float(found.facts["bytes"])
    return f"{plain(float(found.facts['flops']) / traffic)} FLOP/B" if traffic else "-"


def _moved(found: Estimate) -> str:
    moved = format_si(float(found.facts["bytes"]), "B")
    return f"{format_si(float(found.facts['flops']), 'FLOP')}, {moved}"


def _clicked() -> None:
    """What a click on a point or a roof chose becomes the choice below the picture."""
    points = st.session_state[CHART].selection.points
    if points and points[0].get("customdata"):
        data = points[0]["customdata"]
        st.session_state["inspect"] = data if isinstance(data, str) else data[0]


def _explained(found: Estimate, points: dict[str, Spot], roofs: tuple[Ceiling, ...]) -> str:
    """The derivation of an operator, or the source of a roof: by click or by keyboard; returns
    what was chosen.
    """
    sources = {f"roof: {r.name}": r for r in roofs}
    chosen = ask("inspect", among=(NOTHING, *points, *sources))
    if chosen in points:
        text = explain(points[chosen].estimate)
    elif chosen in sources:
        roof = sources[chosen]
        text = "\n".join([f"{roof.name}: {format_si(roof.rate, roof.unit)}", *roof.source])
    else:
        text = explain(found)
    with st.container(height=360):
        st.code(text, language=None, wrap_lines=True)
    return str(chosen)


view.header("Roofline", "What binds every operator, and how far is it from its roof?")
with view.refusals():
    with st.sidebar:
        asked = question()
    answer = answers.answer(asked, "Estimating ...")
    _room(asked)
    drawn, inspected = show(answer, asked.inputs["device"], asked.inputs["timed"])
    asked = replace(asked, inputs={**asked.inputs, "inspect": inspected})
    view.notes(estimate_shown(answer).notes, "What is assumed")
    view.closing(asked, rows=estimate_shown(answer).tables[1], pictures=drawn)
