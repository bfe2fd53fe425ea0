"""The verbs that answer questions: documented command lines, keys, exit codes, what people read."""

import csv
import io
import json

import pytest

from perfmodel.cli import main

CAPACITY = "capacity yi-34b-200k --on a100-sxm-80gb --context 50000"
PREFILL = (
    "estimate llama-2-70b --on a100-sxm-80gb --tp 4 --phase prefill --prompt 2048 --batch 1 "
    "--dtype fp16"
)
DECODE = "estimate llama-2-70b --on a100-sxm-80gb --tp 4 --phase decode --context 2048 --batch 16"
GEMM = "estimate gemm m=4096 n=4096 k=4096 dtype=int8 --on h200-sxm"
PLAN = (
    "plan llama-3.1-70b --on h100-sxm-80gb --users 64 --prompt 8192 --output 512 --ttft 2s "
    "--tpot 50ms"
)
COMPARE = "compare llama-3.1-8b --on h100-sxm-80gb,a100-sxm-80gb --phase decode --context 8k"
SWEEP = "sweep llama-3-8b --on h100-sxm-80gb --phase decode --batch 1,2,4 --context 1k..8k"
ALL = [CAPACITY, PREFILL, DECODE, GEMM, PLAN, COMPARE, SWEEP, "models", "models yi-34b-200k"]


@pytest.fixture
def ask(capsys):
    """Runs a command line; returns exit code, standard output and standard error."""

    def run(line, *more):
        code = main([*line.split(), *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def answer(ask):
    """Runs a command line with --json; returns exit code and the answer."""

    def run(line, *more):
        code, out, _ = ask(line, *more, "--json")
        return code, json.loads(out)

    return run


@pytest.mark.parametrize("line", ALL)
def test_every_form(ask, line):
    """JSON, CSV with a row at least, and tables, each exit 0 with nothing on standard error."""
    for form in (["--json"], ["--csv"], []):
        code, out, err = ask(line, *form)
        assert (code, err) == (0, "")
        assert out.strip()
        if form == ["--csv"]:
            assert list(csv.DictReader(io.StringIO(out)))


def test_capacity(answer):
    """The keys that scripts rely on, with exact bytes."""
    code, found = answer(CAPACITY)

    assert code == 0
    assert found["params"] == 34_388_917_248
    assert found["weights_bytes"] == 68_777_834_496
    assert found["kv_bytes_per_token"] == 245_760
    assert found["kv_bytes_per_user"] == 12_288_000_000
    assert found["state_bytes_per_user"] == 0
    assert found["budget_bytes"] == 85_899_345_920
    assert found["max_users"] == 1
    assert found["fits"] is True
    assert found["per_device"]["reserve_bytes"] == 1.5e9


def test_capacity_says_no(answer, ask):
    """80 decimal gigabytes hold no user: exit 1 with the full answer."""
    code, found = answer(CAPACITY, "--memory", "80 GB")
    told = ask(CAPACITY, "--memory", "80 GB")

    assert (code, found["max_users"], found["fits"]) == (1, 0, False)
    assert found["weights_bytes"] == 68_777_834_496
    assert told[0] == 1
    assert "DOES NOT FIT" in told[1]


def test_capacity_settings(answer):
    """Reserve, page, chunk, users and types are what was asked."""
    code, found = answer(
        CAPACITY, "--reserve", "2 GiB", "--page", "none", "--chunk", "512", "--kv-dtype", "fp8",
        "--users", "2", "--tp", "2",
    )  # fmt: skip

    assert code == 0
    assert found["per_device"]["reserve_bytes"] == 2**31
    assert (found["page_size"], found["chunk"], found["users"]) == (None, 512, 2)
    assert found["kv_bytes_per_token"] == 245_760 / 2
    assert found["budget_bytes"] == 2 * 80 * 2**30


@pytest.mark.parametrize("line", [PREFILL, DECODE, GEMM])
def test_estimate_keys(answer, line):
    """The keys that scripts rely on; the interval holds the estimate."""
    code, found = answer(line)

    assert code == 0
    assert {"time_s", "low_s", "high_s", "lower_bound_s", "bound", "terms", "source"} <= set(found)
    assert isinstance(found["assumptions"], list)
    assert found["lower_bound_s"] <= found["low_s"] <= found["time_s"] <= found["high_s"]


def test_lower_bounds(answer):
    """Llama-2-70B fp16 on four A100: 229 ms to prefill 2048 tokens, 18.2 ms for a decode step."""
    assert answer(PREFILL)[1]["lower_bound_s"] == pytest.approx(0.229, rel=0.01)
    assert answer(DECODE)[1]["lower_bound_s"] == pytest.approx(0.0182, rel=0.01)


def test_plan(answer):
    """Plans best first, each with what it is made of."""
    code, found = answer(PLAN)
    best = found["plans"][0]

    assert code == 0
    assert isinstance(found["infeasible"], list)
    assert {
        "device", "devices", "tp", "pp", "replicas", "batch", "dtypes", "ttft_s", "tpot_s",
        "tokens_per_s", "cost", "energy", "memory", "bound", "pareto",
    } <= set(best)  # fmt: skip
    assert best["ttft_s"]["value"] <= 2.0
    assert best["tpot_s"]["low"] <= best["tpot_s"]["value"] <= 0.05
    assert best["cost"]["usd_per_million_output_tokens"] > 0
    assert best["cost"]["origin"]
    costs = [p["cost"]["usd_per_million_output_tokens"] for p in found["plans"]]
    assert costs == sorted(costs)


def test_plan_explained(ask):
    """Verdict with interval, bound and cost; then how each came about."""
    code, out, _ = ask(PLAN, "--explain")

    assert code == 0
    first = " ".join(out.splitlines()[:2])
    for word in ("TTFT", "TPOT", " .. ", "per million output tokens", "waits for", "["):
        assert word in first
    for line in ("TTFT = ", "TPOT = ", "cost = ", "memory per device", "decode step of"):
        assert line in out
    assert "memory (budget)" in out


def test_plan_says_no(answer, ask):
    """A level that nothing meets: exit 1, no plan, a reason for each layout."""
    code, found = answer(PLAN.replace("50ms", "1ms"))
    told = ask(PLAN.replace("50ms", "1ms"), "--explain")

    assert code == 1
    assert found["plans"] == []
    assert any("TPOT at best" in reason for reason in found["infeasible"])
    assert told[0] == 1
    assert "NO PLAN" in told[1]
    assert ask(PLAN.replace("50ms", "1ms"), "--csv")[0] == 1


def test_plan_by_rate_and_price(answer):
    """--rate instead of --users; --price instead of the spec's."""
    line = "plan llama-3-8b --on h100-sxm-80gb --prompt 2k --output 256"
    code, found = answer(line, "--rate", "2.5", "--price", "2.5", "--rank", "energy")

    assert code == 0
    assert found["plans"][0]["requests_per_s"] == pytest.approx(2.5)
    assert found["plans"][0]["cost"]["usd_per_device_hour"] == 2.5
    assert found["plans"][0]["cost"]["origin"] == "as given"


def test_plan_over_devices(answer):
    """Devices by commas and by repeating the option."""
    line = "plan llama-3-8b --on h100-sxm-80gb,l4 --on a100-sxm-80gb --users 4 --prompt 1k"
    code, found = answer(line, "--output", "128", "--tp", "1", "--pp", "1")

    assert code == 0
    assert {p["device"] for p in found["plans"]} == {"h100-sxm-80gb", "l4", "a100-sxm-80gb"}


def test_compare(answer):
    """Fastest first, with each device's room and cost."""
    code, found = answer(COMPARE)
    rows = found["rows"]

    assert code == 0
    assert [r["device"] for r in rows] == ["h100-sxm-80gb", "a100-sxm-80gb"]
    assert rows[0]["times_fastest"] == 1.0 < rows[1]["times_fastest"]
    assert rows[0]["max_users"] > 0


def test_compare_shows_who_cannot(answer):
    """A device without the data type is a row with the reason; alone it is a refusal."""
    line = "compare gemm m=64 n=64 k=64 dtype=fp8 --on h100-sxm-80gb,v100-sxm2-32gb"
    code, found = answer(line)

    assert code == 0
    assert found["rows"][0]["estimate"]
    assert "fp8" in found["rows"][1]["refused"]
    assert answer(line.replace("h100-sxm-80gb", "t4"))[0] == 2


@pytest.mark.parametrize("devices", ["h100-sxm-80gb", "h100-sxm-80gb,H100-SXM-80GB"])
def test_compare_takes_two_to_six(answer, devices):
    """One device, or one twice, is no comparison."""
    assert answer(f"compare gemm m=1 n=1 k=1 --on {devices}")[0] == 2


def test_sweep(answer):
    """Lists and ranges: 1k..8k doubles; the product is complete."""
    code, found = answer(SWEEP)

    assert code == 0
    assert found["axes"]["context"] == [1024, 2048, 4096, 8192]
    assert len(found["rows"]) == 12
    assert found["rows"][0]["time_s"] > 0


def test_sweep_of_an_operator(ask):
    """An operator's fields take lists too."""
    code, out, _ = ask("sweep gemm m=1..8 n=64 k=64 dtype=bf16,int8 --on h100-sxm-80gb", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))

    assert code == 0
    assert [r["m"] for r in rows] == ["1", "2", "4", "8"] * 2
    assert {r["dtype"] for r in rows} == {"bf16", "int8"}


def test_sweep_shows_people_a_part(ask):
    """Fifty rows and how many more there are."""
    code, out, _ = ask(SWEEP.replace("--batch 1,2,4", "--batch 1..64:1"))

    assert code == 0
    assert "206 more rows" in out


def test_an_estimate_of_many_points_shows_a_part(ask):
    """Fifty rows for people and how many more there are; CSV has every point."""
    line = "estimate gemm m=1..200:1 n=64 k=64 --on h100-sxm-80gb"

    assert "150 more rows" in ask(line)[1]
    assert len(ask(line, "--csv")[1].splitlines()) == 201


def test_no_memory_is_an_answer(ask):
    """A device without any memory holds nobody: exit 1, and a stack without shares."""
    code, out, err = ask(CAPACITY, "--memory", "0 GB")

    assert (code, err) == (1, "")
    assert "room for 0" in out


def test_the_verdict_stands_once(ask):
    """The derivation does not repeat the lines that the answer begins with."""
    lines = ask(PLAN, "--explain")[1].splitlines()

    assert lines.count(lines[0]) == 1


def test_an_operators_grid(answer):
    """A field with several values makes the answer a list."""
    code, found = answer("estimate gemm m=1,2,4 n=64 k=64 --on h100-sxm-80gb")

    assert code == 0
    assert len(found["time_s"]) == 3


def test_models(answer):
    """The list has every model with its exact parameters; the sheet has its layers."""
    listed = {m["name"]: m for m in answer("models")[1]["models"]}
    sheet = answer("models deepseek-v3")[1]

    assert listed["yi-34b-200k"]["params"] == 34_388_917_248
    assert sheet["params"]["total"] == 671_026_419_200
    assert sum(row["count"] for row in sheet["layers"]) == 61


@pytest.mark.parametrize(
    ("line", "code", "nearest"),
    [
        ("estimate lama-3-8b --on h100-sxm-80gb --phase decode --context 1", 2, "llama-3-8b"),
        ("estimate gem m=1 --on h100-sxm-80gb", 2, "gemm"),
        ("estimate gemm m=1 n=1 kk=1 --on h100-sxm-80gb", 2, "k"),
        ("estimate gemm m=1 n=1 k=1 dtype=bf17 --on h100-sxm-80gb", 2, "bf16"),
        ("estimate gemm m=1 n=1 k=1 --on h10-sxm-80gb", 2, "h100-sxm-80gb"),
        ("estimate llama-3-8b --on h100-sxm-80gb", 2, "--phase decode"),
        ("estimate llama-3-8b m=1 --on h100-sxm-80gb --phase decode", 2, "--batch"),
        ("estimate llama-3-8b --on h100-sxm-80gb --phase decode --context 1 --tp 3", 2, "1, 2"),
        ("estimate gemm m=1 n=1 k=1 dtype=fp8 --on v100-sxm2-32gb", 2, "fp16"),
        ("capacity llama-3-8b --on l4 --context many", 2, "2048"),
        ("capacity llama-3-8b --on l4 --context 1 --memory 24GHz", 2, "GB"),
        ("capacity no/such/config.json --on l4 --context 1", 3, ""),
        ("plan llama-3-8b --on l4 --prompt 1 --output 1", 2, "users"),
        ("plan llama-3-8b --on l4 --prompt 1 --output 1 --users 1 --rank speed", 2, "cost"),
        ("sweep llama-3-8b --on l4 --phase decode --context 8..1", 2, "1..64"),
        ("sweep llama-3-8b --on l4 --phase decode --context 1..9:0", 2, "1..64"),
        ("sweep llama-3-8b --on l4 --phase decode --context 1..9999999:1", 2, "larger step"),
        (
            "sweep llama-3-8b --on l4 --context 1..99999:1 --batch 1..99999:1 --phase decode",
            2,
            "fewer",
        ),
        ("sweep , --on l4 --phase decode --context 8", 2, "MODEL"),
        ("sweep llama-3-8b --on l4 --phase decode --context 8 --kv-dtype ,", 2, "kv_dtype"),
        ("sweep gemm m=1,2 n=1 k=1 dtype=, --on l4", 2, "dtype"),
        ("sweep gemm m=1,2 m=4 n=1 k=1 --on l4", 2, "m is given twice"),
        ("estimate gemm m=1 m=4 n=1 k=1 --on l4", 2, "m is given twice"),
        ("estimate gemm m=1 n=1 k=1 --on l4 --on t4", 2, "--on"),
        ("estimate llama-3-8b --on l4 --phase decode --context 8 --tp 1 --tp=2", 2, "--tp"),
        ("models lama-3-8b", 2, "llama-3-8b"),
    ],
)
def test_refusals(ask, line, code, nearest):
    """One message with the nearest name or a way out, the exit code, and no traceback."""
    found, out, err = ask(line)

    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    assert nearest in err


def test_a_progress_bar_only_where_someone_looks(ask, monkeypatch):
    """On a terminal the sweep tells how far it is, on standard error; the answer is the same."""
    import sys

    quiet = ask(SWEEP, "--csv")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = ask(SWEEP, "--csv")

    assert quiet[2] == ""
    assert shown[:2] == quiet[:2]
