"""Laws of model steps: monotone bounds, work conserved by splits, grids equal to points."""

from __future__ import annotations

from itertools import product as points

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.hw.load import load_device
from perfmodel.models.cache import kv_bytes, state_bytes
from perfmodel.models.feedforward import active_experts
from perfmodel.models.flow import Dtypes
from perfmodel.models.hf import load_model
from perfmodel.models.parallel import Split, possible_tp
from perfmodel.models.parameters import layer_linears
from perfmodel.models.phases import ops
from perfmodel.models.shape import Moe
from perfmodel.models.stepping import resting_cost
from perfmodel.models.timing import step
from perfmodel.ops import count
from perfmodel.workload import Attention, Gemm

MODELS = (
    "llama-3-8b",
    "gemma-2-9b",
    "falcon-7b",
    "mixtral-8x7b",
    "deepseek-v2-lite",
    "jamba-v0.1",
    "nemotron-h-8b",
    "qwen3-next-80b-a3b",
    "mamba-2.8b",
)
SIZES = st.integers(1, 512)
CONTEXTS = st.integers(1, 100_000)


@pytest.fixture(scope="module")
def h200():
    return load_device("h200-sxm")


@given(st.sampled_from(MODELS), SIZES, SIZES, CONTEXTS, CONTEXTS)
def test_a_decode_bound_grows_with_batch_and_context(h200, name, a, b, c, d):
    """A larger batch and a longer context never lower the bound of a decode step."""
    batch, context = np.array(sorted((a, b))), np.array(sorted((c, d)))
    found = step(
        load_model(name), h200, phase="decode", batch=batch[:, None], context=context[None, :]
    )
    bound = np.broadcast_to(found.lower_bound_s, (2, 2))
    assert np.all(np.diff(bound, axis=0) >= 0)
    assert np.all(np.diff(bound, axis=1) >= 0)


@given(st.sampled_from(MODELS), SIZES, CONTEXTS)
def test_a_step_takes_no_less_than_reading_its_weights_and_its_bound(h200, name, batch, context):
    """bound >= weights / bandwidth, and low <= time <= high all stay above the bound."""
    found = step(load_model(name), h200, phase="decode", batch=batch, context=context)
    reading = found.facts["weight_bytes"] / h200.memory.bandwidth_bytes_per_s
    assert reading <= found.lower_bound_s <= found.low_s <= found.time_s <= found.high_s


@given(st.sampled_from(MODELS), st.sampled_from(["prefill", "decode"]), SIZES, st.integers(1, 9000))
def test_tp_never_adds_bytes_or_flops_to_a_device(name, phase, batch, tokens):
    """Resting bytes and FLOPs per device do not grow with the tensor-parallel degree."""
    shape = load_model(name)
    tp = np.array(possible_tp(shape))
    length = {"prompt" if phase == "prefill" else "context": tokens}
    total = resting_cost(ops(shape, phase=phase, batch=batch, split=Split(tp=tp), **length))
    for amount in (total.bytes_total, total.flops_total):
        assert np.all(np.diff(np.broadcast_to(amount, tp.shape)) <= 0)


@given(st.sampled_from(["llama-3-8b", "gemma-2-9b", "mixtral-8x7b"]), SIZES, CONTEXTS)
def test_tp_ranks_together_do_the_work_of_one_device(name, batch, context):
    """Matrix and attention FLOPs times TP are those of TP = 1 while nothing is replicated.

    The router of a mixture is, on every device, so it is left out.
    """
    shape = load_model(name)
    tp = np.array([1, 2, 4, 8])

    def work(split):
        listed = ops(shape, phase="decode", batch=batch, context=context, split=split)
        return sum(
            op.count * count(op.workload).flops_total
            for op in listed
            if isinstance(op.workload, Gemm | Attention) and op.name != "router"
        )

    assert work(Split(tp=tp)) * tp == pytest.approx(np.full(4, work(Split())), rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_every_matrix_is_multiplied_once_per_token(name):
    """The products of one decoded token hold exactly the active elements of ``layer_linears``
    and the head: k x n of each, absorbed latent projections included."""
    shape = load_model(name)
    listed = ops(shape, phase="decode", context=1000)
    products = sum(op.count * count(op.workload).flops_total for op in listed if _is(op, Gemm)) / 2
    matrices = sum(
        x.k * x.n * x.active * group.count
        for group in shape.layers
        for x in layer_linears(shape, group)
    )
    head = shape.head_outputs * (shape.embedding_width or shape.hidden)
    assert products == pytest.approx(matrices + head, rel=1e-9)


@given(
    st.sampled_from(MODELS),
    st.integers(1, 64),
    CONTEXTS,
    st.sampled_from([1, 2]),
)
def test_cache_and_state_traffic_is_what_the_cache_holds(name, batch, context, tp):
    """A decode step moves each sequence's cache once and its recurrent state twice."""
    shape = load_model(name)
    tp = tp if tp in possible_tp(shape) else 1
    listed = ops(shape, phase="decode", batch=batch, context=context, split=Split(tp=tp))
    cache = sum(op.count * op.resting_bytes for op in listed if op.group == "attention")
    state = sum(op.count * op.resting_bytes for op in listed if op.group in ("scan", "conv"))
    assert cache == pytest.approx(batch * kv_bytes(shape, context, tp=tp), rel=1e-12)
    assert state == pytest.approx(2 * batch * state_bytes(shape, tp=tp), rel=1e-12)


@given(st.integers(1, 512), st.data())
def test_expected_experts_lie_between_those_of_one_token_and_all(experts, data):
    """top_k <= active <= E, all of them in the limit, top_k for one token, growing with tokens."""
    moe = Moe(experts=experts, top_k=data.draw(st.integers(1, experts)), width=64)
    tokens = np.array([1, *sorted(data.draw(st.lists(st.integers(1, 10**6), min_size=2)))])
    active = active_experts(moe, tokens)
    assert active[0] == pytest.approx(moe.top_k, rel=1e-12)
    assert np.all((active >= moe.top_k) & (active <= experts))
    assert np.all(np.diff(active) >= 0)
    assert active_experts(moe, 10**9) == pytest.approx(experts)


@given(st.sampled_from(["mixtral-8x7b", "qwen3-30b-a3b"]), SIZES, st.sampled_from([1, 2, 4]))
def test_routed_work_and_weights_are_exact(name, batch, ep):
    """Products of experts hold tokens x top_k rows and the expected number of experts' weights,
    though sizes of a product are whole numbers; EP within TP divides both."""
    shape = load_model(name)
    moe = shape.layers[0].ffn
    listed = ops(shape, phase="decode", batch=batch, context=9, split=Split(tp=4, ep=ep))
    routed = [op for op in listed if op.name.startswith("expert_")]
    flops = sum(op.count * count(op.workload).flops_total for op in routed)
    weights = sum(op.count * count(op.workload).weight_bytes for op in routed)
    one = 3 * shape.hidden * moe.width * shape.depth / 4
    assert flops == pytest.approx(2 * batch * moe.top_k * one, rel=1e-12)
    assert weights == pytest.approx(2 * active_experts(moe, batch) * one, rel=1e-12)


@given(
    st.sampled_from(["llama-3-8b", "deepseek-v2-lite", "nemotron-h-8b"]),
    st.integers(1, 9000),
    st.integers(256, 9000),
)
def test_chunks_do_the_same_arithmetic_as_a_whole_prefill(name, prompt, chunk):
    """Chunked and whole prefill of a causal model have equal matrix and score FLOPs.

    What latent attention expands again for each chunk (``kv_up``) is left out, and so are scans,
    which may end a chunk of their own early.
    """

    def work(**kwargs):
        return sum(
            np.sum(op.count * count(op.workload).flops_total)
            for op in ops(load_model(name), phase="prefill", prompt=prompt, **kwargs)
            if isinstance(op.workload, Gemm | Attention) and op.name != "kv_up"
        )

    assert work(chunk=chunk) == pytest.approx(work(), rel=1e-12)


@given(st.integers(1, 64), st.integers(1, 20_000))
def test_causal_prefill_flops_have_their_closed_form(batch, prompt):
    """2 N P for the matrices and 4 d P (P + 1) / 2 per head and layer for the scores
    (Hoffmann et al., arXiv:2203.15556, appendix F, with the exact triangle)."""
    shape = load_model("llama-3-8b")
    listed = ops(shape, phase="prefill", batch=batch, prompt=prompt)
    found = sum(op.count * count(op.workload).flops_total for op in listed if _is(op, Attention))
    assert found == batch * 32 * 32 * 4 * 128 * prompt * (prompt + 1) / 2
    layers = 2 * batch * prompt * 32 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336)
    products = sum(op.count * count(op.workload).flops_total for op in listed if _is(op, Gemm))
    assert products == layers + 2 * batch * 4096 * 128_256


PHASES = (
    ({"phase": "decode"}, "context"),
    ({"phase": "prefill"}, "prompt"),
    ({"phase": "prefill", "chunk": 256}, "prompt"),
    ({"phase": "mixed", "chunk": 256}, "context"),
)


@pytest.mark.parametrize(("how", "axis"), PHASES)
@pytest.mark.parametrize("name", MODELS)
def test_a_grid_equals_its_points_bit_for_bit(h200, name, how, axis):
    """Every figure of a step over a batch x tokens x TP grid is that of the single points."""
    shape = load_model(name)
    batch, tokens, tp = [3, 250], [256, 777, 9001], list(possible_tp(shape)[:2])
    grid = dict(zip(("batch", axis, "tp"), np.ix_(batch, tokens, tp), strict=True))
    many = _figures(step(shape, h200, **how, **grid))
    size = (len(batch), len(tokens), len(tp))
    for (i, b), (j, n), (k, t) in points(enumerate(batch), enumerate(tokens), enumerate(tp)):
        one = _figures(step(shape, h200, **how, **{"batch": b, axis: n, "tp": t}))
        for key, value in one.items():
            assert np.broadcast_to(many[key], size)[i, j, k] == value, key


def _figures(found):
    names = ("time_s", "low_s", "high_s", "lower_bound_s", "bound")
    facts = ("flops", "bytes", "tokens_per_s", "collective_lower_bound_s")
    terms = {f"term {name}": value for name, value in found.terms.items()}
    return {n: getattr(found, n) for n in names} | {n: found.facts[n] for n in facts} | terms


@given(st.sampled_from(["fp8", "int8", "bf16"]), st.sampled_from(["int4", "int8", "fp8", "bf16"]))
def test_narrower_types_never_move_more(act, weight):
    """Narrower weights and cache rest in fewer bytes; what they feed is counted all the same."""
    shape = load_model("llama-3-8b")
    how = {"phase": "decode", "batch": 4, "context": 5000}
    types = Dtypes(act="bf16", weight=weight, kv=act)
    narrow = resting_cost(ops(shape, dtypes=types, **how))
    wide = resting_cost(ops(shape, **how))
    assert narrow.bytes_total <= wide.bytes_total
    assert narrow.flops_total == wide.flops_total


def _is(op, kind):
    return isinstance(op.workload, kind)
