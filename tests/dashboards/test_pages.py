"""Every page answers, says a well-founded no, and refuses in one message; never a traceback."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from perfmodel.report.scenario import read_scenario

from .conftest import PAGES

ANSWERED = {
    "plan": ("success", "llama-3.1-70b for 64 users"),
    "roofline": ("", ""),
    "crossover": ("success", "overtakes softmax"),
    "compare": ("success", "is fastest"),
    "kernels": ("success", "of its roof"),
    "accuracy": ("", "lie in the predicted interval"),
    "edge": ("success", "fits"),
}
"""What a page says, and as what: how much of the measurements intervals hold is theirs to tell."""


@pytest.mark.parametrize("name", PAGES)
def test_answer(page, name):
    """With what it starts from, a page shows figures or a table, and no refusal."""
    kind, text = ANSWERED[name]
    shown = page(name)
    said = shown.said(kind) if kind else shown.said("success") + shown.said("warning")

    assert shown.said("error") == []
    assert shown.metrics or "us" in shown.tables or "ms" in shown.tables
    assert text in " ".join(said)
    assert shown.shown_as("Command line").startswith("perfmodel ")


INFEASIBLE = {
    "plan": ({"users": 4096, "ttft": "1ms"}, "NO PLAN"),
    "roofline": ({"batch": 64, "context": 131072, "tp": 1}, "DOES NOT FIT"),
    "compare": ({"batch": 64, "context": 131072, "tp": 1}, "Does not fit in the memory of"),
    "crossover": ({"longest": 128}, "no mixer changes places"),
    "edge": ({"network": "deit-t", "board": "stm32g0b1"}, "DOES NOT FIT"),
}


@pytest.mark.parametrize("name", INFEASIBLE)
def test_infeasible(page, name):
    """A well-posed question whose answer is no: a warning that says so, beside the figures."""
    inputs, text = INFEASIBLE[name]
    shown = page(name, **inputs)

    assert text in " ".join(shown.said("warning"))
    assert shown.said("error") == []


UNSCORABLE = {"kernels": "own_benchmark", "accuracy": "own_measurements"}


@pytest.mark.parametrize("name", UNSCORABLE)
def test_unscorable_upload(page, name):
    """Measurements of an unknown device: the answer is no, with the reason and the count."""
    row = {"kind": "kernel", "workload": {"op": "gemm", "m": 8, "n": 8, "k": 8}, "time_s": 1e-5}
    content = {"schema": 1, "device": {"name": "nobody-1000"}, "measurements": [row]}
    shown = page(name)
    shown.app.file_uploader(key=UNSCORABLE[name]).upload("m.json", json.dumps(content).encode())
    shown.run()

    assert "can be scored" in " ".join(shown.said("warning"))
    assert "nobody-1000" in shown.tables
    assert shown.said("error") == []


REFUSED = {
    "plan": ({"ttft": "soon"}, "ttft"),
    "roofline": ({"device": "a100-sxm-80gb", "tp": 7}, "tp"),
    "compare": (
        {"devices": ["a100-sxm-80gb", "v100-sxm2-16gb"], "subject": "gemm",
         "gemm_fields": "m=8 n=8 k=8 dtype=fp8"},
        "fp8",
    ),
    "crossover": ({"kv_heads": 7}, "kv_heads"),
    "edge": ({"network": "deit-t", "variant": "nothing=1"}, "nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(page, name):
    """A badly posed question: one message that names the field and what to try."""
    inputs, field = REFUSED[name]
    shown = page(name, **inputs)

    (message,) = shown.said("error")
    assert field in message
    assert "try:" in message
    assert shown.metrics == {}


@pytest.mark.parametrize(
    ("name", "inputs", "text"),
    [
        ("plan", {"model": "bert-base"}, "does not generate"),
        ("plan", {"price": "much"}, "price"),
        ("roofline", {"subject": "gemm", "gemm_fields": "m=4096 n=-1 k=1"}, "n"),
        ("roofline", {"subject": "attention", "attention_fields": "batch=1"}, "needs"),
        ("roofline", {"subject": "gemm", "gemm_fields": "m=4096 n=4096 q=1"}, "field of gemm"),
        ("compare", {"tp": 7}, "tp"),
        ("edge", {"variant": "/etc/passwd"}, "built-in"),
        ("edge", {"variant": "here.onnx"}, "built-in"),
        ("edge", {"clock": "fast"}, "clock"),
        ("edge", {"battery": "much"}, "battery"),
        ("edge", {"every": "1us"}, "every"),
        ("crossover", {"price": "much"}, "price"),
    ],
)
def test_more_refusals(page, name, inputs, text):
    """Whatever a link or a person puts in ends in one message."""
    (message,) = page(name, **inputs).said("error")

    assert text in message


@pytest.mark.parametrize("name", ["plan", "compare"])
def test_empty(page, name):
    """Before devices are chosen, a page says what to choose."""
    shown = page(name)
    shown.app.multiselect(key="devices").set_value([])

    assert "Choose" in shown.run().said("info")[0]
    assert shown.said("error") == []


BAD_FILES = {
    "plan": ("own_model", "config.json", b'{"model_type": "llama"'),
    "kernels": ("own_benchmark", "bench.json", b"[1, 2"),
    "accuracy": ("own_measurements", "table.csv", b"a,b\n1,2\n"),
    "edge": ("own_network", "net.tflite", b"not a network"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_upload(page, name):
    """A file that cannot be read as what it should be gets one message; the page goes on."""
    key, file, content = BAD_FILES[name]
    shown = page(name)
    shown.app.file_uploader(key=key).upload(file, content)

    (message,) = shown.run().said("error")
    assert file in message
    assert shown.tables


def test_no_kernels_measured(page, monkeypatch):
    """Where nothing was timed, the Kernels page says how to change that."""
    from perfmodel import catalog

    known = catalog.names
    monkeypatch.setattr(catalog, "names", lambda kind: () if kind == "measured" else known(kind))

    assert "upload" in page("kernels").said("info")[0]


def test_own_model(page):
    """An uploaded config.json is planned for, under its file's name."""
    config = Path(__file__).resolve().parents[2] / "specs" / "models" / "qwen3-8b.json"
    shown = page("plan")
    shown.app.file_uploader(key="own_model").upload("mine.json", config.read_bytes())
    shown.run()

    assert "mine.json for 64 users" in shown.said("success")[0]
    assert "plan mine.json --on" in shown.shown_as("Command line")


def benchmark_file(**work: object) -> bytes:
    info = {"workload": work, "device": "h200-sxm", "kernel": "mine"}
    file = {"benchmarks": [{"name": "b", "extra_info": info, "stats": {"median": 3e-4}}]}
    return json.dumps(file).encode()


@pytest.mark.parametrize(
    ("family", "work"),
    [
        ("int8_gemm", {"m": 8192, "n": 8192, "k": 8192, "dtype": "int8"}),
        ("library gemm", {"m": 12345, "n": 11, "k": 7, "dtype": "bf16"}),
    ],
)
def test_own_benchmark(page, family, work):
    """A kernel of an uploaded pytest-benchmark JSON stands beside ours of the same sizes, else
    among others of its operator; the command line names the file.
    """
    shown = page("kernels")
    content = benchmark_file(op="gemm", **work)
    shown.app.file_uploader(key="own_benchmark").upload("bench.json", content)
    shown.run().app.selectbox(key="family").set_value(family)
    sizes = " ".join(f"{k}={v}" for k, v in work.items() if k != "dtype")
    shown.run().app.selectbox(key="sizes").set_value(sizes)

    assert "mine" in shown.run().tables
    assert shown.shown_as("Command line").endswith("bench.json")


def test_static_resources(page):
    """Registers, shared memory and occupancy by architecture come from files."""
    shown = page("kernels", family="int8_gemm")

    assert "static resources" in shown.tables
    assert "sm_90a: 1 (" in shown.tables


def test_a_family_that_was_not_timed(page, monkeypatch):
    """Its ladder as planned and its resources are shown, and that times are missing."""
    from perfmodel import catalog

    known = catalog.names
    monkeypatch.setattr(catalog, "names", lambda kind: () if kind == "measured" else known(kind))
    shown = page("kernels", family="attention")

    assert "Not timed here yet" in shown.said("info")[0]
    assert "01_mma_sync" in shown.tables


def test_own_network(page):
    """A file of one's own is planned, timed and told by its name; the page's first network is the
    board's own where none is uploaded.
    """
    pytest.importorskip("onnx")
    shown = page("edge")
    shown.app.file_uploader(key="own_network").upload("mine.onnx", onnx_file())
    shown.run()

    assert shown.said("error") == []
    assert shown.shown_as("Command line").startswith("perfmodel arena mine.onnx --on ")
    assert "perfmodel estimate mine.onnx --on " in shown.shown_as("Command line")
    assert "'mine.onnx'" in shown.shown_as("Python")
    assert "Latency" in shown.metrics


def onnx_file() -> bytes:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])
    w = helper.make_tensor("w", TensorProto.FLOAT, [16, 8], [0.5] * 128)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "net", [x], [y], initializer=[w])
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("board", "energy"), [("stm32l4r5", "J"), ("rp2040", "-")], ids=["stated", "unstated"]
)
def test_energy_or_why_not(page, board, energy):
    """A board that states its power has energy and battery life; another says what is missing."""
    shown = page("edge", network="resnet8", board=board)

    assert shown.metrics["Energy"].endswith(energy)
    assert shown.metrics["Battery life"].endswith("days" if energy == "J" else "-")


def test_runtime_of_another_core(page):
    """A latency that is refused leaves the arena's answer, and says why."""
    shown = page("edge", board="stm32l4r5", runtime="esp-nn")

    assert "No latency: " in " ".join(shown.said("warning"))
    assert "Arena" in shown.metrics
    assert "Latency" not in shown.metrics


@pytest.mark.parametrize("name", PAGES)
def test_scenario_file(page, name):
    """The TOML that a page offers holds its page and every input, and reads back."""
    text = page(name).shown_as("Scenario (TOML)")
    found, inputs = read_scenario(text.encode(), PAGES)

    assert found == name
    assert inputs == tomllib.loads(text)["inputs"]
    assert inputs


def test_open_scenario(page):
    """An opened scenario goes to its page with its inputs."""
    shown = page("accuracy")
    toml = b'page = "plan"\n[inputs]\nusers = 7\ndevices = ["h200-sxm"]\nttft = ""\n'
    shown.app.file_uploader(key="scenario_0").upload("s.toml", toml)
    shown.run()

    assert "for 7 users" in shown.said("success")[0]
    assert "--on h200-sxm --users 7" in shown.shown_as("Command line")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"page = ",
        b'page = "elsewhere"\n[inputs]\n',
        b'page = "plan"\n[inputs]\nusers = "x"\n',
        b'page = "plan"\n[inputs]\nusers = -3\n',
        b'page = "plan"\n[inputs]\nusers = {a = 1}\n',
        b'page = "plan"\n[inputs]\ndevices = ["nobody-1000"]\n',
        b"a = [" * 10_000,
    ],
    ids=range(8),
)
def test_bad_scenario(page, content):
    """A file that is no scenario gets one message and changes nothing."""
    shown = page("plan")
    shown.app.file_uploader(key="scenario_0").upload("s.toml", content)
    shown.run()

    assert len(shown.said("error")) == 1
    assert "for 64 users" in shown.said("success")[0]


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ("roof: special functions", "compute.special_per_clk"),
        ("roof: dram", "memory.dram.bandwidth"),
        ("operator: mlp: gate_up", "gate_up"),
    ],
)
def test_explained_by_choice(page, chosen, told):
    """What a click on a roof or a point shows can be chosen without a mouse: source, derivation."""
    shown = page("roofline", inspect=chosen)

    assert told in shown.app.code[0].value
