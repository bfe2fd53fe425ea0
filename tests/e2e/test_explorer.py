"""The explorer as people meet it: links, uploads, downloads, narrow screens, no network."""

from __future__ import annotations

import csv
import tomllib

import pytest

pytest.importorskip("streamlit", reason="needs: pip install 'perfmodel[dash]'")
pytest.importorskip("playwright", reason="needs: pip install playwright")

from .explorer import FLAGS, Visit, chromium, server

TITLES = {
    "": "Plan",
    "roofline": "Roofline",
    "kernels": "Kernels",
    "crossover": "Crossover",
    "compare": "Compare",
    "edge": "Edge & MCU",
    "accuracy": "Accuracy",
}
WIDE, NARROW = (1280, 900), (375, 812)


@pytest.fixture(scope="module")
def address():
    chromium()
    with server() as started:
        yield started


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def context(browser):
    """One profile for all windows: its cache spares all but the first the scripts."""
    opened = browser.new_context(accept_downloads=True)
    yield opened
    opened.close()


@pytest.fixture
def visit(context, address):
    """Opens windows; at the end none may have seen an error or asked anything of the outside."""
    opened = []

    def window(size=WIDE, scheme="light") -> Visit:
        opened.append(Visit(context, address, size, scheme))
        return opened[-1]

    yield window
    troubles = [t for v in opened for t in v.troubles]
    for each in opened:
        each.close()
    assert troubles == []


@pytest.mark.parametrize(
    ("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")], ids=["1280-light", "375-dark"]
)
@pytest.mark.parametrize("path", TITLES)
def test_page_loads(visit, path, size, scheme):
    """Every page, opened by its address: its charts have texts, nothing sticks out sideways."""
    shown = visit(size, scheme).open(path)
    page = shown.page
    page.locator(".js-plotly-plot").first.wait_for()

    assert page.get_by_role("heading", name=TITLES[path], exact=True).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("[data-testid=stAlertContentError]").count() == 0
    chart = "[data-testid=stPlotlyChart]"
    labelled = page.locator(f"{chart} [aria-label], {chart}[aria-label]")
    assert labelled.count() >= 1


LINKS = {
    "": {"model": "qwen3-8b", "devices": ["l40s", "a100-sxm-80gb"], "users": 7, "prompt": 1000,
         "output": 99, "ttft": "900ms", "tpot": "", "rank": "latency", "price": "3.5",
         "weight_dtype": "int8", "kv_dtype": "fp8", "dtype": "bf16"},
    "roofline": {"device": "l4", "subject": "model step", "model": "qwen3-8b", "phase": "mixed",
                 "batch": 3, "prompt": 700, "context": 900, "chunk": 128, "tp": 1, "dtype": "fp16",
                 "weight_dtype": "int4", "kv_dtype": "int8"},
    "kernels": {},
    "crossover": {"device": "a100-sxm-80gb", "stage": "prefill", "batch": 2, "heads": 16,
                  "kv_heads": 4, "head_dim": 64, "longest": 9000, "dtype": "fp16", "price": "1.25"},
    "compare": {"devices": ["t4", "stm32f746", "l4"], "subject": "gemm",
                "gemm_fields": "m=16 n=32 k=64 dtype=int8", "price": "2"},
    "edge": {"network": "resnet8", "board": "stm32h743", "outside": "yes", "fuse": "no"},
    "accuracy": {"tell_by": "implementation"},
}  # fmt: skip


@pytest.mark.parametrize("path", LINKS)
def test_link_restores_every_input(visit, path):
    """The link that a page offers, opened in another window, gives the same inputs."""
    from urllib.parse import urlencode

    asked = {k: v for k, v in LINKS[path].items() if v != ""}
    first = visit().open(f"{path}?{urlencode(asked, doseq=True)}")
    toml = first.scenario()
    inputs = tomllib.loads(toml)["inputs"]
    again = visit()
    again.page.goto(first.form(0))
    again.settle()

    assert {k: inputs[k] for k in asked} == asked
    assert first.form(0).startswith(first.address)
    assert again.scenario() == toml


def test_changed_input_rewrites_the_link(visit):
    """A committed input appears in the address; back at its start, it goes again."""
    shown = visit().open()
    users = shown.page.get_by_label("Users (requests in flight)")
    users.fill("33")
    users.press("Enter")
    shown.page.wait_for_url("**/?users=33")
    shown.page.get_by_text("for 33 users").first.wait_for()
    users.fill("64")
    users.press("Enter")

    shown.page.wait_for_function("location.search === ''")


def test_page_switches_keep_the_scenario(visit):
    """What was put in survives other pages, those without these inputs too."""
    shown = visit().open("?users=7&output=33&devices=l40s&model=qwen3-8b")
    shown.go("Accuracy").go("Kernels").go("Plan")
    inputs = tomllib.loads(shown.scenario())["inputs"]

    assert (inputs["users"], inputs["output"]) == (7, 33)
    assert (inputs["devices"], inputs["model"]) == (["l40s"], "qwen3-8b")


def upload(shown: Visit, opener: str | None, name: str, content: bytes) -> None:
    if opener is not None:
        shown.page.get_by_text(opener).click()
    field = shown.page.locator("input[type=file]").first if opener is None else (
        shown.page.locator(f"details:has-text('{opener}') input[type=file]")
    )  # fmt: skip
    field.set_input_files({"name": name, "mimeType": "text/plain", "buffer": content})


@pytest.mark.parametrize(
    ("opener", "name", "content", "text"),
    [
        ("Open a scenario file", "s.toml", b"page = 'plan'\nusers", "not a scenario"),
        ("Use a config.json of your own", "config.json", b"{", "not valid JSON"),
        ("Use a config.json of your own", "config.json", b'{"model_type": "nothing"}', "nothing"),
    ],
)
def test_bad_upload(visit, opener, name, content, text):
    """One message says what is wrong with a file and what to try; the page still answers."""
    shown = visit().open()
    upload(shown, opener, name, content)
    message = shown.page.locator("[data-testid=stAlertContentError]")
    message.wait_for()

    assert message.count() == 1
    assert text in message.inner_text()
    assert "try:" in message.inner_text()
    assert "Traceback" not in shown.page.inner_text("body")


def test_scenario_file_round_trip(visit, tmp_path):
    """A downloaded scenario, opened on another page, leads back to the same question."""
    shown = visit().open("?users=12&devices=l40s&model=qwen3-8b&ttft=3s")
    with shown.page.expect_download() as waiting:
        shown.page.get_by_role("button", name="Scenario (TOML)").click()
    path = tmp_path / "scenario.toml"
    waiting.value.save_as(path)
    other = visit().open("crossover")
    upload(other, "Open a scenario file", "scenario.toml", path.read_bytes())
    other.page.get_by_role("heading", name="Plan", exact=True).wait_for()
    other.settle()

    assert tomllib.loads(other.scenario()) == tomllib.loads(path.read_text())


@pytest.mark.parametrize("path", TITLES)
def test_downloads_open(visit, browser, path, tmp_path):
    """Tables read as CSV; a figure is a page of its own that draws without any server."""
    shown = visit().open(path)
    files = {}
    buttons = shown.page.locator("[data-testid=stDownloadButton] button")
    shown.page.get_by_role("button", name="Scenario (TOML)").wait_for()  # the last of them
    for name in buttons.all_inner_texts():
        with shown.page.expect_download() as waiting:
            shown.page.get_by_role("button", name=name, exact=True).click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        files[path.suffix] = path
    rows = list(csv.DictReader(files[".csv"].read_text().splitlines()))
    alone = browser.new_page()
    asked: list[str] = []
    alone.on("request", lambda r: asked.append(r.url))
    alone.goto(files[".html"].as_uri())
    alone.locator(".js-plotly-plot .main-svg").first.wait_for()
    alone.close()

    assert rows
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert tomllib.loads(files[".toml"].read_text())["inputs"]


def test_click_explains(visit):
    """A click on an operator's point shows its derivation; the link carries the choice."""
    shown = visit().open("roofline?device=a100-sxm-80gb")  # operators are its last trace
    page = shown.page
    traces = page.locator(".js-plotly-plot .scatterlayer .trace")
    traces.first.wait_for()
    box = traces.last.locator(".points path").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    page.wait_for_url("**inspect=operator**")


def test_keyboard_reaches_the_inputs(visit):
    """Tab alone leads to an input, and typing there asks the question anew."""
    shown = visit().open()
    page = shown.page
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate("document.activeElement.getAttribute('aria-label')")
        if here == "Users (requests in flight)":
            break
    page.keyboard.press("Control+A")
    page.keyboard.type("21")
    page.keyboard.press("Enter")

    page.wait_for_url("**users=21**")


def test_listens_on_this_machine_only(address):
    """The server answers on the loopback address that it was told, no other."""
    from perfmodel.cli.dash import serving

    assert address.startswith("http://127.0.0.1:")
    assert "--server.address=127.0.0.1" in serving(8501)
    assert "--browser.gatherUsageStats=false" in serving(8501)
