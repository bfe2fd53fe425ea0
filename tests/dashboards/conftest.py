"""The explorer without a browser: pages run in this process."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="needs: pip install 'perfmodel[dash]'")
pytest.importorskip("plotly", reason="needs: pip install 'perfmodel[dash]'")

APP = Path(__file__).resolve().parents[2] / "dashboards" / "app.py"
PAGES = ("plan", "roofline", "kernels", "crossover", "compare", "edge", "accuracy")
TAG = re.compile(r"<[^>]+>")


class Page:
    """One page as a person sees it."""

    def __init__(self, name: str, **inputs: object) -> None:
        from streamlit.testing.v1 import AppTest

        self.app = AppTest.from_file(str(APP), default_timeout=60)
        if name != "plan":
            self.app.run().switch_page(f"views/{name}.py").run()
        for key, value in inputs.items():  # links themselves are tested in a browser
            if not isinstance(value, list):
                self.app.session_state[key] = value
        self.run()
        lists = {k: v for k, v in inputs.items() if isinstance(v, list)}
        for key, value in lists.items():
            self.app.multiselect(key=key).set_value(value)
        if lists:
            self.run()

    def run(self) -> Page:
        self.app.run()
        assert not self.app.exception, self.app.exception[0]
        return self

    def said(self, kind: str) -> list[str]:
        """Messages of a kind (success, warning, error, info), as people read them."""
        return [plain(m.value) for m in getattr(self.app, kind)]

    @property
    def metrics(self) -> dict[str, str]:
        return {m.label: m.value.replace("\\", "") for m in self.app.metric}

    @property
    def tables(self) -> str:
        """The text of every table."""
        found = (h.value for h in self.app.get("html") if "<table" in h.value)
        return html.unescape(TAG.sub(" ", " ".join(found)))

    def shown_as(self, caption: str) -> str:
        """A form of the question under "Reproduce this view"."""
        forms = dict(
            zip(
                ("Link", "Command line", "Python", "Scenario (TOML)"),
                [c.value for c in self.app.code][-4:],
                strict=True,
            )
        )
        return forms[caption]


def plain(markdown: str) -> str:
    return re.sub(r"\\(.)", r"\1", markdown)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> type[Page]:
    """Opens a page with the inputs that a link would carry."""
    monkeypatch.delenv("PERFMODEL_SPECS", raising=False)
    return Page
