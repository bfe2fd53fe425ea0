"""Explanations carry the numbers of the answer they explain."""

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.report.shown import stack_table


def test_capacity():
    """Every part of the stack in exact bytes, and what one user takes."""
    answer = pm.capacity("yi-34b-200k", "a100-sxm-80gb", context=50_000)
    told = pm.explain(answer)

    assert "68,777,834,496 B" in told
    assert "KV 12,288,000,000 B" in told
    assert f"{answer.per_device['used_bytes']:,.0f} B of 85,899,345,920 B" in told


def test_plan():
    """The formulas of TTFT, TPOT and cost with this plan's numbers put in."""
    answer = pm.plan(
        "llama-3-8b", "h100-sxm-80gb", users=16, prompt=4096, output=256, tpot_s=0.05, price=2.0
    )
    best, told = answer.best, pm.explain(answer)

    assert f"TTFT = {best.steps.slots:g} x " in told
    assert f"TPOT = {best.mixed_share:.3f} x " in told
    assert f"$2/h x {best.devices} devices" in told
    assert "as given" in told
    assert f"why not fewer devices: {best.limit}" in told


def test_terms_add_up():
    """The terms of a plan's steps are the steps' times."""
    best = pm.plan("llama-3-8b", "h100-sxm-80gb", users=16, prompt=4096, output=256).best
    steps = best.steps

    assert sum(steps.decode_terms.values()) == pytest.approx(float(steps.decode.value))
    assert sum(steps.mixed_terms.values()) == pytest.approx(float(steps.mixed.value))


def test_no_plan():
    """The reasons, layout by layout."""
    answer = pm.plan("llama-3-8b", "l4", users=4, prompt=512, output=64, tpot_s=1e-4)
    told = pm.explain(answer)

    assert "NO PLAN" in told
    assert all(reason in told for reason in answer.infeasible)


def test_estimate():
    """An operator's or a step's derivation."""
    one = pm.estimate(pm.Gemm(m=64, n=4096, k=4096), "h100-sxm-80gb")

    assert "lower bound" in pm.explain(one)


@pytest.mark.parametrize("wrong", [None, 3, "text"])
def test_only_answers_are_explained(wrong):
    """Anything else is refused."""
    with pytest.raises(pm.BadValue, match="cannot explain"):
        pm.explain(wrong)


def test_a_grid_is_not_one_answer():
    """A grid has many derivations."""
    grid = pm.estimate(pm.Gemm(m=np.arange(1, 4), n=64, k=64), "h100-sxm-80gb")
    with pytest.raises(pm.BadValue, match="grid"):
        pm.explain(grid)


def test_the_budget_is_the_last_line():
    """A stack over its budget shows it."""
    rows = stack_table({"weights": 90e9, "KV cache": 30e9}, 80e9).rows

    assert rows[-1] == {"part": "memory (budget)", "bytes": 80e9, "share": 1.0, "bar": "#" * 24}
    assert rows[-2]["bytes"] == 120e9
    assert rows[-2]["bar"].endswith(">")
