"""Laws of capacity: it is maximal, and every relaxation relaxes."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import perfmodel as pm
from perfmodel.models.flow import Dtypes
from perfmodel.models.parallel import Split
from perfmodel.planning.footprint import footprint

MODELS = (
    "llama-3-8b", "yi-34b-200k", "mixtral-8x7b", "mistral-7b", "gemma-2-9b", "mamba-2.8b",
    "nemotron-h-56b", "deepseek-v2-lite", "bert-base",
)  # fmt: skip
DEVICES = ("a100-sxm-80gb", "h100-sxm-80gb", "l4", "mi300x", "jetson-agx-orin-64gb")
QUESTIONS = {
    "of": st.sampled_from(MODELS),
    "on": st.sampled_from(DEVICES),
    "context": st.integers(1, 200_000),
    "tp": st.sampled_from([1, 2, 4]),
    "memory_bytes": st.floats(4e9, 500e9),
    "chunk": st.sampled_from([1, 64, 2048]),
}
FEW = settings(max_examples=25, deadline=None)


def held(answer):
    """The footprint that the answer was computed from."""
    return answer.setting.footprint(pm.model(answer.model))


@FEW
@given(**{k: v for k, v in QUESTIONS.items() if k not in ("of", "on")}, data=st.data())
def test_max_users_is_maximal(data, **question):
    """That many fit in the budget and one more does not, also beyond a chunk's tokens."""
    model, device = data.draw(QUESTIONS["of"]), data.draw(QUESTIONS["on"])
    answer = pm.capacity(model, device, **question)
    found, budget = held(answer), answer.per_device["budget_bytes"]

    assert answer.max_users == 0 or found.used(answer.max_users) <= budget
    assert found.used(answer.max_users + 1) > budget
    assert answer.fits == (answer.max_users >= 1)


@FEW
@given(
    of=QUESTIONS["of"],
    users=st.integers(1, 64),
    memory_bytes=st.floats(20e9, 500e9),
)
def test_max_context_is_maximal(of, users, memory_bytes):
    """The longest context fits the users asked for; one token more does not."""
    question = {"users": users, "memory_bytes": memory_bytes}
    longest = pm.capacity(of, "h100-sxm-80gb", context=1, **question).max_context

    if longest is None:
        return
    assert not pm.capacity(of, "h100-sxm-80gb", context=longest + 1, **question).fits
    assert longest == 0 or pm.capacity(of, "h100-sxm-80gb", context=longest, **question).fits


@FEW
@given(of=QUESTIONS["of"], context=QUESTIONS["context"], memory_bytes=QUESTIONS["memory_bytes"])
def test_relaxations_relax(of, context, memory_bytes):
    """More memory, a narrower cache, narrower weights, a smaller reserve or a shorter context
    never lets fewer users in.
    """
    base = {"context": context, "memory_bytes": memory_bytes, "chunk": 16}

    def users(**change):
        return pm.capacity(of, "h100-sxm-80gb", **(base | change)).max_users

    least = users()
    assert users(memory_bytes=2 * memory_bytes) >= least
    assert users(kv_dtype="fp8") >= least
    assert users(weight_dtype="int8") >= least
    assert users(reserve_bytes=0.0) >= least
    assert users(context=max(1, context // 2)) >= least


@FEW
@given(of=QUESTIONS["of"], context=QUESTIONS["context"], memory_bytes=QUESTIONS["memory_bytes"])
def test_what_the_answer_says_would_help_does(of, context, memory_bytes):
    """Every relaxation listed lets more users in than the answer."""
    answer = pm.capacity(of, "h100-sxm-80gb", context=context, memory_bytes=memory_bytes)

    assert all(r.max_users > answer.max_users for r in answer.relax)


@FEW
@given(of=QUESTIONS["of"], context=QUESTIONS["context"], users=st.integers(1, 10_000))
def test_the_stack_adds_up(of, context, users):
    """The parts of the stack are what is in use."""
    answer = pm.capacity(of, "a100-sxm-80gb", context=context, users=users)

    total = sum(answer.stack.values())
    assert np.isclose(total, answer.per_device["used_bytes"], rtol=1e-12)
    assert answer.fits == (total <= answer.per_device["budget_bytes"])


@FEW
@given(of=st.sampled_from(MODELS[:-1]), users=st.integers(1, 500), chunk=st.integers(1, 500))
def test_used_grows_with_users(of, users, chunk):
    """Each further user takes memory."""
    shape = pm.model(of)
    found = footprint(
        shape, context=100.0, split=Split(), dtypes=Dtypes(), page_size=16, reserve_bytes=0.0,
        chunk=float(chunk),
    )  # fmt: skip

    assert found.used(users + 1) > found.used(users)


def test_arrays_equal_scalars():
    """A footprint over arrays of splits and contexts is that of each, bit for bit."""
    shape, tps, contexts = pm.model("llama-3-70b"), np.array([1, 2, 4, 8]), np.arange(1, 9) * 1000
    asked = {"dtypes": Dtypes(), "page_size": 16, "reserve_bytes": 1e9, "chunk": 2048.0}
    grid = footprint(shape, context=contexts[None, :], split=Split(tp=tps[:, None]), **asked)
    users = np.broadcast_to(grid.max_users(80e9), (4, 8))

    for i, tp in enumerate(tps):
        for j, context in enumerate(contexts):
            one = footprint(shape, context=int(context), split=Split(tp=int(tp)), **asked)
            assert one.max_users(80e9) == users[i, j]


def test_experts_spread_wider_than_tensor_parallelism():
    """EP 8 over TP 1: eight devices hold the experts once, and each serves users of its own."""
    alone = pm.capacity("mixtral-8x7b", "h100-sxm-80gb", context=8192, memory_bytes=160e9)
    spread = pm.capacity("mixtral-8x7b", "h100-sxm-80gb", context=8192, memory_bytes=160e9, ep=8)

    assert spread.setting.devices == 8
    assert spread.max_users > 8 * alone.max_users
    assert spread.max_users % 8 == 0


def test_more_users_than_fit_is_no():
    """The answer is the same; whether it fits is not."""
    one = pm.capacity("llama-3-8b", "l4", context=8192)
    many = pm.capacity("llama-3-8b", "l4", context=8192, users=one.max_users + 1)

    assert one.fits
    assert not many.fits
    assert many.max_users == one.max_users
    assert replace(many.setting, users=1) == one.setting or many.setting.users > 1


def test_whole_prompts_take_more():
    """Without chunks the live set is that of the whole context."""
    chunked = pm.capacity("llama-3-8b", "h100-sxm-80gb", context=65_536)
    whole = pm.capacity("llama-3-8b", "h100-sxm-80gb", context=65_536, chunk=None)
    logits = 4 * 128_256

    ratio = (whole.stack["activations"] - logits) / (chunked.stack["activations"] - logits)
    assert ratio == 65_536 / 2048
