"""Laws of counting that hold for every workload."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.ops import NOTHING, count, total
from perfmodel.ops.numbers import capped_series
from perfmodel.workload import Attention, Gemm, LinearAttention, Norm, SelectiveScan, Ssd

sizes = st.integers(1, 4096)
gemms = st.builds(Gemm, m=sizes, n=sizes, k=sizes)
norms = st.builds(Norm, rows=sizes, cols=sizes)
prefills = st.builds(
    lambda batch, q, past, heads, group: Attention(
        batch=batch, q_len=q, kv_len=q + past, heads=heads * group, kv_heads=heads, head_dim=64
    ),
    st.integers(1, 8),
    sizes,
    st.integers(0, 4096),
    st.integers(1, 8),
    st.integers(1, 8),
)
costs = st.one_of(gemms, norms, prefills).map(count)


def entries(cost):
    keys = sorted(cost.flops)
    scalars = [cost.special, cost.read_bytes, cost.write_bytes, cost.link_bytes, cost.launches]
    return keys, [float(cost.flops[k]) for k in keys] + [float(x) for x in scalars]


@given(costs, costs)
def test_addition_does_not_depend_on_order(a, b):
    """a + b = b + a, entry by entry."""
    assert entries(a + b) == entries(b + a)


@given(st.lists(costs, max_size=5))
def test_totals_add_up(parts):
    """FLOPs and bytes of a sum are the sums of FLOPs and bytes."""
    whole = total(parts)
    assert whole.flops_total == pytest.approx(sum(float(p.flops_total) for p in parts))
    assert whole.bytes_total == pytest.approx(sum(float(p.bytes_total) for p in parts))


@given(costs)
def test_nothing_is_neutral(cost):
    """Adding no work changes nothing, and zero times a cost is nothing."""
    assert entries(cost + NOTHING) == entries(cost)
    assert cost.scaled(0).flops_total == 0


@given(costs, st.integers(1, 100))
def test_scaling_is_repeated_addition(cost, times):
    """n costs in a row are the cost scaled by n."""
    assert float(cost.scaled(times).bytes_total) == float(cost.bytes_total) * times


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 80))
def test_capped_series_is_its_definition(first, terms, cap):
    """The closed form equals the sum it stands for."""
    assert capped_series(first, terms, cap) == sum(min(first + i, cap) for i in range(terms))


@given(sizes, st.integers(1, 4), st.integers(1, 4))
def test_causal_is_at_most_full(seq, batch, heads):
    """A mask never adds work, and S(S+1)/2 of S^2 tends to one half from above."""
    shape = {"batch": batch, "q_len": seq, "kv_len": seq, "heads": heads, "head_dim": 64}
    causal = float(count(Attention(**shape)).flops_total)
    full = float(count(Attention(**shape, causal=False)).flops_total)
    assert causal <= full
    assert causal / full == pytest.approx((seq + 1) / (2 * seq))


@given(st.integers(1, 512), st.integers(0, 512), st.integers(1, 2048))
def test_a_window_never_adds_work_and_a_wide_one_changes_nothing(q, past, window):
    """min(window, visible) is at most what is visible, and equals it from the context on."""
    shape = {"batch": 1, "q_len": q, "kv_len": q + past, "heads": 1, "head_dim": 64}
    plain = count(Attention(**shape))
    windowed = count(Attention(**shape, window=window))
    assert windowed.flops_total <= plain.flops_total
    assert windowed.bytes_total <= plain.bytes_total
    if window >= q + past:
        assert entries(windowed) == entries(plain)


@given(prefills)
def test_grouped_equals_multi_head_when_every_head_has_its_own(work):
    """kv_heads = heads is what kv_heads left out means."""
    shape = {"batch": 1, "q_len": work.q_len, "kv_len": work.kv_len, "head_dim": 64}
    alone = count(Attention(**shape, heads=work.heads))
    named = count(Attention(**shape, heads=work.heads, kv_heads=work.heads))
    assert entries(alone) == entries(named)


@given(st.integers(2, 4096), st.integers(2, 4096))
def test_state_does_not_grow_with_context(short, long):
    """What a recurrent mixer moves beyond its tokens, its state, is the same at every length."""

    def state(length):
        at = count(Ssd(batch=1, seq_len=length, heads=4)).bytes_total
        return float(at) - length * float(
            count(Ssd(batch=1, seq_len=3, heads=4)).bytes_total
            - count(Ssd(batch=1, seq_len=2, heads=4)).bytes_total
        )

    assert state(short) == pytest.approx(state(long))


ARRAYS = [
    Gemm(m=np.array([1, 7, 300]), n=64, k=np.array([[64], [999]]), weight_dtype="int4"),
    Attention(batch=2, q_len=np.array([1, 5, 64]), kv_len=64, heads=4, head_dim=8, window=9),
    LinearAttention(
        batch=1, seq_len=np.array([1, 2, 640]), heads=2, key_dim=64, value_dim=np.array([[8], [9]])
    ),
    SelectiveScan(batch=np.array([1, 3]), seq_len=np.array([[1], [9]]), channels=64),
]


@pytest.mark.parametrize("work", ARRAYS, ids=lambda w: w.op)
def test_arrays_count_as_their_points(work):
    """Every entry of an array's cost is bit for bit the scalar's."""
    whole = count(work)
    fields = {k: v for k, v in work.to_dict().items() if k != "op"}
    for index in np.ndindex(work.shape):
        point = {
            k: int(np.broadcast_to(v, work.shape)[index]) if isinstance(v, list) else v
            for k, v in fields.items()
        }
        one = count(type(work)(**point))
        for name in ("flops_total", "bytes_total", "special", "depth"):
            at = np.broadcast_to(getattr(whole, name), work.shape)[index]
            assert at == getattr(one, name), (name, index)
