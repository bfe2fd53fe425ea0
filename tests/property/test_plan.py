"""Laws of plans: each meets what was asked when recomputed from its parts, none is overlooked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfmodel as pm
from perfmodel.planning.pareto import pareto_mask

FEW = settings(max_examples=6, deadline=None)
LOADS = {
    "of": st.sampled_from(["llama-3-8b", "llama-3.1-70b", "mixtral-8x7b"]),
    "users": st.sampled_from([1, 7, 64, 300]),
    "prompt": st.sampled_from([100, 2048, 9000]),
    "output": st.sampled_from([1, 64, 1000]),
    "ttft_s": st.sampled_from([0.5, 2.0, None]),
    "tpot_s": st.sampled_from([0.02, 0.05, None]),
}


def planned(of, on="h100-sxm-80gb", **question):
    return pm.plan(of, on, **({"relax": False} | question))


@FEW
@given(prefix_hit=st.sampled_from([0.0, 0.5]), **LOADS)
def test_every_plan_meets_what_was_asked(of, prefix_hit, **load):
    """Recomputed from a decode step, a mixed step and the memory of one device, each plan's times
    are within the levels, its users within memory, and its replicas carry the load.
    """
    answer = planned(of, prefix_hit=prefix_hit, **load)

    for plan in answer.plans:
        ttft, tpot = recomputed(of, plan, answer.demand)
        assert ttft == pytest.approx(float(plan.ttft.span.value), rel=1e-9)
        assert tpot == pytest.approx(float(plan.tpot.span.value), rel=1e-9)
        assert ttft <= (load["ttft_s"] or np.inf)
        assert tpot <= (load["tpot_s"] or np.inf)
        assert plan.replicas * plan.batch >= load["users"]
        assert plan.devices == plan.replicas * int(plan.split.tp) * int(plan.split.pp)
        assert plan.batch <= plan.most_users
        assert sum(plan.stack.values()) <= plan.budget_bytes


def recomputed(of, plan, demand):
    """TTFT and TPOT from single steps, by the formulas of the module."""
    pp, n = int(plan.split.pp), -(-demand.fresh // min(2048, demand.fresh))
    size = -(-demand.fresh // n)
    life = n + pp - 1 + (demand.output - 1) * pp
    decoding = min(plan.batch, (demand.output - 1) * pp / n)
    others = max(1, min(plan.batch - 1, decoding))
    common = {"context": demand.mean_context, "tp": int(plan.split.tp), "pp": pp}
    seen = demand.prompt - demand.fresh + -(-size * (n + 1) // 2)
    decode = pm.step(
        of, plan.device, phase="decode", batch=int(np.ceil(plan.batch / pp)), **common
    ).time_s
    mixed = pm.step(
        of, plan.device, phase="mixed", batch=int(np.ceil(others / pp)), prompt=seen, chunk=size,
        **common,
    ).time_s  # fmt: skip
    phi = min(1.0, (plan.batch - 1) * n / life)
    slots = max(n + pp - 1, (plan.batch - decoding) * n)
    return slots * mixed / pp, phi * mixed + (1 - phi) * decode


@FEW
@given(**LOADS)
def test_pareto_set(of, **load):
    """Of the plans flagged, none is beaten by any plan; of the others, each is."""
    answer = planned(of, **load)
    costs = np.array([
        [p.usd_per_million_tokens, p.devices, float(p.latency_s.value), p.joules_per_million_tokens]
        for p in answer.plans
    ], dtype=float).reshape(-1, 4)  # fmt: skip

    assert pareto_mask(costs).tolist() == [p.pareto for p in answer.plans]


@FEW
@given(rank=st.sampled_from(["cost", "devices", "latency", "energy"]), **LOADS)
def test_best_first(of, rank, **load):
    """Plans come in the order asked for."""
    answer = planned(of, rank=rank, **load)
    score = {
        "cost": lambda p: p.usd_per_million_tokens,
        "devices": lambda p: p.devices,
        "latency": lambda p: float(p.latency_s.value),
        "energy": lambda p: p.joules_per_million_tokens,
    }[rank]
    scores = [score(p) for p in answer.plans]

    assert scores == sorted(scores)


@FEW
@given(**LOADS)
def test_easier_questions_have_plans_at_least_as_good(of, **load):
    """Looser levels, more memory or more devices allowed never make the best plan dearer."""
    base = planned(of, max_devices=64, **load)
    looser = [
        planned(of, max_devices=64, **(load | {"ttft_s": None})),
        planned(of, max_devices=64, **(load | {"tpot_s": None})),
        planned(of, max_devices=128, **load),
    ]

    if base.best is not None:
        for easier in looser:
            assert easier.best.usd_per_million_tokens <= base.best.usd_per_million_tokens * (
                1 + 1e-12
            )


@FEW
@given(**LOADS)
def test_no_plan_comes_with_reasons(of, **load):
    """Where nothing serves, every layout says why; where something does, what relaxes helps."""
    answer = planned(of, relax=True, **load)

    assert answer.feasible or answer.infeasible
    for relief in answer.relax:
        if answer.best is not None:
            assert relief.usd_per_million_tokens < answer.best.usd_per_million_tokens


@FEW
@given(rate=st.sampled_from([0.1, 2.0, 20.0]), prompt=LOADS["prompt"])
def test_rate_carries_the_load(rate, prompt):
    """By Little's law the users in flight are rate x latency, no more than the replicas hold."""
    answer = planned("llama-3-8b", rate=rate, prompt=prompt, output=128, tpot_s=0.05)

    assert answer.plans
    for plan in answer.plans:
        assert plan.users == pytest.approx(rate * float(plan.latency_s.value))
        assert plan.users <= plan.replicas * plan.batch * (1 + 1e-9)
        assert plan.tokens_per_s == pytest.approx(rate * 128)
        assert plan.batch <= plan.most_users


def test_without_a_price_all_else_is_answered():
    """Cost is None with the reason; energy, times and memory are there."""
    import dataclasses

    device = dataclasses.replace(pm.device("h100-sxm-80gb"), prices=())
    best = planned("llama-3-8b", device, users=8, prompt=512, output=64).best

    assert best.usd_per_million_tokens is None
    assert "--price" in best.price.origin
    assert best.joules_per_million_tokens > 0


def test_a_given_price_replaces_the_specs():
    """Cost is proportional to it."""
    cheap, dear = (
        planned("llama-3-8b", users=8, prompt=512, output=64, price=p, tp=1).best
        for p in (1.0, 3.0)
    )

    assert dear.usd_per_million_tokens == pytest.approx(3 * cheap.usd_per_million_tokens)
    assert cheap.price.origin == "as given"


def test_a_device_that_cannot_is_a_reason():
    """Of several devices one may lack the data type; the others are planned."""
    answer = planned(
        "llama-3-8b", ["h100-sxm-80gb", "v100-sxm2-32gb"], users=8, prompt=512, output=64,
        dtype="bf16",
    )  # fmt: skip

    assert answer.best.device == "h100-sxm-80gb"
    assert any(r.startswith("v100-sxm2-32gb: ") for r in answer.infeasible)


def test_all_devices_that_cannot_is_a_refusal():
    """When no device has the data type the question is badly posed."""
    with pytest.raises(pm.UnsupportedDtype):
        planned("llama-3-8b", "v100-sxm2-32gb", users=8, prompt=512, output=64, dtype="bf16")


def test_choices_of_data_types():
    """A list of types is a choice; with fp8 allowed the best is no dearer."""
    one = planned("llama-3.1-70b", users=32, prompt=2048, output=256, tpot_s=0.05)
    two = planned(
        "llama-3.1-70b", users=32, prompt=2048, output=256, tpot_s=0.05, kv_dtype=["bf16", "fp8"]
    )

    assert {p.dtypes.kv for p in two.plans} <= {"bf16", "fp8"}
    assert two.best.usd_per_million_tokens <= one.best.usd_per_million_tokens


def test_what_limits_is_what_fails():
    """With one device allowed and two needed, the reasons say so."""
    answer = planned("llama-3.1-70b", users=1, prompt=512, output=64, max_devices=1, tp=2, pp=1)

    assert not answer.feasible
    assert "needs 2 devices, allowed 1" in answer.infeasible[0]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"rank": "beauty"}, "rank"),
        ({"tp": []}, "tp"),
        ({"max_devices": 0}, "max_devices"),
        ({"chunk": 0}, "chunk"),
        ({"on": []}, "devices"),
        ({"of": "bert-base"}, "model"),
    ],
)
def test_senseless_questions(wrong, field):
    """Each is refused by its field."""
    question = {"of": "llama-3-8b", "users": 1, "prompt": 16, "output": 16} | wrong
    with pytest.raises(pm.BadValue) as caught:
        planned(**question)

    assert caught.value.field == field


def test_a_split_asked_for_by_name_must_fit():
    """32 heads on 3 devices."""
    with pytest.raises(pm.ImpossibleSplit):
        planned("llama-3-8b", users=1, prompt=16, output=16, tp=3)


def test_experts_spread_over_groups():
    """EP 16 over TP 1: a replica is sixteen devices that serve users of their own, and what one
    device holds is what capacity says.
    """
    question = {"users": 512, "prompt": 1024, "output": 256, "weight_dtype": "fp8"}
    answer = planned("deepseek-v3", "h200-sxm", tp=1, pp=1, ep=16, **question)

    for plan in answer.plans:
        room = pm.capacity(
            "deepseek-v3", "h200-sxm", context=1280, users=plan.batch, ep=16, weight_dtype="fp8"
        )
        assert plan.devices == 16 * plan.replicas
        assert plan.replicas * plan.batch >= 512
        assert plan.batch % 16 == 0
        assert plan.most_users == room.max_users
        assert sum(plan.stack.values()) == pytest.approx(room.per_device["used_bytes"])
    assert answer.plans


def test_room_is_what_capacity_says():
    """Memory per device in a plan is the memory of capacity at prompt and output together."""
    best = planned("llama-3.1-70b", users=64, prompt=8192, output=512, tpot_s=0.05).best
    room = pm.capacity(
        "llama-3.1-70b", best.device, context=8704, users=best.batch, tp=int(best.split.tp),
        pp=int(best.split.pp),
    )  # fmt: skip

    assert best.most_users == room.max_users
    assert dict(best.stack) == room.stack


@pytest.mark.parametrize(
    ("question", "limit"),
    [
        ({"users": 1, "prompt": 64, "output": 64}, "smallest layout"),
        ({"users": 64, "prompt": 8192, "output": 512, "tp": [2], "pp": 1}, "memory capacity"),
    ],
)
def test_memory_forbids_fewer_devices(question, limit):
    """One device cannot be undercut; two cannot hold the cache of 64 users beside 70B weights."""
    model = "llama-3-8b" if question["users"] == 1 else "llama-3.1-70b"
    answer = planned(model, rank="devices", **question)

    assert answer.best.limit == limit


@pytest.mark.parametrize(("level", "output"), [("tpot", 512), ("ttft", 8)])
def test_levels_forbid_fewer_devices(level, output):
    """A level between what the fewest replicas give and what one more gives: the first is no
    plan any more, and the second says which level forbids it.
    """
    load = {"users": 64, "prompt": 2048, "output": output, "tp": 8, "pp": 1, "rank": "devices"}
    few, more = planned("llama-3.1-70b", **load).plans[:2]
    slow, fast = (float(getattr(p, level).span.value) for p in (few, more))
    answer = planned("llama-3.1-70b", **load, **{f"{level}_s": (slow * fast) ** 0.5})

    assert slow > fast
    assert answer.best.devices == more.devices
    assert answer.best.limit == level.upper()
