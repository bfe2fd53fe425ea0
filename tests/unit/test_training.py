"""Training steps: the arithmetic of both passes, what recomputation adds, what runs once."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.errors import BadValue
from perfmodel.hw.load import load_device
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.training import train_step


@pytest.fixture(scope="module")
def a100():
    return load_device("a100-sxm-80gb")


def narayanan(batch, sequence, layers, hidden, vocabulary, *, recompute):
    """FLOPs of a step (arXiv:2104.04473, appendix A): each layer 24 B s h^2 for its matrices in the
    forward pass, twice that backward, once more recomputed; the head 6 B s h V.

    The causal triangle has s (s + 1) / 2 pairs of 4 h FLOP, 2.5 times that backward.
    """
    matrices = 24 * batch * sequence * layers * hidden**2
    scores = layers * batch * 4 * hidden * sequence * (sequence + 1) / 2
    again = 1 if recompute else 0
    head = 6 * batch * sequence * hidden * vocabulary
    return matrices * (3 + again) + scores * (3.5 + again) + head


@pytest.mark.parametrize("recompute", [False, True])
def test_gpt_3_trains_with_the_published_arithmetic(a100, recompute):
    """GPT-3 175B, batch 1024 over TP 8, PP 8, DP 16: each of 1024 devices has a 1024th of the
    closed form (vector work is under 0.1 % more; the vocabulary splits into 6283 rows a device)."""
    found = train_step(
        load_model("gpt-3-175b"),
        a100,
        sequence=2048,
        micro_batches=64,
        tp=8,
        pp=8,
        dp=16,
        recompute=recompute,
    )
    by_hand = narayanan(1024, 2048, 96, 12288, 50257, recompute=recompute) / 1024
    assert found.facts["flops"] == pytest.approx(by_hand, rel=2e-3)
    assert found.facts["flops"] >= by_hand
    assert found.facts["tokens"] == 1024 * 2048
    assert found.lower_bound_s >= by_hand / 312e12


def test_gradients_and_optimizer_run_once_per_step(a100):
    """Twice the micro-batches double the passes' terms and leave what runs once alone."""
    one = train_step(load_model("gpt-2"), a100, sequence=512, micro_batches=2, dp=8)
    two = train_step(load_model("gpt-2"), a100, sequence=512, micro_batches=4, dp=8)
    for group, seconds in one.terms.items():
        factor = 1 if group in ("gradients", "optimizer") else 2
        assert two.terms[group] == pytest.approx(factor * seconds, rel=1e-12)


def test_the_optimizer_moves_30_bytes_a_parameter(a100):
    """Adam reads 16 B and writes 14 B per bf16 parameter; gradients of one replica stay put."""
    found = train_step(load_model("gpt-2"), a100, sequence=512)
    (adam,) = (p.estimate for p in found.parts if p.group == "optimizer")
    assert adam.facts["bytes"] == pytest.approx(124_439_808 * 30, rel=1e-6)
    assert "gradients" not in found.terms


def test_a_pipeline_idles_while_it_fills(a100):
    """The bubble is (pp - 1) / micro_batches of the passes, and no bound counts it."""
    found = train_step(load_model("gpt-2"), a100, sequence=512, micro_batches=6, pp=4)
    passes = sum(v for k, v in found.terms.items() if k not in ("bubble", "optimizer"))
    assert found.terms["bubble"] == pytest.approx(passes * 3 / 6, rel=1e-12)
    assert found.time_s == pytest.approx(sum(found.terms.values()), rel=1e-12)
    assert found.lower_bound_s < found.low_s < found.time_s < found.high_s


def test_every_family_trains(a100):
    """Mixtures, recurrences and encoders have backward passes too."""
    for name in ("mixtral-8x7b", "mamba2-2.7b", "qwen3.5-0.8b", "bert-base"):
        found = train_step(load_model(name), a100, sequence=256, batch=2)
        assert found.time_s > found.lower_bound_s > 0
    assert train_step(load_model("vit-b-16"), a100, batch=8).terms["embed"] > 0


def test_a_grid_of_splits_equals_its_points(a100):
    """Training over arrays of TP and replicas is that of each point, bit for bit."""
    tp, dp = np.array([[1], [2], [4]]), np.array([[1, 8]])
    how = {"sequence": 1024, "micro_batches": 8, "recompute": True}
    many = train_step(load_model("gpt-2"), a100, tp=tp, dp=dp, **how)
    for i, j in np.ndindex(3, 2):
        one = train_step(load_model("gpt-2"), a100, tp=int(tp[i, 0]), dp=int(dp[0, j]), **how)
        assert many.time_s[i, j] == one.time_s


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({}, "sequence"),
        ({"sequence": 0}, "sequence"),
        ({"sequence": 9, "micro_batches": 1.5}, "micro_batches"),
        ({"sequence": 9, "dtypes": Dtypes(weight="int8")}, "weight"),
    ],
)
def test_what_cannot_be_trained_is_refused(a100, how, field):
    """A missing length, a fraction of a micro-batch, and quantised weights are named."""
    with pytest.raises(BadValue) as caught:
        train_step(load_model("gpt-2"), a100, **how)
    assert caught.value.field == field
