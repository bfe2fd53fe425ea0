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


STEP = {"model": "qwen3-8b", "phase": "mixed", "batch": 3, "prompt": 700, "context": 900,
        "chunk": 128, "tp": 1, "dtype": "fp16", "weight_dtype": "int4",
        "kv_dtype": "int8"}  # fmt: skip
LINKS = [
    ("", {"model": "qwen3-8b", "devices": ["l40s", "a100-sxm-80gb"], "users": 7, "prompt": 1000,
          "output": 99, "ttft": "900ms", "tpot": "70ms", "rank": "latency", "price": "3.5",
          "weight_dtype": "int8", "kv_dtype": "fp8", "dtype": "bf16"}),
    ("roofline", {"device": "l4", "subject": "model step", "timed": "all",
                  "inspect": "operator: mlp: gate_up", **STEP}),
    ("roofline", {"device": "l4", "subject": "norm", "norm_fields": "rows=7 cols=4096",
                  "timed": "none", "inspect": "roof: dram"}),
    ("kernels", {"family": "copy", "kernel_device": "h200-sxm",
                 "sizes": "elements=16777216 flops=0.0 name=copy"}),
    ("crossover", {"device": "a100-sxm-80gb", "stage": "prefill", "batch": 2, "heads": 16,
                   "kv_heads": 4, "head_dim": 64, "longest": 9000, "dtype": "fp16",
                   "price": "1.25", "aspect": "cost"}),
    ("compare", {"devices": ["t4", "stm32f746", "l4"], "subject": "gemm", "of": "t4",
                 "gemm_fields": "m=16 n=32 k=64 dtype=int8", "price": "2"}),
    ("compare", {"devices": ["h100-sxm-80gb", "l4"], "subject": "model step", "of": "l4",
                 "price": "2", **STEP}),
    ("edge", {"network": "deit-t", "variant": "image=96", "board": "stm32h743",
              "runtime": "x-cube-ai-7", "clock": "64 MHz", "battery": "2 Wh", "every": "60s",
              "outside": "yes", "inplace": "no", "fuse": "no", "stream": "no", "overwrite": "no",
              "reorder": "no"}),
    ("accuracy", {"tell_by": "implementation", "file": "h200-sxm-int8-gemm-2026-11-28"}),
]  # fmt: skip
"""Every input of every page, each at another value than it starts from."""


@pytest.mark.parametrize(("path", "asked"), LINKS, ids=[f"{p}-{len(a)}" for p, a in LINKS])
def test_link_restores_every_input(visit, path, asked):
    """The link that a page offers, opened in another window, gives the same inputs."""
    from urllib.parse import urlencode

    first = visit().open(f"{path}?{urlencode(asked, doseq=True)}")
    toml = first.scenario()
    inputs = tomllib.loads(toml)["inputs"]
    again = visit()
    again.page.goto(first.form(0))
    again.settle()

    assert inputs == {k: inputs[k] for k in asked if k in inputs} == asked
    assert first.form(0).startswith(first.address)
    assert again.scenario() == toml


CHANGED = {
    "": ("Users (requests in flight)", "33", "users=33"),
    "roofline": ("Batch (sequences at once)", "33", "batch=33"),
    "kernels": ("Family of kernels", "copy", "family=copy"),
    "crossover": ("Heads", "64", "heads=64"),
    "compare": ("Tensor-parallel devices", "8", "tp=8"),
    "edge": ("Network", "ds-cnn", "network=ds-cnn"),
    "accuracy": ("Tell apart by", "device", "tell_by=device"),
}


CHOSEN = """value => {
  const option = document.activeElement.getAttribute('aria-activedescendant');
  return option && document.getElementById(option)?.textContent === value;
}"""
"""The option that Enter would choose is the one typed."""


@pytest.mark.parametrize("path", CHANGED)
def test_keyboard_changes_an_input_and_the_link(visit, path):
    """Tab alone leads to an input; what is typed there appears in the address and in what the page
    offers to reproduce it.
    """
    label, value, parameter = CHANGED[path]
    shown = visit().open(path)
    field, keyboard = shown.field(label), shown.page.keyboard
    for _ in range(60):
        keyboard.press("Tab")
        if field.evaluate("e => e === document.activeElement"):
            break
    else:
        pytest.fail(f"sixty times Tab does not lead to {label}")
    keyboard.press("Control+A")
    keyboard.type(value)
    if field.get_attribute("role") == "combobox":
        shown.page.wait_for_function(CHOSEN, arg=value)
    keyboard.press("Enter")
    shown.page.wait_for_url(f"**/{path}?{parameter}")
    name, _, expected = parameter.partition("=")
    line = f"{name} = {expected}" if expected.isdigit() else f'{name} = "{expected}"'
    # Attached is enough: a page drawn again after the key press may fold the panel meanwhile.
    shown.page.locator("details code", has_text=line).wait_for(state="attached")

    assert str(tomllib.loads(shown.scenario())["inputs"][name]) == expected


def test_input_at_its_start_leaves_the_link(visit):
    """Back at its start, an input goes from the address again."""
    shown = visit().open("?users=33")
    users = shown.field("Users (requests in flight)")
    users.fill("64")
    users.press("Enter")

    shown.page.wait_for_function("location.search === ''")


def test_page_switches_keep_the_scenario(visit):
    """What was put in survives other pages, those without these inputs too."""
    asked = {"users": 7, "output": 33, "devices": ["l40s", "l4"], "model": "qwen3-8b"}
    shown = visit().open("?users=7&output=33&devices=l40s&devices=l4&model=qwen3-8b")
    for title in (*list(TITLES.values())[1:], "Plan"):
        inputs = tomllib.loads(shown.go(title).scenario())["inputs"]
        here = {k: v for k, v in asked.items() if k in inputs}
        assert {k: inputs[k] for k in here} == here, title

    assert here == asked
    assert "model=qwen3-8b" in shown.page.url


def upload(shown: Visit, opener: str | None, name: str, content: bytes) -> None:
    if opener is not None:
        shown.page.get_by_text(opener).click()
        field = shown.page.locator(f"details:has-text('{opener}') input[type=file]")
    else:
        field = shown.page.locator("input[type=file]:not(details input)")
    field.set_input_files({"name": name, "mimeType": "text/plain", "buffer": content})


CONFIG = "Use a config.json of your own"
BAD = [
    ("", "Open a scenario file", "s.toml", b"page = 'plan'\nusers", "not a scenario"),
    ("", CONFIG, "config.json", b'{"model_type": "nothing"}', "nothing"),
    ("kernels", None, "bench.json", b"[1, 2", "bench.json"),
    ("edge", None, "net.tflite", b"not a network", "net.tflite"),
    ("accuracy", None, "table.csv", b"a,b\n1,2\n", "table.csv"),
]


@pytest.mark.parametrize(
    ("path", "opener", "name", "content", "text"), BAD, ids=[f"{b[0]}-{b[2]}" for b in BAD]
)
def test_bad_upload(visit, path, opener, name, content, text):
    """One message says what is wrong with a file and what to try; the page still answers."""
    shown = visit().open(path)
    upload(shown, opener, name, content)
    message = shown.page.locator("[data-testid=stAlertContentError]")
    message.wait_for()
    shown.settle()

    assert message.count() == 1
    assert text in message.inner_text()
    assert "try:" in message.inner_text()
    assert "Traceback" not in shown.page.inner_text("body")
    assert shown.page.locator(".pm-table").count() >= 1


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


BUTTONS = "[data-testid=stDownloadButton] button"


@pytest.mark.parametrize("path", TITLES)
def test_downloads_open(visit, browser, path, tmp_path):
    """Tables read as CSV; a figure is a page of its own that draws without any server."""
    shown = visit().open(path)
    files = {}
    buttons = shown.page.locator(BUTTONS)
    buttons.last.filter(has_text="Scenario (TOML)").wait_for()
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
    click(page, traces.last.locator(".points path").first)

    page.wait_for_url("**inspect=operator**")
    shown.settle()
    name = tomllib.loads(shown.scenario())["inputs"]["inspect"].removeprefix("operator: ")
    assert name.partition(": ")[2] in page.locator("pre").first.inner_text()


def test_click_on_a_roof_tells_its_source(visit):
    """A click on a roof shows its figure, where it is from, and under which condition."""
    shown = visit().open("roofline?timed=none&subject=norm")  # roofs are its first traces
    page = shown.page
    traces = page.locator(".js-plotly-plot .scatterlayer .trace")
    traces.first.wait_for()
    click(page, traces.first.locator(".points path").nth(3))

    page.wait_for_url("**inspect=roof**")
    shown.settle()
    told = page.locator("pre").first.inner_text()
    assert "B/s" in told
    assert "[" in told


def click(page, mark) -> None:
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_narrow_screen_has_its_inputs(visit):
    """At 375 px the inputs lie behind one button, and change the answer from there."""
    shown = visit(NARROW, "dark").open()
    shown.page.get_by_test_id("stExpandSidebarButton").click()
    users = shown.field("Users (requests in flight)")
    users.fill("21")
    users.press("Enter")

    shown.page.wait_for_url("**users=21**")


def test_listens_on_this_machine_only(address):
    """The server answers on the loopback address that it was told, no other."""
    from perfmodel.cli.dash import serving

    assert address.startswith("http://127.0.0.1:")
    assert "--server.address=127.0.0.1" in serving(8501)
    assert "--browser.gatherUsageStats=false" in serving(8501)


def test_start_over(visit):
    """One link puts every input back to where it starts."""
    shown = visit().open("crossover?batch=7&device=l4")
    shown.page.get_by_role("link", name="Start over").click()
    shown.page.wait_for_function("location.search === ''")
    shown.settle()
    inputs = tomllib.loads(shown.scenario())["inputs"]

    assert (inputs["batch"], inputs["device"]) == (16, "h200-sxm")
