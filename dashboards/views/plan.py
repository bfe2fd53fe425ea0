"""Plan: what serves this load within its service levels, at what cost."""

from typing import Any

import streamlit as st
from explorer import answers, asking, view
from explorer.inputs import ask, ask_all

from perfmodel.planning.answers import Level, Plan, PlanAnswer
from perfmodel.report.explain import explain
from perfmodel.report.figures.plans import memory_stack, pareto
from perfmodel.report.plans import layout, likely, plan_shown
from perfmodel.report.scenario import Scenario
from perfmodel.report.shown import dollars, interval, seconds
from perfmodel.report.tables import plain


def question() -> Scenario:
    """The inputs, as a scenario."""
    model, name = asking.model()
    inputs: dict[str, Any] = {"model": name, "devices": ask("devices")}
    inputs |= ask_all("users", "prompt", "output", "ttft", "tpot")
    with st.expander("Data types, ranking, price"):
        inputs |= ask_all("dtype", "weight_dtype", "kv_dtype", "rank", "price")
    arguments = [asking.positional(model, name), asking.on(inputs["devices"])]
    arguments += [asking.option(n, inputs[n]) for n in ("users", "prompt", "output")]
    arguments += asking.times(inputs) + asking.dtypes(inputs)
    arguments += [asking.option("rank", inputs["rank"]), *asking.price(inputs)]
    return Scenario(page="plan", inputs=inputs, verb="plan", function="plan", arguments=arguments)


def show(found: PlanAnswer) -> dict[str, Any]:
    """The verdict, the figures behind it and what would relax it; returns the pictures."""
    shown = plan_shown(found)
    view.verdict(shown.lead, good=found.feasible)
    pictures = {} if found.best is None else _best(found)
    for table in shown.tables:
        if table.title != "memory stack":
            view.table(table)
    view.notes(shown.notes, "What binds, what is assumed")
    view.derivation(explain(found))
    return pictures


def _best(found: PlanAnswer) -> dict[str, Any]:
    best = found.best
    cost = dollars(best.usd_per_million_tokens)
    view.metrics(
        {
            "Buy": (f"{best.devices} devices", f"{best.device}, {layout(best)}"),
            "TTFT": (seconds(float(best.ttft.span.value)), _level(best.ttft)),
            "TPOT": (seconds(float(best.tpot.span.value)), _level(best.tpot)),
            "Levels hold": (_chance(best), "chance that all do, as the intervals tell"),
            "Tokens/s out": (plain(best.tokens_per_s), f"waits for {best.resource}"),
            "Cost per M out": (cost, best.price.origin),
        }
    )
    pictures = {
        "cost and latency": pareto(found),
        "memory": memory_stack(best.stack, best.budget_bytes),
    }
    for name, picture in pictures.items():
        view.chart(picture, f"plan {name}")
    return pictures


def _chance(best: Plan) -> str:
    return "-" if best.chance is None else f"{best.chance:.0%}"


def _level(level: Level) -> str:
    within = interval(float(level.span.low), float(level.span.high))
    return within if level.asked_s is None else f"{within}; {likely(level)}"


view.header("Plan", "What serves this load within its service levels, and what does it cost?")
with view.refusals():
    with st.sidebar:
        asked = question()
    if asked.inputs["devices"]:
        answer = answers.answer(asked, "Searching plans ...")
        drawn = show(answer)
        view.closing(asked, rows=plan_shown(answer).csv, pictures=drawn)
    else:
        view.empty("Choose at least one device.")
