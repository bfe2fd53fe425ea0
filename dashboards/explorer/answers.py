"""Answers kept: the same question is computed once, whoever asks. They are frozen, so shared."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import streamlit as st

from perfmodel import api
from perfmodel.report.scenario import Scenario

KEPT = 256


def answer(scenario: Scenario, waiting: str) -> Any:
    """What the scenario's function answers; ``waiting`` is shown while it takes long."""
    positional = tuple(_frozen(a.value) for a in scenario.arguments if not a.keyword)
    named = tuple((k, _frozen(v)) for k, v in scenario.keywords().items())
    with st.spinner(waiting):
        return _asked(scenario.function, positional, named)


@lru_cache(maxsize=KEPT)
def _asked(function: str, positional: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Any:
    values = (v.value if isinstance(v, _Work) else v for v in positional)
    return getattr(api, function)(*values, **dict(named))


class _Work:
    """A workload as a key: equal where its fields are."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = value.key()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Work) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return _Work(value) if hasattr(value, "key") else value
