"""How every page shows its answer: states, tables, pictures, downloads, ways to ask again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any
from urllib.parse import urlencode

import plotly.graph_objects as go
import streamlit as st

from perfmodel.errors import PerfModelError
from perfmodel.report.figures import Picture
from perfmodel.report.scenario import Scenario
from perfmodel.report.tables import Table

CHART_OPTIONS = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["sendChartToCloud", "sendDataToCloud", "lasso2d", "select2d"],
}
LOCAL = "http://localhost:8501"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|$~:])")


def plain(text: str) -> str:
    """``text`` with everything escaped that Markdown would take for markup."""
    return _MARKDOWN.sub(r"\\\1", text)


def header(title: str, lead: str) -> None:
    """The page's title and the question it answers."""
    st.header(title)
    st.caption(lead)


def refuse(error: PerfModelError) -> None:
    """One message: what is wrong, and what to try."""
    fix = error.fix or "another value"
    st.error(f"{plain(error.headline)}  \n**try:** {plain(fix)}", icon=":material/block:")


@contextmanager
def refusals() -> Iterator[None]:
    """Show a refusal of what happens inside as one message, instead of a traceback."""
    try:
        yield
    except PerfModelError as error:
        refuse(error)


def empty(text: str) -> None:
    """Nothing was asked yet: say what to choose."""
    st.info(plain(text), icon=":material/touch_app:")


def verdict(lines: Sequence[str], *, good: bool) -> None:
    """The answer in a line or two: yes, or a well-founded no."""
    text = "  \n".join(plain(line) for line in lines)
    if good:
        st.success(text, icon=":material/check_circle:")
    else:
        st.warning(text, icon=":material/do_not_disturb_on:")


def metrics(values: Mapping[str, tuple[str, str | None]]) -> None:
    """Headline figures side by side: label -> (value, small print)."""
    for column, (label, (value, note)) in zip(st.columns(len(values)), values.items(), strict=True):
        with column:
            st.metric(label, value.replace("$", "\\$"), border=True)
            if note:
                st.caption(plain(note))


def table(shown: Table, *, most: int | None = None) -> None:
    """A table that keyboards and screen readers can walk, of at most ``most`` rows; columns that
    no row fills are left out.
    """
    filled = (c for c in shown.columns if any(r.get(c.key) is not None for r in shown.rows))
    shown = replace(shown, columns=tuple(filled))
    if most is not None and len(shown.rows) > most:
        title = f"{shown.title} ({most} of {len(shown.rows)}; all in the CSV)"
        shown = replace(shown, title=title, rows=shown.rows[:most])
    st.html(f'<div class="pm-table" tabindex="0">{shown.to_html()}</div>')


def notes(lines: Sequence[str], title: str) -> None:
    """Small print, folded away."""
    if lines:
        with st.expander(f"{title} ({len(lines)})"):
            st.markdown("\n".join(f"- {plain(line)}" for line in lines))


def other(page: str, inputs: Mapping[str, Any], text: str) -> None:
    """A link to another question, or with ``?`` to this page as it starts."""
    address = f"{page}?{urlencode(inputs, doseq=True)}" if inputs else page
    st.html(f'<a class="pm-link" href="{escape(address)}" target="_self">{escape(text)}</a>')


def derivation(text: str) -> None:
    """The explanation of a number, from the terms that made it."""
    with st.expander("How this came about"):
        st.code(text, language=None, wrap_lines=True)


def chart(picture: Picture, key: str, on_select: Callable[[], None] | None = None) -> Any:
    """A picture with its text; a click is handed to ``on_select``.

    Its properties are checked by tests: to check them at each drawing takes longer than the answer.
    """
    choosing = {} if on_select is None else {"on_select": on_select, "selection_mode": "points"}
    layout = {**picture.spec["layout"], "template": {}}
    figure = go.Figure(picture.spec["data"], layout, _validate=False)
    return st.plotly_chart(
        figure, key=key, alt=picture.alt, width="stretch", theme="streamlit",
        config=CHART_OPTIONS, **choosing,
    )  # fmt: skip


def closing(
    scenario: Scenario, *, rows: Table | None = None, pictures: Mapping[str, Picture] | None = None
) -> None:
    """Downloads, and the view in every form in which it can be asked again."""
    st.divider()
    _downloads(scenario, rows, pictures or {})
    with st.expander("Reproduce this view"):
        address = st.context.url or LOCAL
        for label, text, language in (
            ("Link", scenario.link(address), None),
            ("Command line", scenario.command(), "sh"),
            ("Python", scenario.python(), "python"),
            ("Scenario (TOML)", scenario.toml(), "toml"),
        ):
            st.caption(label)
            st.code(text, language=language, wrap_lines=True)


def _downloads(scenario: Scenario, rows: Table | None, pictures: Mapping[str, Picture]) -> None:
    with st.container(horizontal=True):
        if rows is not None:
            _button("Table (CSV)", rows.to_csv, f"{scenario.page}.csv", "text/csv")
        for name, picture in pictures.items():
            label = f"Figure: {name} (HTML)"
            _button(label, picture.to_html, f"{scenario.page}-{name}.html", "text/html")
        _button("Scenario (TOML)", scenario.toml, f"{scenario.page}.toml", "application/toml")


def _button(label: str, make: Callable[[], str], name: str, mime: str) -> None:
    """A download whose content is made when it is asked for."""
    st.download_button(
        label, lambda: make().encode("utf-8"), file_name=name.replace(" ", "-"), mime=mime,
        on_click="ignore", key=f"download {label}",
    )  # fmt: skip
