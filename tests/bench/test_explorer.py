"""How soon the explorer answers in a browser: printed by ``make bench``, never asserted.

Each figure is a median with the machine's load beside it: a browser, a server and whatever else
runs share its cores. Of a redraw two times are told: to the first new figure, and to the page drawn
to its end, charts included; and the processor time that it took the server, whatever else ran.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import pytest

pytest.importorskip("streamlit", reason="needs: pip install 'perfmodel[dash]'")
pytest.importorskip("playwright", reason="needs: pip install playwright")
pytest.importorskip("psutil", reason="needs: pip install psutil")

import psutil

from tests.e2e.explorer import FLAGS, Visit, chromium, running

ROUNDS = 9


@dataclass(frozen=True)
class Change:
    """The input of a page that is changed, and what to."""

    label: str
    values: tuple[str, ...]
    folded_in: str | None = None


COUNTS = tuple(str(n) for n in range(48, 48 + 16 * (ROUNDS + 2), 16))
CHANGES = {
    "": Change("Users (requests in flight)", COUNTS),
    "roofline": Change("Batch (sequences at once)", COUNTS),
    "kernels": Change("Family of kernels", ("copy", "int8_gemm")),
    "crossover": Change("Heads", COUNTS),
    "compare": Change("Batch (sequences at once)", COUNTS),
    "edge": Change("Core clock", tuple(f"{n} MHz" for n in COUNTS), "Runtime, clock, battery"),
    "accuracy": Change("Measurements", ("h200-sxm-int8-gemm-2026-11-28", "all")),
}


@pytest.fixture(scope="module")
def served():
    """The address of a server, and its process."""
    with running() as (address, pid):
        yield address, psutil.Process(pid)


@pytest.fixture(scope="module")
def window(served):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield Visit(browser.new_context(), served[0], (1280, 900), "light")
        browser.close()


@pytest.mark.benchmark(group="explorer, first page interactive")
def test_first_page(benchmark, window, capsys):
    """Address entered to verdict shown and inputs usable; the target is under 2.5 s."""
    verdict = window.page.locator("[data-testid=stAlertContainer]")

    def enter() -> None:
        window.page.goto(window.address)
        verdict.wait_for()
        window.field(CHANGES[""].label).wait_for()

    def leave() -> None:
        if window.page.url != "about:blank":
            window.settle()
        window.page.goto("about:blank")

    benchmark.pedantic(enter, setup=leave, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["load"] = os.getloadavg()[0]
    tell(capsys, f"first page interactive: {benchmark.stats['median']:.2f} s")


@pytest.mark.benchmark(group="explorer, input change redraws")
@pytest.mark.parametrize("path", CHANGES)
def test_redraw(benchmark, window, served, path, capsys):
    """A committed input to the page redrawn with its new answer; the target is under 0.4 s."""
    page = window.open(path).page
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    change = CHANGES[path]
    if change.folded_in:
        page.get_by_text(change.folded_in).click()
    commit = committer(window.field(change.label), itertools.cycle(change.values))
    times: list[dict[str, float]] = []

    def redraw() -> None:
        before = page.evaluate(SHOWN)
        commit()
        times.append(page.evaluate(REDRAWN, before))
        page.wait_for_timeout(200)

    redraw()
    spent = sum(served[1].cpu_times()[:2])
    benchmark.pedantic(redraw, rounds=ROUNDS)
    server_s = (sum(served[1].cpu_times()[:2]) - spent) / ROUNDS
    first, whole = (statistics.median(t[key] for t in times[1:]) for key in ("first", "whole"))
    benchmark.extra_info |= {
        "first_figure_s": first,
        "redrawn_s": whole,
        "server_cpu_s": server_s,
        "load": os.getloadavg()[0],
    }
    told = (
        f"first new figure {first:.3f} s, page redrawn {whole:.3f} s, server {server_s:.3f} s CPU"
    )
    tell(capsys, f"{path or 'plan'}: {told}")


def committer(field, values) -> Callable[[], None]:
    """Puts the next value into an input, the clock of the page running from the Enter key."""

    def commit() -> None:
        field.fill(next(values))
        field.evaluate(
            "e => e.addEventListener('keydown', k => { if (k.key === 'Enter')"
            " window.entered = performance.now() }, {once: true, capture: true})"
        )
        field.press("Enter")  # fmt: skip

    return commit


SHOWN = """[...document.querySelectorAll(
  '[data-testid=stMetricValue], [data-testid=stAlertContainer], .pm-table'
)].filter(e => !e.closest('[data-stale=true]')).map(e => e.textContent).join('|')"""
"""The figures on the page, those of the question before left out."""

REDRAWN = f"""before => new Promise(done => {{
  let first = null;
  const look = () => {{
    const now = {SHOWN};
    const at = (performance.now() - window.entered) / 1000;
    if (first === null && now && now !== before) first = at;
    const state = document.querySelector('[data-test-script-state]').dataset.testScriptState;
    const still = state === 'notRunning' && !document.querySelector('[data-stale=true]')
      && [...document.querySelectorAll('.stPlotlyChart')].every(c => c.querySelector('.trace'));
    if (first !== null && still) done({{first, whole: at}});
    else requestAnimationFrame(look);
  }};
  look();
}})"""
"""Seconds from the Enter key to the first new figure, and to a page with nothing old left and
every chart drawn."""


def tell(capsys, line: str) -> None:
    with capsys.disabled():
        print(f"\n{line} (median of {ROUNDS}, load {os.getloadavg()[0]:.1f})")
