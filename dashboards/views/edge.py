"""Edge and MCU: does a network fit a board, how fast is it, how long does a battery last?"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import streamlit as st
from explorer import answers, asking, files, view
from explorer.inputs import Input, ask, declare

from perfmodel import api, catalog
from perfmodel.answer import Estimate
from perfmodel.errors import BadValue, MissingFigure, PerfModelError
from perfmodel.hw.load import load_device
from perfmodel.mcu.arena import ArenaPlan
from perfmodel.mcu.energy import battery_energy, battery_life, inference_energy
from perfmodel.mcu.networks import BUILT_IN, find_network
from perfmodel.mcu.runtimes import runtimes
from perfmodel.report.arena import arena_shown
from perfmodel.report.explain import explain
from perfmodel.report.figures.arena import arena_chart, latency_chart
from perfmodel.report.scenario import Argument, Scenario
from perfmodel.report.shown import Shown, interval, seconds
from perfmodel.report.times import estimate_shown
from perfmodel.units import format_binary, format_si, parse

YES, NO, TYPICAL = "yes", "no", "typical"
SUFFIXES = ["tflite", "onnx"]
DAY_S = 86400.0
MOVES = {
    "inplace": "Results over their inputs",
    "fuse": "Neighbours slice by slice",
    "stream": "Input window by window",
    "overwrite": "Tokens over their own",
    "reorder": "Operators in the best order",
}


def _boards() -> tuple[str, ...]:
    return tuple(n for n in catalog.names("hw") if load_device(n).board is not None)


declare(
    network=Input(
        kind="choice", label="Network", default="mobilenet-v1-0.25-96",
        options=lambda: tuple(BUILT_IN),
    ),
    variant=Input(
        kind="text", label="Its parameters", default="",
        hint="of deit-t and mcuformer, as dim=168,patch=20; empty: as published",
    ),
    board=Input(kind="choice", label="Board", default="stm32l4r5", options=_boards),
    runtime=Input(
        kind="choice", label="Runtime", default=TYPICAL, options=lambda: (TYPICAL, *runtimes())
    ),
    clock=Input(kind="text", label="Core clock", default="", hint="as 80 MHz; empty: the board's"),
    battery=Input(kind="text", label="Battery", default="1000 mAh", hint="as 1000 mAh or 3.7 Wh"),
    every=Input(kind="text", label="One inference every", default="10s", hint="as 10s"),
    outside=Input(
        kind="choice", label="Tensors in external RAM", default=NO, options=lambda: (NO, YES)
    ),
    **{
        name: Input(kind="choice", label=label, default=YES, options=lambda: (YES, NO))
        for name, label in MOVES.items()
    },
)  # fmt: skip


def question() -> Scenario:
    """The inputs, as a scenario: the arena, and beside it the latency."""
    inputs: dict[str, Any] = {"network": ask("network"), "variant": ask("variant")}
    own = files.upload("A .tflite or .onnx file of your own", SUFFIXES, "own_network", _read)
    inputs["board"] = ask("board")
    with st.expander("Runtime, clock, battery"):
        inputs |= {name: ask(name) for name in ("runtime", "clock", "battery", "every")}
    with st.expander("Moves that save memory"):
        inputs |= {name: ask(name) for name in ("outside", *MOVES)}
    name, network = own or _named(inputs["network"], inputs["variant"])
    subject = [asking.positional(network, name), asking.on(inputs["board"])]
    return Scenario(
        page="edge", inputs=inputs, verb="arena", function="arena",
        arguments=[*subject, *_moves(inputs)],
        also=(
            Scenario(
                page="edge", inputs={}, verb="estimate", function="latency",
                arguments=[*subject, *_running(inputs)],
            ),
        ),
    )  # fmt: skip


def _moves(inputs: dict[str, Any]) -> Iterator[Argument]:
    for name in MOVES:
        if inputs[name] == NO:
            yield Argument(option="", text=f"--no-{name}", keyword=name, value=False)
    if inputs["outside"] == YES:
        yield Argument(option="", text="--external-ram", keyword="external_ram", value=True)


def _running(inputs: dict[str, Any]) -> Iterator[Argument]:
    if inputs["runtime"] != TYPICAL:
        yield asking.option("runtime", inputs["runtime"])
    if inputs["clock"]:
        hertz = parse(inputs["clock"], "frequency", "clock")
        yield Argument(option="clock", text=inputs["clock"], keyword="clock_hz", value=hertz)


def _named(name: str, variant: str) -> tuple[str, str]:
    """A built-in network; no path, which would lead into the server's own files."""
    text = f"{name}:{variant}" if variant else name
    if os.sep in text or text.lower().endswith(tuple(f".{s}" for s in SUFFIXES)):
        msg = f"names a built-in network's parameters, got {variant!r}"
        raise BadValue(msg, field="network", fix="dim=168,patch=20, or upload a file of your own")
    return text, text


def _read(path: Path) -> tuple[str, Any]:
    return path.name, find_network(path)


def fit(found: ArenaPlan) -> tuple[dict[str, Any], Shown]:
    """The verdict and the arena's figures; returns its picture and its tables."""
    shown = arena_shown(found)
    view.verdict(shown.lead[:1], good=found.fits)
    view.metrics(
        {
            "Arena": (format_binary(found.peak_bytes), _proven(found)),
            "Weights": (format_binary(found.network.weight_bytes), "where the table says"),
            "Multiply-adds": (
                format_si(float(found.network.macs), ""),
                f"{len(found.steps)} steps",
            ),
        }
    )
    return {"arena": arena_chart(found)}, shown


def _proven(found: ArenaPlan) -> str:
    if found.optimal:
        return f"proven smallest, by {found.method}"
    return f"at least {format_binary(found.bound_bytes)}, by {found.method}"


def speed(scenario: Scenario, inputs: dict[str, Any]) -> dict[str, Any]:
    """Latency, energy and battery life, each of them or the reason why not; returns the picture."""
    try:
        found = answers.answer(scenario, "Counting cycles ...")
    except PerfModelError as refusal:
        view.verdict([f"No latency: {refusal.headline}; try: {refusal.fix}"], good=False)
        return {}
    within = "" if found.coverage is None else f", {found.coverage:.0%} of such cases"
    view.metrics(
        {
            "Latency": (
                seconds(float(found.time_s)),
                f"{interval(float(found.low_s), float(found.high_s))}{within}; {found.source}",
            ),
            **_power(found, inputs),
        }
    )
    return {"latency": latency_chart(found)}


def _power(found: Estimate, inputs: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Energy of an inference and life of the battery, as metrics."""
    device = api.device(inputs["board"])
    try:
        energy = inference_energy(found, device)
    except MissingFigure as refusal:
        return {"Energy": ("-", refusal.headline), "Battery life": ("-", "needs the energy")}
    ends = f"{format_si(energy.low_j, 'J')} .. {format_si(energy.high_j, 'J')}"
    shown = {
        "Energy": (
            format_si(energy.energy_j, "J"), f"{ends} at {format_si(energy.power_w, 'W')}",
        )
    }  # fmt: skip
    if not (inputs["battery"] and inputs["every"]):
        return shown
    life = battery_life(
        energy, found, device,
        battery_j=battery_energy(inputs["battery"]),
        period_s=parse(inputs["every"], "time", "every"),
    )  # fmt: skip
    told = f"{format_si(life.average_w, 'W')} on average, {life.inferences:.3g} inferences"
    return shown | {"Battery life": (f"{life.life_s / DAY_S:.3g} days", told)}


def details(shown: Shown, scenario: Scenario) -> None:
    """Tables of memory and operators, what is assumed, how the latency came about."""
    for table in shown.tables:
        view.table(table)
    notes = list(shown.notes)
    try:
        found = answers.answer(scenario, "Counting cycles ...")
    except PerfModelError:
        view.notes(notes, "What is assumed")
        return
    view.table(estimate_shown(found).tables[1])
    view.notes([*notes, *estimate_shown(found).notes], "What is assumed")
    view.derivation(explain(found))


view.header("Edge & MCU", "Does this network fit that board, how fast is it, what does it draw?")
with view.refusals():
    with st.sidebar:
        asked = question()
    answer = answers.answer(asked, "Planning the arena ...")
    drawn, tables = fit(answer)
    drawn |= speed(asked.also[0], asked.inputs)
    for name, drawing in drawn.items():
        view.chart(drawing, f"edge {name}")
    details(tables, asked.also[0])
    view.closing(asked, rows=tables.csv, pictures=drawn)
