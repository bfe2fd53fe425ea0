"""What the explorer rests on: chances, break-evens, sensitivities, scenarios, figures, the verb."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.errors import BadValue, MalformedFile, MissingExtra
from perfmodel.measure import Measurement
from perfmodel.planning.answers import Level
from perfmodel.planning.crossover import Mixing, break_evens, doubling
from perfmodel.planning.sensitivity import raised_devices, sensitivity
from perfmodel.planning.serving import Span
from perfmodel.report.kernels import Timed, by_family, gain_table, planned_rungs
from perfmodel.report.scenario import Argument, Scenario, read_scenario
from perfmodel.report.svg import fastest, predicted_measured_svg
from perfmodel.report.tables import Column, Table
from perfmodel.report.timed_mixers import timed_mixers
from perfmodel.validation import Scored


def level(asked: float | None, coverage: float | None = 0.9) -> Level:
    return Level(span=Span(value=2.0, low=1.0, high=4.0), asked_s=asked, coverage=coverage)


@pytest.mark.parametrize(
    ("asked", "chance"), [(0.5, 0.05), (1.0, 0.05), (2.0, 0.5), (4.0, 0.95), (9.0, 0.95)]
)
def test_chance_follows_the_interval(asked, chance):
    """The ends of a 90 % interval are its 5 % and 95 % quantiles, the estimate its median."""
    assert level(asked).chance == pytest.approx(chance)


def test_chance_is_unknown_without_measurements():
    """No coverage or no level asked: no chance is stated."""
    assert level(2.0, None).chance is None
    assert level(None).chance is None


def test_break_even_of_two_power_laws():
    """t = c against t = 100: on logarithmic axes the lines meet exactly at 100 tokens."""
    contexts = np.array([10.0, 1000.0])
    (found,) = break_evens(contexts, {"softmax": contexts, "SSD": np.array([100.0, 100.0])})

    assert (found.before, found.then) == ("softmax", "SSD")
    assert found.context == pytest.approx(100.0)
    assert found.time_s == pytest.approx(100.0)


def test_doubling_ends_at_the_longest():
    """Contexts double and the last one asked is there; a reversed range is refused."""
    assert doubling(64, 300).tolist() == [64, 128, 256, 300]
    assert doubling(64, 64).tolist() == [64]
    with pytest.raises(BadValue, match="shortest"):
        doubling(64, 32)


def test_sensitivity_of_a_copy_is_its_memory():
    """A large copy waits for memory: bandwidth saves most, at most its own 10 %; links nothing."""
    device = pm.device("h200-sxm")
    copy = pm.Elementwise(elements=2**28, flops=0.0)
    gains = sensitivity(device, lambda d: pm.estimate(copy, d))

    assert gains[0].resource == "memory bandwidth"
    assert 0.0 < gains[0].saved <= 1 - 1 / 1.1
    assert next(g.saved for g in gains if g.resource == "link bandwidth") == 0.0


def test_raised_devices_change_one_thing():
    """Every raised device differs from the one it was made of, whose figures stay as they were."""
    device = pm.device("h200-sxm")
    same = replace(device)

    assert all(raised != device for _, raised in raised_devices(device, 1.1))
    assert device == same


def test_scenario_forms_agree():
    """Command, Python and TOML carry the same values."""
    found = Scenario(
        page="plan",
        inputs={"users": 7, "devices": ["a", 'b"\\'], "ttft": "2s"},
        verb="plan",
        function="plan",
        arguments=[
            Argument(option="", text="my model", keyword="", value="my model"),
            Argument(option="ttft", text="2s", keyword="ttft_s", value=2.0),
        ],
    )

    assert found.command() == "perfmodel plan 'my model' --ttft 2s"
    assert "    'my model',\n    ttft_s=2.0,\n" in found.python()
    assert tomllib.loads(found.toml()) == {"page": "plan", "inputs": dict(found.inputs)}
    assert read_scenario(found.toml().encode(), ["plan"]) == ("plan", dict(found.inputs))
    assert found.link("http://here/").startswith("http://here/?users=7&devices=a&devices=b")


def test_scenario_files_are_bounded():
    """A file beyond the limit is refused unread."""
    with pytest.raises(MalformedFile, match="at most"):
        read_scenario(b"#" * 70_000, ["plan"])


def test_html_table_is_escaped():
    """What a cell says cannot become markup."""
    table = Table(
        title="<t>", columns=(Column(key="a", title="&", right=False),), rows=({"a": "<b>"},)
    )

    assert "<b>" not in table.to_html()
    assert "&lt;b&gt;" in table.to_html()


def test_dash_without_its_extra(monkeypatch):
    """Where Streamlit is absent the verb says how to install it."""
    from perfmodel.cli import dash

    monkeypatch.setattr(dash, "MODULES", ("no_such_module_anywhere",))
    with pytest.raises(MissingExtra) as refusal:
        dash.command()

    assert refusal.value.fix == "pip install 'perfmodel[dash]'"
    assert refusal.value.exit_code == 3


def test_dash_refuses_a_bad_port():
    """A port that is none is a badly posed question."""
    pytest.importorskip("streamlit")
    from perfmodel.cli import dash

    with pytest.raises(BadValue, match="65535"):
        dash.command(port="70000")


def timed(kernel: str, measured_s: float, **more: object) -> Timed:
    return Timed(
        kernel=kernel, workload=pm.Gemm(m=8, n=8, k=8), device="d", launch="graph",
        measured_s=measured_s, predicted_s=2e-6, low_s=1e-6, high_s=4e-6, lower_bound_s=1e-6,
        **more,
    )  # fmt: skip


def test_svg_speaks_for_itself():
    """The picture holds a title, a description, a dot for every kernel, and stays well formed; the
    fastest of a workload counts, slower rungs are shown beside it.
    """
    from xml.etree import ElementTree

    rows = [timed("refkernels.x/01", 9e-6), timed("refkernels.x/02", 2e-6, fitted=True)]
    root = ElementTree.fromstring(predicted_measured_svg(rows, "a & b"))

    assert [r.kernel for r in fastest(rows)] == ["refkernels.x/02"]
    assert root.find("{*}title").text.endswith("1 of 1 lie in the predicted interval")
    assert root.find("{*}desc").text.startswith("a & b; 1 of the 1 are in the data")
    assert len(root.findall("{*}circle")) == len(rows) + 2  # and two in the legend


def test_peers_stand_beside_the_kernels_of_their_sizes():
    """Others' kernels of our sizes join our family, whatever their types; others their operator."""
    wider = replace(timed("torch 2.0/mm", 1e-6), workload=pm.Gemm(m=8, n=8, k=8, dtype="fp16"))
    other = replace(timed("lib/mm", 1e-6), workload=pm.Gemm(m=9, n=8, k=8))
    found = by_family([timed("refkernels.x/01", 2e-6), wider, other])

    assert [r.name for r in found["x"]] == ["x/01", "mm"]
    assert [r.name for r in found["library gemm"]] == ["lib/mm"]


README = """
| shape | x |
|---|---|
| a | b |

| rung | adds | predicted (gain) | measured |
|---|---|---|---|
| 01_plain | all of it | 3 ms (1) | 1 |
| `02_tiles` | tiles | 1 ms (3) | 2 |
| 03_later | more | 0.5 ms (2) | not yet |
"""


def test_ladder_joins_plan_and_measurement():
    """A rung's planned gain is its README's; the measured one is of the rung timed before it."""
    rows = [timed("refkernels.x/01_plain", 4e-6), timed("refkernels.x/02_tile", 2e-6)]
    planned = planned_rungs(README)
    first, second, third = gain_table(planned, rows).rows

    assert [p.rung for p in planned] == ["01_plain", "02_tiles", "03_later"]
    assert (first["gain"], second["gain"], second["whole"]) == (None, 2.0, 2.0)
    assert second["planned"] == "1 ms (3)"
    assert "measured_s" not in third


def test_mixers_are_found_by_their_sizes():
    """A timed kernel answers the crossover that asks its sizes; pages and a mask over one query do
    not count, a window does. The state of a fixed size is asked at any context.
    """
    step = pm.Attention(
        batch=2, q_len=1, kv_len=300, heads=8, kv_heads=2, head_dim=64, causal=False, page_size=16
    )
    linear = pm.LinearAttention(batch=2, seq_len=1, heads=8, key_dim=64, value_dim=64)
    narrow = replace(step, window=100)
    found = timed_mixers([scored(step), scored(linear), scored(narrow)])
    asked = Mixing(phase="decode", batch=2, heads=8, kv_heads=2, head_dim=64)

    assert [(t.mixer, t.context, t.any_context) for t in found] == [
        ("softmax", 300, False), ("gated linear", 1, True),
    ]  # fmt: skip
    assert all(t.answers(asked, "d") for t in found)
    assert not found[0].answers(replace(asked, kv_heads=8), "d")
    assert found[1].answers(replace(asked, kv_heads=8), "d")


def scored(work: pm.Workload) -> Scored:
    taken = Measurement(
        file="f", line=1, source="s", device="d", scenario=work.op, quantity="latency",
        value=1e-6, workload=work,
    )  # fmt: skip
    return Scored(measurement=taken, predicted=1e-6)
