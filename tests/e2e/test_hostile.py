"""What people really type, pass and keep on their disks: each case was answered wrongly once."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import perfmodel as pm
from perfmodel import catalog
from perfmodel.errors import BadValue, MalformedFile, PerfModelError

from .test_malformed import GPU, command, refused

GEMM = pm.Gemm(m=4, n=4, k=4)
STEP = ["estimate", "llama-3-8b", "--on", GPU, "--phase", "decode", "--context", "64"]
SMALL = ["estimate", "gemm", "m=4", "n=4", "k=4"]
BOARD = "stm32l4r5"
WRONG_TYPES = (None, 1, 2.5, [], {}, b"h100", GEMM)


@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
@pytest.mark.parametrize("ask", [pm.device, pm.model, pm.validate])
def test_names_of_a_wrong_type(ask, value):
    """A name or a path is asked for, in words."""
    with pytest.raises(BadValue, match="must be a name or a path"):
        ask(value)


@pytest.mark.parametrize("value", [None, 1, [], {}], ids=repr)
def test_networks_of_a_wrong_type(value):
    """As for devices and models."""
    with pytest.raises(BadValue, match="network"):
        pm.arena(value, BOARD)
    with pytest.raises(BadValue, match="network"):
        pm.latency(value, BOARD)


@pytest.mark.parametrize("value", [None, "gemm", pm.model("llama-3-8b"), 5])
def test_a_question_that_is_no_operator(value):
    """A model is sent to ``step``."""
    with pytest.raises(BadValue, match="must be an operator"):
        pm.estimate(value, GPU)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"launch": "later"}, "launch"),
        ({"launch": None}, "launch"),
        ({"kernel": 5}, "kernel"),
    ],
)
def test_how_an_operator_runs(words, field):
    """An unknown launch is refused, not taken for an eager one."""
    with pytest.raises(BadValue) as caught:
        pm.estimate(GEMM, GPU, **words)
    assert caught.value.field == field


@pytest.mark.parametrize("clock", [0, -1.0, np.nan, np.inf, "80 MHz", np.array([1e6, 2e6])])
def test_clocks(clock):
    """One finite clock above zero."""
    with pytest.raises(BadValue, match="clock"):
        pm.latency("ds-cnn", BOARD, clock_hz=clock)


@pytest.mark.parametrize("size", [2**63, 2**64, 10**30])
def test_sizes_beyond_64_bits(size):
    """An integer is called large, not no number."""
    with pytest.raises(BadValue, match="absurdly large"):
        pm.Gemm(m=size, n=4, k=4)


def test_one_device_is_not_a_list_of_letters():
    """A comparison of one device says so."""
    with pytest.raises(BadValue, match="two to six"):
        pm.compare(GEMM, GPU)


@pytest.mark.parametrize("name", ["dtype", "weight_dtype", "kv_dtype"])
def test_data_types_are_called_as_they_were_asked(name):
    """The field of the error is the keyword."""
    with pytest.raises(PerfModelError) as caught:
        pm.capacity("llama-3-8b", GPU, context=100, **{name: 5})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("argv", "field", "said"),
    [
        (["estimate", "ds-cnn", "--on", BOARD, "--clock", "0 MHz"], "clock", "more than zero"),
        (["estimate", "gemm", "m=-1", "n=4", "k=4", "--on", GPU], "m", "not be negative"),
        ([*SMALL, "--on", GPU, "--launch", "x"], "launch", "eager"),
        (["capacity", "llama-3-8b", "--on", GPU, "--context", "9", "--page", "0"], "page", "least"),
        (["probe", "--out", "specs/hw/mine.toml"], "--out", "names a folder"),
        (
            command("plan", "llama-3-8b", {"--on": GPU, "--users": "1", "--prompt": "9",
                                           "--output": "9", "--tpot": "0s"}),
            "tpot", "more than zero",
        ),
    ],
)  # fmt: skip
def test_command_lines(argv, field, said):
    """Options are called by their own names."""
    error = refused(*argv)

    assert error["field"] == field
    assert said in error["message"]


@pytest.mark.parametrize(
    ("argv", "fix"),
    [
        ([*SMALL, "--on", GPU, "--dtype", "int8"], "dtype=int8"),
        ([*SMALL, "--on", GPU, "--batch", "2"], "batch=2"),
        ([*SMALL, "--on", GPU, "--tp", "2"], "leave --tp out"),
        ([*SMALL, "--on", GPU, "--phase", "decode"], "leave --phase out"),
        (
            ["compare", *SMALL[1:], "--on", f"{GPU},h200-sxm", "--weights", "int8"],
            "weight_dtype=int8",
        ),
        (["sweep", *SMALL[1:], "--on", GPU, "--dtype", "int8"], "dtype=int8"),
        (["estimate", "ds-cnn", "--on", BOARD, "--tp", "2"], "leave --tp out"),
        ([*STEP, "--kernel", "cudnn"], "leave --kernel out"),
        ([*STEP, "--launch", "eager"], "leave --launch out"),
    ],
)
def test_options_that_mean_nothing_here(argv, fix):
    """An option that would change nothing is refused, not dropped."""
    assert refused(*argv)["fix"] == fix


CONFIG = catalog.find("models", "llama-3.1-8b").read_text()
CONFIGS = {
    "a key twice": (CONFIG.rstrip()[:-1] + ', "num_hidden_layers": 64}', "stands twice"),
    "digits": (CONFIG.replace("14336", "9" * 5000), "4300 digits"),
    "below range": (
        CONFIG.replace('"num_hidden_layers": 32', '"num_hidden_layers": 0'),
        "at least",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(tmp_path, name):
    """Nothing is lost in silence, and Python's own words stay inside."""
    text, said = CONFIGS[name]
    path = tmp_path / "config.json"
    path.write_text(text)

    error = refused("capacity", str(path), "--on", GPU, "--context", "100")

    assert said in error["message"]
    assert "set_int_max_str_digits" not in error["message"]


@pytest.mark.parametrize("verb", ["capacity", "validate", "show", "arena"])
def test_what_is_there_but_no_file(tmp_path, verb):
    """A folder and a pipe are called what they are, and a pipe is not waited for."""
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    folder = tmp_path / "folder.tflite"
    folder.mkdir()
    path = folder if verb == "arena" else pipe
    more = {"capacity": ["--on", GPU, "--context", "9"], "arena": ["--on", BOARD]}.get(verb, [])

    error = refused(verb, str(path), *more, codes=(3,))

    assert "folder, not a file" in error["message"] or "pipe, not a file" in error["message"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read(tmp_path):
    """The reason is the operating system's."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({}))
    path.chmod(0)

    assert "Permission denied" in refused("models", str(path), codes=(3,))["message"]


def test_a_measurement_file_with_a_key_twice(tmp_path):
    """As in a configuration: of two times one would be lost."""
    path = tmp_path / "bench.json"
    path.write_text('{"benchmarks": [], "benchmarks": []}')

    with pytest.raises(MalformedFile, match="stands twice"):
        pm.validate(path)


@pytest.mark.parametrize("verb", ["probe", "calibrate"])
def test_where_nothing_can_be_written(tmp_path, verb):
    """Long work is not begun whose result would be lost."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    (tmp_path / "rows.csv").write_text(
        f"device,op,m,n,k,dtype,measured,unit\n{GPU},gemm,1,2,3,bf16,1e-5,s\n"
    )
    more = ["--data", str(tmp_path)] if verb == "calibrate" else []

    error = refused(verb, *more, "--out", str(blocked / "below"))

    assert "cannot write" in error["message"]
