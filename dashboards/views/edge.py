"""Edge and MCU: does a network fit a microcontroller, where does every tensor lie?"""

import os
from pathlib import Path
from typing import Any

import streamlit as st
from explorer import answers, asking, files, view
from explorer.inputs import Input, ask, declare

from perfmodel import catalog
from perfmodel.errors import BadValue
from perfmodel.hw.load import load_device
from perfmodel.mcu.arena import ArenaPlan, find_network
from perfmodel.report.arena import arena_shown
from perfmodel.report.figures.arena import arena_chart
from perfmodel.report.scenario import Argument, Scenario
from perfmodel.report.shown import Shown
from perfmodel.units import format_binary

YES, NO = "yes", "no"
SUFFIXES = ["tflite", "onnx"]
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
        kind="text", label="Network", default="mobilenet-v1-0.25-96",
        hint="resnet8, ds-cnn, mobilenet-v1-0.25-96, autoencoder, deit-t, mcuformer:dim=216",
    ),
    board=Input(kind="choice", label="Board", default="stm32f746", options=_boards),
    outside=Input(
        kind="choice", label="Tensors in external RAM", default=NO, options=lambda: (NO, YES)
    ),
    **{
        name: Input(kind="choice", label=label, default=YES, options=lambda: (YES, NO))
        for name, label in MOVES.items()
    },
)  # fmt: skip


def question() -> Scenario:
    """The inputs, as a scenario."""
    inputs: dict[str, Any] = {"network": ask("network")}
    own = files.upload("A .tflite or .onnx file of your own", SUFFIXES, "own_network", _read)
    inputs |= {"board": ask("board"), "outside": ask("outside")}
    with st.expander("Moves that save memory"):
        moves = {name: ask(name) for name in MOVES}
    name, network = own or _named(inputs["network"])
    off = [
        Argument(option="", text=f"--no-{n}", keyword=n, value=False)
        for n, wanted in moves.items()
        if wanted == NO
    ]
    far = [Argument(option="", text="--external-ram", keyword="external_ram", value=True)]
    return Scenario(
        page="edge",
        inputs=inputs | moves,
        verb="arena",
        function="arena",
        arguments=[
            asking.positional(network, name), asking.on(inputs["board"]), *off,
            *(far if inputs["outside"] == YES else []),
        ],
    )  # fmt: skip


def _named(text: str) -> tuple[str, str]:
    """A built-in network; no path, which would lead into the server's own files."""
    if os.sep in text or text.lower().endswith(tuple(f".{s}" for s in SUFFIXES)):
        msg = f"names a built-in network, got {text!r}"
        raise BadValue(msg, field="network", fix="upload a file of your own below")
    return text, text


def _read(path: Path) -> tuple[str, Any]:
    return path.name, find_network(path)[0]


def show(found: ArenaPlan) -> tuple[dict[str, Any], Shown]:
    """The verdict, the arena's picture, every memory and move; returns pictures and tables."""
    shown = arena_shown(found)
    view.verdict(shown.lead[:1], good=found.fits)
    view.metrics(
        {
            "Arena": (format_binary(found.peak_bytes), _proven(found)),
            "Weights": (format_binary(found.network.weight_bytes), "where the table says"),
            "Multiply-adds": (f"{found.network.macs:,}", f"{len(found.steps)} steps"),
        }
    )
    pictures = {"arena": arena_chart(found)}
    view.chart(pictures["arena"], "edge arena")
    for table in shown.tables:
        view.table(table)
    view.notes(shown.notes, "What is assumed")
    return pictures, shown


def _proven(found: ArenaPlan) -> str:
    if found.optimal:
        return f"proven smallest, by {found.method}"
    return f"at least {format_binary(found.bound_bytes)}, by {found.method}"


view.header("Edge & MCU", "Does this network fit that board, and what would help?")
with view.refusals():
    with st.sidebar:
        asked = question()
    answer = answers.answer(asked, "Planning the arena ...")
    drawn, tables = show(answer)
    view.closing(asked, rows=tables.csv, pictures=drawn)
