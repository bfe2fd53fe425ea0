"""Whatever a user gets wrong ends in one typed error: field, fix, exit code, no traceback.

Each property draws malformed inputs of one family; together they try several hundred per run, and
each family's examples are malformed by construction, so an accepted one is a failure too.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import perfmodel as pm
from perfmodel import catalog, errors
from perfmodel.cli import main

ROOT = Path(__file__).resolve().parents[2]
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
GPU = "h100-sxm-80gb"

NOT_A_SIZE = st.one_of(
    st.integers(max_value=0).map(str),
    st.integers(min_value=2**53 + 1, max_value=10**40).map(str),
    st.floats(1.01, 1e6).filter(lambda x: x != int(x)).map(repr),
    st.sampled_from(["nan", "NaN", "inf", "-inf", "1e400", "", " ", "many", "0x10", "1_000_000.5"]),
    st.sampled_from(["None", "true", "[]", "{}", "1,2,three", "4096 GB", "12 34"]),
)
"""Text that is no positive whole number below 2**53, whatever notation a verb allows."""

NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_characters="/\\=-."), min_size=1
)


def ask(*argv: str) -> tuple[int, str, str]:
    """Run one command line in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*argv, "--json"])
    return code, out.getvalue(), err.getvalue()


def refused(*argv: str, codes: tuple[int, ...] = (2,)) -> dict[str, str]:
    """Assert that the command line is refused as every bad one must be; returns the error."""
    code, out, err = ask(*argv)

    assert code in codes, (argv, code, out[:300], err)
    assert err.startswith("error: "), (argv, err)
    assert "\n  try: " in err, (argv, err)
    assert "Traceback" not in err
    error = json.loads(out)
    kind = getattr(errors, error["error"])
    assert issubclass(kind, errors.PerfModelError)
    assert error["exit_code"] == kind.exit_code == code
    assert error["message"]
    assert error["field"], (argv, error)
    assert error["fix"], (argv, error)
    return error


def operator(values: dict[str, str], on: str = GPU) -> list[str]:
    given = dict(values)
    return ["estimate", given.pop("op"), *(f"{k}={v}" for k, v in given.items()), "--on", on]


GEMM = {"op": "gemm", "m": "128", "n": "256", "k": "512", "dtype": "bf16"}
ATTENTION = {
    "op": "attention", "batch": "1", "q_len": "64", "kv_len": "64", "heads": "8",
    "kv_heads": "2", "head_dim": "64", "dtype": "bf16",
}  # fmt: skip
STEP = {"--on": GPU, "--phase": "decode", "--batch": "4", "--context": "1024"}
CAPACITY = {"--on": "a100-sxm-80gb", "--context": "8192"}
PLAN = {
    "--on": GPU, "--users": "8", "--prompt": "512", "--output": "64", "--ttft": "2s",
    "--tpot": "50ms",
}  # fmt: skip


def command(verb: str, subject: str, options: dict[str, str]) -> list[str]:
    """A command line; ``--option=value`` keeps a value that starts with a dash a value."""
    return [verb, subject, *(f"{name}={value}" for name, value in options.items())]


def test_the_unspoilt_commands_answer():
    """What the families below spoil is sound to begin with."""
    for argv in (
        operator(GEMM),
        operator(ATTENTION),
        command("estimate", "llama-3-8b", STEP),
        command("capacity", "llama-3-8b", CAPACITY),
        command("plan", "llama-3-8b", PLAN),
    ):
        code, _, err = ask(*argv)
        assert code == 0, (argv, err)


@given(field=st.sampled_from(["m", "n", "k"]), value=NOT_A_SIZE)
def test_gemm_sizes(field, value):
    """A size that is none."""
    error = refused(*operator(GEMM | {field: value}))

    assert field in (error["field"], *error["message"].split())


@given(
    field=st.sampled_from(["batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"]),
    value=NOT_A_SIZE,
)
def test_attention_sizes(field, value):
    """A size that is none."""
    refused(*operator(ATTENTION | {field: value}))


@given(heads=st.integers(2, 200), kv_heads=st.integers(2, 200))
def test_heads_that_do_not_divide(heads, kv_heads):
    """Key-value heads must divide the heads."""
    if heads % kv_heads:
        refused(*operator(ATTENTION | {"heads": str(heads), "kv_heads": str(kv_heads)}))


@given(
    spoilt=st.one_of(
        st.sampled_from(["m", "n", "k"]).map(lambda f: {k: v for k, v in GEMM.items() if k != f}),
        NAMES.map(lambda name: GEMM | {"dtype": f"x{name}"}),
        NAMES.map(lambda name: GEMM | {f"x{name}": "1"}),
        NAMES.map(lambda name: GEMM | {"op": f"x{name}"}),
    )
)
def test_operator_words(spoilt):
    """A missing or unknown field, an unknown data type, an unknown operator."""
    refused(*operator(spoilt))


@pytest.mark.parametrize(
    ("dtype", "device"),
    [("fp8", "a100-sxm-80gb"), ("fp4", GPU), ("bf16", "v100-sxm2-32gb"), ("fp8", "t4")],
)
def test_data_type_that_the_device_lacks(dtype, device):
    """No rate, no answer: the device's data types are named instead."""
    error = refused(*operator(GEMM | {"dtype": dtype}, on=device), codes=(2, 3))

    assert error["error"] in {"UnsupportedDtype", "MissingFigure"}


@given(
    option=st.sampled_from(["--batch", "--context", "--tp", "--pp"]),
    value=NOT_A_SIZE,
)
def test_step_sizes(option, value):
    """A batch, context or split that is no size."""
    refused(*command("estimate", "llama-3-8b", STEP | {option: value}))


@given(tp=st.integers(2, 64).filter(lambda n: 32 % n))
def test_split_that_does_not_divide(tp):
    """32 heads on a number of devices that does not divide them."""
    error = refused(*command("estimate", "llama-3-8b", STEP | {"--tp": str(tp)}))

    assert error["error"] in {"ImpossibleSplit", "BadValue"}


@given(
    option=st.sampled_from(["--on", "--phase", "--dtype", "--weight-dtype", "--kv-dtype"]),
    name=NAMES,
)
def test_step_names(option, name):
    """An unknown device, phase or data type."""
    refused(*command("estimate", "llama-3-8b", STEP | {option: f"x{name}"}))


@given(name=NAMES)
def test_unknown_models_and_devices(name):
    """A model or device that nobody knows."""
    refused(*command("capacity", f"x{name}", CAPACITY))
    refused("show", f"x{name}")


@given(
    option=st.sampled_from(["--context", "--tp", "--pp"]),
    value=NOT_A_SIZE,
)
def test_capacity_sizes(option, value):
    """A context or split that is no size."""
    refused(*command("capacity", "llama-3-8b", CAPACITY | {option: value}))


NOT_BYTES = st.one_of(
    st.floats(max_value=-1e-3, allow_infinity=False).map(lambda x: f"{x!r} GB"),
    NAMES.map(lambda unit: f"80 x{unit}"),
    st.sampled_from(["nan", "nan GB", "inf GiB", "80 parsec", "80 GHz", "", "GB", "eighty GB"]),
)
NOT_A_TIME = st.one_of(
    st.floats(max_value=-1e-3, allow_infinity=False).map(lambda x: f"{x!r} s"),
    NAMES.map(lambda unit: f"2 x{unit}"),
    st.sampled_from(["nan", "nan s", "inf ms", "2 GB", "2 parsec", "", "s", "two s", "0 s", "0"]),
)


@given(value=NOT_BYTES)
def test_memory(value):
    """A memory that is no number of bytes."""
    refused(*command("capacity", "llama-3-8b", CAPACITY | {"--memory": value}))


@given(option=st.sampled_from(["--users", "--prompt", "--output"]), value=NOT_A_SIZE)
def test_plan_sizes(option, value):
    """Users or lengths that are no sizes."""
    refused(*command("plan", "llama-3-8b", PLAN | {option: value}))


@given(option=st.sampled_from(["--ttft", "--tpot"]), value=NOT_A_TIME)
def test_plan_times(option, value):
    """A latency target that is no time."""
    refused(*command("plan", "llama-3-8b", PLAN | {option: value}))


NOT_A_RANGE = st.one_of(
    NOT_A_SIZE,
    st.sampled_from(
        ["1..", "..8", "8..1", "1..64:0", "1..64:-1", "a..b", "1...8", "1..8..64", "0..8", "1;2"]
    ),
    st.sampled_from(["1..9999999:1", "1,two", "-1..4", "1..nan", "1..1e30", ",", "1k..k"]),
)


@given(option=st.sampled_from(["--batch", "--context", "--tp"]), value=NOT_A_RANGE)
def test_sweep_axes(option, value):
    """An axis that is no list or range of sizes."""
    asked = {"--on": GPU, "--phase": "decode", "--batch": "1,2", "--context": "1024", "--tp": "1"}
    refused(*command("sweep", "llama-3-8b", asked | {option: value}))


@given(names=st.lists(NAMES.map(lambda n: f"x{n}"), min_size=1, max_size=3))
def test_compared_devices(names):
    """Devices that nobody knows, or none at all."""
    asked = {"--phase": "decode", "--batch": "1", "--context": "1024"}
    refused(*command("compare", "llama-3-8b", asked | {"--on": ",".join([GPU, *names])}))
    refused(*command("compare", "llama-3-8b", asked | {"--on": ","}))


CONFIG = json.loads((ROOT / "specs" / "models" / "llama-3-8b.json").read_text())
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size",
)  # fmt: skip
NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
NOT_A_COUNT = st.one_of(
    st.integers(max_value=-1),
    st.integers(min_value=2**60, max_value=10**30),
    st.floats(1.01, 1e6).filter(lambda x: x != int(x)),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.booleans(),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("malformed")


def config_refused(folder: Path, text: str | bytes) -> dict[str, str]:
    path = folder / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return refused(*command("capacity", str(path), CAPACITY))


@SHARED_FOLDER
@given(field=st.sampled_from(SIZES), value=NOT_A_COUNT)
def test_config_values(folder, field, value):
    """A size that is negative, absurd, a fraction, text, a list, an object or a truth value."""
    error = config_refused(folder, json.dumps(CONFIG | {field: value}))

    assert error["field"] == field


@SHARED_FOLDER
@given(
    heads=st.integers(1, 500).filter(lambda n: 4096 % n or n % 8),
)
def test_config_heads(folder, heads):
    """Heads that do not divide the width, or that their key-value heads do not divide."""
    config_refused(folder, json.dumps(CONFIG | {"num_attention_heads": heads}))


@SHARED_FOLDER
@given(keys=st.sets(st.sampled_from(NEEDED), min_size=1))
def test_config_missing_keys(folder, keys):
    """A key without which nothing can be counted."""
    error = config_refused(folder, json.dumps({k: v for k, v in CONFIG.items() if k not in keys}))

    assert error["field"] in keys


@SHARED_FOLDER
@given(cut=st.integers(0, len(json.dumps(CONFIG)) - 1))
def test_config_truncated(folder, cut):
    """A file that ends too soon, anywhere."""
    config_refused(folder, json.dumps(CONFIG)[:cut])


@SHARED_FOLDER
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_config_garbage(folder, data):
    """A file that is no configuration at all."""
    config_refused(folder, data)


@SHARED_FOLDER
@given(kind=st.one_of(st.none(), st.integers(), NAMES.map(lambda n: f"x{n}"), st.just("llama ")))
def test_config_family(folder, kind):
    """A family that has no adapter is refused with those that have one."""
    error = config_refused(folder, json.dumps(CONFIG | {"model_type": kind}))

    assert error["field"] == "model_type"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        json.dumps(CONFIG).replace("4096", "NaN"),
        json.dumps(CONFIG).replace("4096", "Infinity"),
        json.dumps(CONFIG).replace("4096", "1e999"),
        json.dumps(CONFIG).replace("4096", "9" * 5000),
        json.dumps([CONFIG]),
        "null",
        "\ufeff",
    ],
    ids=["nested lists", "nested objects", "NaN", "Infinity", "overflow", "5000 digits", "list",
         "null", "byte order mark"],
)  # fmt: skip
def test_config_traps(folder, text):
    """What breaks careless readers: depth, non-numbers, overflow, the wrong kind of document."""
    config_refused(folder, text)


SPEC = catalog.find("hw", GPU).read_text()
FIGURE = '"3.35 TB/s"'


def spec_refused(folder: Path, text: str) -> dict[str, str]:
    path = folder / "device.toml"
    path.write_text(text)
    return refused("show", str(path))


@SHARED_FOLDER
@given(
    figure=st.one_of(
        st.floats(max_value=-1e-3, allow_infinity=False).map(lambda x: f'"{x!r} TB/s"'),
        NAMES.map(lambda unit: json.dumps(f"3.35 x{unit}", ensure_ascii=False)),
        st.sampled_from(
            ["nan", "inf", '""', '"3.35"x', "true", "[]", "{}", '"3.35 GHz"', "-1", "0"]
        ),
    )
)
def test_device_figures(folder, figure):
    """A bandwidth that is negative, of another dimension, of an unknown unit, or nothing."""
    spec_refused(folder, SPEC.replace(FIGURE, figure))


@SHARED_FOLDER
@given(
    line=st.sampled_from([n for n, s in enumerate(SPEC.splitlines()) if "= {" in s]), cut=st.data()
)
def test_device_truncated(folder, line, cut):
    """A device file that ends in the middle of a line."""
    lines = SPEC.splitlines()
    start = lines[line].index("= {") + 1
    end = cut.draw(st.integers(start, max(start, len(lines[line].rstrip("} ")) - 1)))
    spec_refused(folder, "\n".join([*lines[:line], lines[line][:end]]))


@SHARED_FOLDER
@given(name=st.from_regex(r"[a-z]{3,12}", fullmatch=True).map(lambda n: f"x_{n}"))
def test_device_unknown_fields(folder, name):
    """A field that no device has is refused, not ignored."""
    error = spec_refused(folder, f"{name} = 1\n{SPEC}")

    assert name in error["field"] + error["message"]


@SHARED_FOLDER
@given(
    data=st.one_of(st.binary(max_size=100), st.text(max_size=100)),
    suffix=st.sampled_from([".csv", ".json", ".txt", ""]),
)
def test_measurement_files(folder, data, suffix):
    """A file of measurements that holds none."""
    path = folder / f"measured{suffix}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    refused("validate", str(path))


@given(name=NAMES)
def test_absent_files(name):
    """A path where there is no file is exit 3."""
    refused(*command("capacity", f"no/such/{name}.json", CAPACITY), codes=(3,))
    refused("show", f"no/such/{name}.toml", codes=(3,))


WILD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 0),
    st.integers(2**53 + 1, 10**30),
    st.floats(allow_subnormal=False).filter(lambda x: not (x >= 1 and x == x // 1)),
    st.text(max_size=6),
    st.lists(st.integers(-3, 0), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
"""What nobody means by a number of something."""

QUESTIONS = {
    "step": {"phase": "decode", "batch": 4, "context": 1024, "tp": 1, "pp": 1},
    "capacity": {"context": 1024, "tp": 1, "pp": 1},
    "plan": {"users": 4, "prompt": 256, "output": 32},
    "sweep": {"phase": "decode", "batch": [1, 2], "context": [512, 1024], "tp": 1},
}


@given(data=st.data(), value=WILD)
@pytest.mark.parametrize("function", sorted(QUESTIONS))
def test_python_functions(function, data, value):
    """From Python the same holds: a typed error that names the field, nothing else."""
    sizes = sorted(set(QUESTIONS[function]) - {"phase"})
    field = data.draw(st.sampled_from(sizes))
    asked = QUESTIONS[function] | {field: value}

    with pytest.raises(errors.PerfModelError) as refusal:
        getattr(pm, function)("llama-3-8b", GPU, **asked)
    assert refusal.value.field


@given(name=st.one_of(NAMES.map(lambda n: f"x{n}"), st.sampled_from(["", " ", "x" * 10_000])))
@pytest.mark.parametrize("function", ["device", "model"])
def test_python_names(function, name):
    """A name that nobody knows, whatever its length and letters."""
    with pytest.raises(errors.PerfModelError) as refusal:
        getattr(pm, function)(name)
    assert refusal.value.field
    assert len(str(refusal.value)) < 2000


@pytest.mark.parametrize(
    "argv",
    [
        ["estimate"],
        ["estimate", "gemm"],
        ["estimate", "gemm", "m=1", "n=1", "k=1"],
        ["estimate", "gemm", "m", "--on", GPU],
        ["estimate", "llama-3-8b", "--on", GPU, "--phase"],
        ["capacity"],
        ["capacity", "llama-3-8b"],
        ["plan", "llama-3-8b", "--on", GPU],
        ["plan", "llama-3-8b", "--on", GPU, "--users", "8"],
        ["show"],
        ["nonesuch", "llama-3-8b"],
        ["estimate", "llama-3-8b", "--on", GPU, "--nonesuch", "1"],
        ["devices", "--json", "--csv"],
    ],
    ids=" ".join,
)
def test_command_lines_that_say_too_little(argv):
    """A question without its subject, device or sizes says which."""
    refused(*argv)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (command("capacity", "llama-3-8b", CAPACITY | {"--memory": "80 parsec"}), 2),
        (command("capacity", "no/such/config.json", CAPACITY), 3),
        (operator(GEMM | {"m": "-1"}), 2),
        (command("estimate", "llama-3-8b", STEP | {"--tp": "3"}), 2),
    ],
)
def test_as_a_process(argv, code):
    """The same from outside: exit code, one message on standard error, nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "perfmodel", *argv],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2
