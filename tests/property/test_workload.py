"""Laws of the workload descriptors: checked, broadcast, read-only, and told apart by content."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import BadValue, PerfModelError, UnknownName
from perfmodel.workload import WORKLOADS, Attention, Gemm, workload_from_dict

SMALL = {
    "gemm": {"m": 8, "n": 8, "k": 8, "dtype": "bf16"},
    "attention": {
        "batch": 1, "q_len": 8, "kv_len": 8, "heads": 4, "kv_heads": 2, "head_dim": 8,
        "dtype": "bf16",
    },
}  # fmt: skip
SIZES = st.integers(1, 2**53)


@given(m=SIZES, n=SIZES, k=SIZES)
def test_round_trip(m, n, k):
    """A workload is what its dictionary says, and nothing else."""
    gemm = Gemm(m=m, n=n, k=k, dtype="bf16")

    assert workload_from_dict(gemm.to_dict()).key() == gemm.key()


@given(sizes=st.lists(st.integers(1, 2**20), min_size=1, max_size=6))
def test_round_trip_of_arrays(sizes):
    """Arrays become lists and come back."""
    gemm = Gemm(m=np.array(sizes), n=3, k=4, dtype="fp16")

    assert workload_from_dict(gemm.to_dict()).key() == gemm.key()
    assert gemm.shape == (len(sizes),)


@given(m=st.integers(1, 5), n=st.integers(1, 5))
def test_fields_broadcast(m, n):
    """Open grids span a product: the shape is that of all fields together."""
    grid = Gemm(m=np.ones((m, 1), int), n=np.ones(n, int), k=1, dtype="bf16")

    assert grid.shape == (m, n)


def test_fields_that_do_not_broadcast():
    """Arrays that fit no common grid are refused by name."""
    with pytest.raises(BadValue, match="do not broadcast") as refusal:
        Gemm(m=np.ones(2, int), n=np.ones(3, int), k=1, dtype="bf16")
    assert refusal.value.field == "m"


def test_arrays_are_copies_and_read_only():
    """Neither the caller's array nor the workload's changes the other."""
    mine = np.array([1, 2])
    gemm = Gemm(m=mine, n=1, k=1, dtype="bf16")
    mine[0] = 7

    assert np.asarray(gemm.m).tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(gemm.m)[0] = 5


def test_workloads_are_frozen():
    """A field is set once."""
    gemm = Gemm(m=1, n=1, k=1, dtype="bf16")

    with pytest.raises(dataclasses.FrozenInstanceError):
        gemm.m = 2


@given(
    field=st.sampled_from(["m", "n", "k"]),
    value=st.one_of(
        st.integers(max_value=0),
        st.integers(2**53 + 1, 10**40),
        st.floats().filter(lambda x: not (x >= 1 and x == np.floor(x) and x <= 2**53)),
        st.sampled_from(["8", None, True, [], {}, [1, 0], [1.5], "x", np.array([]), 1 + 2j, b"8"]),
    ),
)
def test_sizes_are_counts(field, value):
    """Whatever is no positive whole number is refused, naming the field."""
    with pytest.raises(BadValue) as refusal:
        Gemm(**{"m": 1, "n": 1, "k": 1, "dtype": "bf16"} | {field: value})
    assert refusal.value.field == field


@pytest.mark.parametrize("value", ["no", 1, None, [], np.array([True, False])])
def test_flags_are_true_or_false(value):
    """A truth value is not guessed from a word, a number or nothing."""
    with pytest.raises(BadValue, match="must be true or false") as refusal:
        Attention(**SMALL["attention"] | {"causal": value})
    assert refusal.value.field == "causal"


@pytest.mark.parametrize("value", ["relu", 1, None, [], np.array(["softmax", "sigmoid"])])
def test_choices_are_listed(value):
    """A choice that does not exist is refused with those that do."""
    with pytest.raises(BadValue, match="softmax, sigmoid") as refusal:
        Attention(**SMALL["attention"] | {"score": value})
    assert refusal.value.field == "score"


@given(heads=st.integers(1, 300), kv_heads=st.integers(1, 300))
def test_kv_heads_divide_heads(heads, kv_heads):
    """Grouped queries come in whole groups: accepted exactly where KV heads divide heads."""
    ask = SMALL["attention"] | {"heads": heads, "kv_heads": kv_heads}
    if heads % kv_heads == 0:
        assert Attention(**ask).kv_heads == kv_heads
    else:
        with pytest.raises(BadValue):
            Attention(**ask)


@pytest.mark.parametrize("op", sorted(WORKLOADS))
def test_missing_fields_are_named(op):
    """Without its fields an operator says what it needs."""
    with pytest.raises(BadValue, match=f"{op} needs "):
        workload_from_dict({"op": op})


@pytest.mark.parametrize("op", sorted(WORKLOADS))
def test_unknown_fields_are_refused(op):
    """A field that the operator lacks is refused with those that it has."""
    with pytest.raises(UnknownName, match="no_such_field"):
        workload_from_dict({"op": op, "no_such_field": 1})


@pytest.mark.parametrize("op", ["", "gem", None, 3, []])
def test_unknown_operators(op):
    """An operator that does not exist is refused with those that do."""
    with pytest.raises(UnknownName):
        workload_from_dict({"op": op})


@given(
    values=st.dictionaries(
        st.sampled_from(["m", "n", "k", "dtype", "batch", "op", "x"]),
        st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.booleans()),
    )
)
def test_any_dictionary_is_a_workload_or_a_typed_error(values):
    """Nothing but this package's own errors comes out of reading a workload."""
    found = workload_or_refusal({"op": "gemm"} | values)

    assert found.field if isinstance(found, PerfModelError) else found.op == "gemm"


def workload_or_refusal(values):
    try:
        return workload_from_dict(values)
    except PerfModelError as error:
        return error


def test_keys_tell_workloads_apart():
    """Equal content, equal key; a different array, type or operator, another key."""
    one = Gemm(m=np.array([1, 2]), n=1, k=1, dtype="bf16")

    assert one.key() == Gemm(m=np.array([1, 2]), n=1, k=1, dtype="bf16").key()
    assert one.key() != Gemm(m=np.array([1, 3]), n=1, k=1, dtype="bf16").key()
    assert one.key() != Gemm(m=np.array([1, 2]), n=1, k=1, dtype="fp16").key()
    assert hash(one.key())
