"""The explorer in a real browser: a server of its own, Debian's Chromium, nothing from outside."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
READY = "text=Reproduce this view"
STILL = """() => document.querySelector('[data-test-script-state=notRunning]')
  && !document.querySelector('[data-stale=true]')"""
"""The script has ended and nothing on the page is of the run before."""
START_S = 60.0


def chromium() -> str:
    """The browser; skips, with what to install, where there is none."""
    named = os.environ.get("CHROMIUM_PATH")
    found = named or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("needs a browser: apt-get install -y chromium (or CHROMIUM_PATH)")
    return found


@contextmanager
def server() -> Iterator[str]:
    """``perfmodel dash`` as a user starts it; yields its address."""
    with running() as (address, _):
        yield address


@contextmanager
def running() -> Iterator[tuple[str, int]]:
    """A server's address and process id."""
    from perfmodel.cli.dash import _environment, serving

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        serving(port), cwd=ROOT, env=_environment(None),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(address, process)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the explorer did not start")


class Visit:
    """A browser window that remembers everything that went wrong in it."""

    def __init__(self, context: Any, address: str, size: tuple[int, int], scheme: str) -> None:
        self.address = address
        self.page = context.new_page()
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_default_timeout(30_000)
        self.troubles: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda e: self.troubles.append(f"exception: {e}"))
        self.page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.troubles.append(f"console: {message.text} {message.location}")

    def _request(self, request: Any) -> None:
        inside = (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        if not request.url.startswith(inside):
            self.troubles.append(f"request outside: {request.url}")

    def open(self, path: str = "") -> Visit:
        self.page.goto(f"{self.address}/{path}")
        return self.settle()

    def settle(self) -> Visit:
        """Wait until the page has run to its end."""
        self.page.wait_for_selector(READY)
        self.page.wait_for_function(STILL)
        return self

    def field(self, label: str) -> Any:
        """The input under a label, of whatever kind."""
        kinds = ("stNumberInput", "stTextInput", "stSelectbox", "stMultiSelect")
        widgets = self.page.locator(", ".join(f"[data-testid={kind}]" for kind in kinds))
        return widgets.filter(has=self.page.get_by_text(label, exact=True)).locator("input").first

    def scenario(self) -> str:
        """The TOML under "Reproduce this view": every input as the page has it."""
        return self.form(3)

    def form(self, index: int) -> str:
        if not self.page.locator("details:has-text('Reproduce this view')[open]").count():
            self.page.get_by_text("Reproduce this view").click()
        codes = self.page.locator("details:has-text('Reproduce this view') code")
        codes.nth(index).wait_for()
        return codes.nth(index).inner_text()

    def go(self, title: str) -> Visit:
        """Follow the link of the navigation bar."""
        self.page.get_by_role("link", name=title, exact=True).first.click()
        self.page.get_by_role("heading", name=title, exact=True).wait_for()
        return self.settle()

    def close(self) -> None:
        self.page.close()
