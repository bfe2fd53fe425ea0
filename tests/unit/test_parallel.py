"""Splits: what a model's shape allows, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perfmodel.errors import BadValue, ImpossibleSplit
from perfmodel.hw.load import load_device
from perfmodel.models.hf import load_model
from perfmodel.models.parallel import Split, check_split, per_device, possible_tp
from perfmodel.models.shape import MambaMixer


@pytest.mark.parametrize(
    ("name", "works"),
    [
        ("llama-3-8b", (1, 2, 4, 8, 16, 32)),  # 32 heads; 8 KV heads replicate beyond 8
        ("falcon-7b", (1, 71)),  # 71 heads share one KV head
        ("qwen2.5-7b", (1, 2, 4)),  # 28 heads, 4 KV heads: 7 and 14 would tear a KV head apart
        ("gpt-2", (1, 2, 3, 4, 6, 12)),
        ("bert-base", (1, 2, 3, 4, 6, 12)),
        ("vit-b-16", (1, 2, 3, 4, 6, 12)),
        ("mamba2-2.7b", (1, 2, 4, 5, 8, 10, 16, 20, 40, 80)),  # 80 heads, one replicated group
    ],
)
def test_degrees_that_divide_heads_widths_and_groups_work(name, works):
    """possible_tp lists the degrees that check_split accepts, and no other up to 128."""
    shape = load_model(name)
    assert possible_tp(shape) == works
    for tp in set(range(1, 129)) - set(works):
        with pytest.raises(ImpossibleSplit):
            check_split(shape, Split(tp=tp))
    assert check_split(shape, Split(tp=np.array(works))) == ()


@pytest.mark.parametrize(
    ("name", "split", "field", "says", "fix"),
    [
        ("llama-3-8b", {"tp": 3}, "tp", "3 does not divide the 32 attention heads", "1, 2, 4, 8"),
        ("llama-3-8b", {"tp": np.array([2, 6])}, "tp", "6 does not divide", "1, 2, 4, 8"),
        ("mamba-2.8b", {"tp": 3}, "tp", "5120 channels", "1, 2, 4, 5"),
        ("llama-3-8b", {"pp": 33}, "pp", "33 exceeds the 32 layers", "between 1 and 32"),
        ("llama-3-8b", {"ep": 2}, "ep", "no experts", "ep 1"),
        ("mixtral-8x7b", {"ep": 3}, "ep", "3 does not divide the 8 experts", "1, 2, 4, 8"),
        ("mixtral-8x7b", {"tp": 2, "ep": 8, "pp": 40}, "pp", "exceeds", "32"),
        ("llama-3-8b", {"sequence_parallel": True}, "sequence_parallel", "tensor", "tp of at"),
    ],
)
def test_a_refusal_names_count_limit_and_what_works(name, split, field, says, fix):
    """An impossible split says which count, what it breaks and the values that work."""
    with pytest.raises(ImpossibleSplit) as caught:
        check_split(load_model(name), Split(**split))
    assert caught.value.field == field
    assert says in caught.value.message
    assert fix in (caught.value.fix or "")


def test_ep_and_tp_must_nest():
    """With TP 6 EP 4 neither divides nor is divided: experts could not be dealt out evenly."""
    shape = load_model("jamba-v0.1")
    sixes = replace(shape, layers=tuple(g for g in shape.layers if isinstance(g.mixer, MambaMixer)))
    widened = tuple(
        replace(g, mixer=replace(g.mixer, inner=9216), ffn=replace(g.ffn, width=9216))
        for g in sixes.layers
    )
    with pytest.raises(ImpossibleSplit, match="4 neither divides"):
        check_split(replace(sixes, layers=widened), Split(tp=6, ep=4))


def test_experts_are_cut_only_by_tp_beyond_ep():
    """Width 1408 of an expert splits 16 ways only where EP takes a part of TP 16."""
    shape = load_model("qwen1.5-moe-a2.7b")
    assert Split(tp=16, ep=4).expert_tp == 4
    assert Split(tp=2, ep=8).expert_replicas == 4
    assert check_split(shape, Split(tp=4, ep=4)) == ()


def test_tp_beyond_the_link_is_noted_not_refused():
    """Leaving the NVLink domain, or having no link at all, is an assumption of the answer."""
    shape = load_model("llama-3.1-405b")
    (note,) = check_split(shape, Split(tp=16), load_device("h100-sxm-80gb"))
    assert "leaves the 8 devices" in note
    (note,) = check_split(shape, Split(tp=2), load_device("rtx-4090"))
    assert "no link" in note
    assert check_split(shape, Split(tp=8), load_device("h100-sxm-80gb")) == ()


@pytest.mark.parametrize("bad", [0, -1, 1.5, float("nan"), "two", True, None])
def test_counts_must_be_whole(bad):
    """A count that is no whole number of at least 1 is refused by name."""
    with pytest.raises(BadValue) as caught:
        Split(tp=bad)
    assert caught.value.field == "tp"


def test_a_share_is_rounded_up():
    """Eight KV heads over 16 devices are one each; arrays and numbers agree."""
    assert per_device(8, 16) == 1
    assert per_device(50257, 2) == 25129
    assert per_device(np.array([8, 50257]), 2).tolist() == [4, 25129]
