"""Answers kept: the same question is computed once, whoever asks. They are frozen, so shared."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import streamlit as st

from perfmodel import api
from perfmodel.report.scenario import Scenario

KEPT = 256


class Key:
    """A scenario as a key: equal where function and arguments are."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.keywords = scenario.keywords()
        self.identity = (
            scenario.function,
            tuple(_hashable(value) for value in scenario.positional()),
            tuple((k, _hashable(v)) for k, v in self.keywords.items()),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


def answer(scenario: Scenario, waiting: str) -> Any:
    """What the scenario's function answers; ``waiting`` is shown while it takes long."""
    with st.spinner(waiting):
        return _asked(Key(scenario))


@lru_cache(maxsize=KEPT)
def _asked(key: Key) -> Any:
    function = getattr(api, key.scenario.function)
    return function(*key.scenario.positional(), **key.keywords)


def _hashable(value: Any) -> Any:
    """``value``, or what tells it from others: of what was read from a file its whole text."""
    if isinstance(value, list):
        return tuple(value)
    if hasattr(value, "key"):
        return value.key()
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
