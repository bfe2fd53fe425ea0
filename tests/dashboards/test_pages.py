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
    "crossover": ("success", "overtakes softmax"),
    "compare": ("success", "is fastest"),
    "kernels": ("success", "of its roof"),
    "accuracy": ("success", "lie in the predicted interval"),
    "edge": ("success", "fits"),
}


@pytest.mark.parametrize("name", PAGES)
def test_answer(page, name):
    """With what it starts from, a page shows figures or a table, and no refusal."""
    shown = page(name)

    assert shown.said("error") == []
    assert shown.metrics or "us" in shown.tables or "ms" in shown.tables
    if name in ANSWERED:
        kind, text = ANSWERED[name]
        assert text in " ".join(shown.said(kind))
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


REFUSED = {
    "plan": ({"ttft": "soon"}, "ttft"),
    "roofline": ({"device": "a100-sxm-80gb", "tp": 7}, "tp"),
    "compare": (
        {"devices": ["a100-sxm-80gb", "v100-sxm2-16gb"], "subject": "gemm",
         "gemm_fields": "m=8 n=8 k=8 dtype=fp8"},
        "fp8",
    ),
    "crossover": ({"kv_heads": 7}, "kv_heads"),
    "edge": ({"network": "nothing"}, "network"),
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
        ("edge", {"network": "/etc/passwd"}, "built-in"),
        ("edge", {"network": "here.onnx"}, "built-in"),
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


def test_accuracy_of_unscorable_rows(page):
    """Measurements of an unknown device: the answer is no, with the reason and the count."""
    row = {"kind": "kernel", "workload": {"op": "gemm", "m": 8, "n": 8, "k": 8}, "time_s": 1e-5}
    content = {"schema": 1, "device": {"name": "nobody-1000"}, "measurements": [row]}
    shown = page("accuracy")
    shown.app.file_uploader(key="own_measurements").upload("m.json", json.dumps(content).encode())
    shown.run()

    assert "can be scored" in shown.said("warning")[0]
    assert "nobody-1000" in shown.tables


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


def test_own_benchmark(page):
    """Kernels of an uploaded pytest-benchmark JSON stand beside those shipped."""
    work = {"op": "gemm", "m": 4096, "n": 4096, "k": 4096}
    info = {"workload": work, "device": "h100-sxm-80gb", "kernel": "mine"}
    file = {"benchmarks": [{"name": "b", "extra_info": info, "stats": {"median": 3e-4}}]}
    shown = page("kernels")
    shown.app.file_uploader(key="own_benchmark").upload("bench.json", json.dumps(file).encode())
    shown.run().app.selectbox(key="kernel_op").set_value("gemm")
    shown.run().app.selectbox(key="kernel_device").set_value("h100-sxm-80gb")

    assert "mine" in shown.run().tables


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
