"""Inputs -> a scenario: the verb, its options as people type them and as Python takes them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer import files
from explorer.inputs import AUTO, ask
from perfmodel.report.scenario import Argument
from perfmodel.units import parse

DTYPE_INPUTS = ("dtype", "weight_dtype", "kv_dtype")


def positional(value: Any, text: str | None = None) -> Argument:
    """An argument that has no name."""
    return Argument(option="", text=str(value) if text is None else text, keyword="", value=value)


def words(text: str) -> Argument:
    """A word of the command line that belongs to the value before it."""
    return Argument(option="", text=text, keyword="", value=None)


def option(name: str, value: Any, *, keyword: str | None = None) -> Argument:
    """An option whose text is its value."""
    return Argument(
        option=name.replace("_", "-"), text=str(value), keyword=keyword or name, value=value
    )


def on(devices: list[str] | str) -> Argument:
    """The device or devices that a question is put to."""
    text = devices if isinstance(devices, str) else ",".join(devices)
    return Argument(option="on", text=text, keyword="on", value=devices)


def times(inputs: dict[str, Any]) -> list[Argument]:
    """Service levels, typed with their unit; raises BadValue where they are no times."""
    return [
        Argument(option=n, text=inputs[n], keyword=f"{n}_s", value=parse(inputs[n], "time", n))
        for n in ("ttft", "tpot")
        if inputs[n]
    ]


def price(inputs: dict[str, Any]) -> list[Argument]:
    """Dollars per device-hour, if given; raises BadValue where it is no price."""
    if not inputs["price"]:
        return []
    dollars = parse(inputs["price"], "price", "price")
    return [Argument(option="price", text=f"{dollars:g}", keyword="price", value=dollars)]


def dtypes(inputs: dict[str, Any]) -> list[Argument]:
    """The data types that were chosen."""
    return [option(n, inputs[n]) for n in DTYPE_INPUTS if inputs.get(n, AUTO) != AUTO]


def model() -> tuple[Any, str]:
    """The chosen model and its name on the command line: a shipped one, or an uploaded file."""
    name = ask("model")
    with st.expander("Use a config.json of your own"):
        own = files.upload("config.json", ["json"], "own_model", files.config_json)
    return (name, name) if own is None else (own, own.name)
