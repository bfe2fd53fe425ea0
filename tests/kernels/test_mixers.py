"""Selective scan, linear attention, delta rule and SSD: definitions, launch plans, CUDA gates."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.errors import BadValue, UnknownName
from perfmodel.ops import count
from perfmodel.workload import DeltaRule, Gemm, LinearAttention, SelectiveScan, Ssd
from refkernels._matrix_state import CHUNK, check_dims
from refkernels._mixer_work import work
from refkernels.delta_rule import host as delta_host
from refkernels.delta_rule import naive as delta
from refkernels.gla import device as gla_device
from refkernels.gla import naive as gla
from refkernels.gla import oracle as gla_oracle
from refkernels.gla.sequence import Sequence
from refkernels.selective_scan import device as scan_device
from refkernels.selective_scan import naive as scan
from refkernels.selective_scan import oracle
from refkernels.selective_scan.problem import random_inputs, widened
from refkernels.ssd import naive as ssd


def scan_inputs(length=2, **more):
    """One channel, one state: u = 3, delta = ln(e - 1) (so dt = 1), A = -ln 2, B = 2, C = 5."""
    one = np.ones((1, 1, length))
    inputs = {
        "u": 3 * one, "delta": np.log(np.e - 1) * one, "a": np.full((1, 1), -np.log(2)),
        "b": 2 * one[:, None], "c": 5 * one[:, None],
    }  # fmt: skip
    return scan.Inputs(**(inputs | more))


def test_scan_by_hand():
    """h_1 = 1 * 3 * 2 = 6, h_2 = 6 / 2 + 6 = 9; y = 5 h + 0.5 u."""
    y, h = scan.selective_scan(scan_inputs(skip=np.array([0.5])))

    assert y.ravel() == pytest.approx([31.5, 46.5])
    assert h.ravel() == pytest.approx([9.0])


def test_scan_gate_bias_and_no_softplus():
    """silu(0) = 0 silences the output; without softplus dt is delta + bias = 1."""
    zeros = np.zeros((1, 1, 2))
    y, h = scan.selective_scan(scan_inputs(delta=zeros, bias=np.ones(1), softplus=False, z=zeros))

    assert (y == 0).all()
    assert h.ravel() == pytest.approx([9.0])


def test_zero_steps_keep_the_state():
    """dt = 0: no decay, no input."""
    x = scan_inputs(delta=np.zeros((1, 1, 2)), softplus=False)
    _, h = scan.selective_scan(x, np.full((1, 1, 1), 4.0))

    assert h.ravel() == [4.0]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_compiled_oracle_is_the_naive_one(dtype):
    """Groups, a gate, an initial state, some of the channels: equal to rounding in float64."""
    w = SelectiveScan(batch=2, seq_len=33, channels=6, state=4, groups=2, dtype=dtype)
    x = random_inputs(np.random.default_rng(0), w)
    initial = np.random.default_rng(1).normal(size=(2, 6, 4))
    some = np.array([0, 2, 3, 5])

    out, h = oracle.selective_scan(x, some, initial, dtype)
    y, state = scan.selective_scan(widened(x, dtype), initial)

    assert out == pytest.approx(y[:, some], rel=1e-12)
    assert h == pytest.approx(state[:, some], rel=1e-12)


def test_linear_attention_by_hand():
    """dk = dv = 1, gate ln 0.5: S = 2, then 1 + 2 = 3; o = scale q S = 0.5 * 4 * S."""
    ones = np.ones((1, 2, 1, 1))
    o, state = gla.gla(4 * ones, 2 * ones, ones, np.log(0.5) * ones, scale=0.5)

    assert o.ravel() == pytest.approx([4.0, 6.0])
    assert state.ravel() == pytest.approx([3.0])


def test_a_scalar_gate_is_a_vector_of_equal_gates():
    """And no gate is a gate of 0."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 1, 5, 2, 4))
    g = -rng.uniform(size=(1, 5, 2))
    wide = np.repeat(g[..., None], 4, axis=-1)

    assert gla.gla(q, k, v, g)[0] == pytest.approx(gla.gla(q, k, v, wide)[0])
    assert gla.gla(q, k, v)[0] == pytest.approx(gla.gla(q, k, v, 0 * g)[0])


@pytest.mark.parametrize("gate", ["vector", "scalar", "none"])
@pytest.mark.parametrize("length", [1, 32, 75])
def test_chunks_in_float64_are_the_recurrence(gate, length):
    """The oracle of long sequences equals the definition, for slow and for strong decays."""
    rng = np.random.default_rng(2)
    q, k = rng.normal(size=(2, 2, length, 3, 8))
    v, initial = rng.normal(size=(2, length, 3, 4)), rng.normal(size=(2, 3, 8, 4))
    for strength in (0.01, 1.0, 30.0):
        g = -strength * rng.uniform(size=q.shape)
        gates = {"vector": g, "scalar": g[..., 0], "none": None}[gate]
        o, state = gla_oracle.gla(q, k, v, gates, initial=initial)
        exact, last = gla.gla(q, k, v, gates, initial=initial)
        assert o == pytest.approx(exact, rel=1e-9, abs=1e-12)
        assert state == pytest.approx(last, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("batch", "heads", "length", "segments"),
    [(2, 16, 8192, 4), (1, 16, 16384, 8), (1, 96, 8192, 1), (1, 1, 1024, 2), (1, 200, 64, 1)],
)
def test_segments_fill_one_turn_of_the_chip(batch, heads, length, segments):
    """As many segments as 132 SMs hold blocks of all heads, none shorter than 512 tokens."""
    empty = np.empty((batch, length, heads, 128), np.uint16)
    x = Sequence(q=empty, k=empty, v=empty, g=empty, scale=1.0)

    tokens = gla_device.hopper_segment(x, 132)

    assert tokens % CHUNK == 0
    assert -(-length // tokens) == segments


def test_ssd_is_a_scan_whose_channels_share_their_decay():
    """SSD with P channels per head equals a selective scan with A and dt repeated over them."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 6, 2, 3))
    delta, a = rng.normal(size=(1, 6, 2)), -rng.uniform(size=2)
    b, c = rng.normal(size=(2, 1, 6, 1, 4))
    y, h = ssd.ssd(ssd.Inputs(x=x, delta=delta, a=a, b=b, c=c))
    same = scan.Inputs(
        u=x.reshape(1, 6, 6).transpose(0, 2, 1),
        delta=np.repeat(delta, 3, axis=2).transpose(0, 2, 1),
        a=np.repeat(a, 3)[:, None] * np.ones(4),
        b=b.transpose(0, 2, 3, 1),
        c=c.transpose(0, 2, 3, 1),
    )
    expected, state = scan.selective_scan(same)

    assert y.reshape(1, 6, 6).transpose(0, 2, 1) == pytest.approx(expected)
    assert h.transpose(0, 1, 3, 2).reshape(1, 6, 4) == pytest.approx(state)


def delta_inputs(rng, heads=2, key_heads=2, length=6, dk=8, dv=4):
    q, k = rng.normal(size=(2, 1, length, key_heads, dk))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    beta, g = rng.uniform(size=(2, 1, length, heads))
    return q, k, rng.normal(size=(1, length, heads, dv)), beta, -g


def test_delta_rule_by_hand():
    """k = 1: v = 8, beta = 1/2: S = 4; then gate 1/2: S = 2, error (6 - 2) / 2: S = 4; o = q S."""
    ones = np.ones((1, 2, 1, 1))
    v = np.array([8.0, 6.0]).reshape(1, 2, 1, 1)
    g = np.log([1.0, 0.5]).reshape(1, 2, 1)
    o, state = delta.delta_rule(3 * ones, ones, v, np.full((1, 2, 1), 0.5), g, scale=1.0)

    assert o.ravel() == pytest.approx([12.0, 12.0])
    assert state.ravel() == pytest.approx([4.0])


def test_a_key_written_again_keeps_the_last_value():
    """beta = 1 replaces what was stored under the key: the state has v_2 there, not v_1 + v_2."""
    rng = np.random.default_rng(2)
    _, k, v, beta, _ = delta_inputs(rng, length=2)
    k[:, 1] = k[:, 0]
    _, state = delta.delta_rule(k, k, v, np.ones_like(beta))

    assert np.einsum("hk,hkv->hv", k[0, 1], state[0]) == pytest.approx(v[0, 1])


def test_delta_rule_of_orthogonal_keys_is_linear_attention():
    """Nothing is stored under a new direction, so nothing is taken away: v is scaled by beta."""
    rng = np.random.default_rng(3)
    q, k, v, beta, g = delta_inputs(rng, length=8)
    k[0] = np.linalg.qr(rng.normal(size=(2, 8, 8)))[0].transpose(1, 0, 2)
    o, state = delta.delta_rule(q, k, v, beta, g)
    same, end = gla.gla(q, k, beta[..., None] * v, g)

    assert o == pytest.approx(same)
    assert state == pytest.approx(end)


def test_grouped_keys_are_repeated_keys():
    """Value heads 0-2 use key head 0, 3-5 key head 1; no gate is a gate of 0."""
    rng = np.random.default_rng(4)
    q, k, v, beta, g = delta_inputs(rng, heads=6)
    wide = [np.repeat(x, 3, axis=2) for x in (q, k)]

    assert (delta.delta_rule(q, k, v, beta, g)[0] == delta.delta_rule(*wide, v, beta, g)[0]).all()
    assert (delta.delta_rule(q, k, v, beta)[0] == delta.delta_rule(q, k, v, beta, 0 * g)[0]).all()


def test_delta_rule_on_the_host_starts_from_a_state():
    """Two calls of the numba kernel are one; grouped keys, gates."""
    rng = np.random.default_rng(5)
    x = [a.astype(np.float32) for a in delta_inputs(rng, heads=4)]
    o, state = delta_host.delta_rule(*x)
    first, middle = delta_host.delta_rule(*(a[:, :4] for a in x))
    rest, end = delta_host.delta_rule(*(a[:, 4:] for a in x), initial=middle)

    assert np.concatenate([first, rest], axis=1) == pytest.approx(o)
    assert end == pytest.approx(state)


@pytest.mark.parametrize("gated", [True, False])
def test_compiled_delta_rule_in_fp64_is_the_definition(gated):
    """What gates hold kernels to agrees with ``naive`` to rounding, from a state, with groups."""
    rng = np.random.default_rng(6)
    q, k, v, beta, g = delta_inputs(rng, heads=4, length=9)
    g = g if gated else None
    initial = rng.normal(size=(1, 4, 8, 4))
    o, state = delta_host.delta_rule(q, k, v, beta, g, initial=initial)
    expected, end = delta.delta_rule(q, k, v, beta, g, initial=initial)

    assert o.dtype == np.float64
    assert o == pytest.approx(expected, rel=1e-12, abs=1e-13)
    assert state == pytest.approx(end, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: scan.check_shapes(scan_inputs(skip=np.ones(2))), "skip"),
        (lambda: gla.check_shapes(*np.zeros((2, 1, 2, 1, 4)), np.zeros((1, 3, 1, 4)), None), "v"),
        (lambda: check_dims(96, 64), "q"),
        (lambda: check_dims(64, 100), "v"),
        (lambda: delta.check_shapes(*np.zeros((2, 1, 2, 2, 4)), np.zeros((1, 2, 3, 4)), 0, 0), "v"),
        (lambda: delta.check_shapes(*np.zeros((3, 1, 2, 1, 4)), np.zeros((1, 2)), None), "beta"),
    ],
)
def test_shapes_that_do_not_belong_together_are_named(call, field):
    """One message that names the array."""
    with pytest.raises(BadValue) as refused:
        call()
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("batch", "channels", "states", "lanes"),
    # 132 SMs want 26,400 threads: 8 x 4096 channels have them; 4096 need 8 lanes; N = 8 has 4 at
    # most (two states a lane), N = 64 takes 4 at least (16 states a lane).
    [(8, 4096, 16, 1), (4, 4096, 16, 2), (1, 4096, 16, 8), (1, 4096, 8, 4), (8, 4096, 64, 4)],
)
def test_lanes_fill_the_chip_and_no_more(batch, channels, states, lanes):
    """States are split over lanes only where channels leave multiprocessors short of warps."""
    assert scan_device.lanes_per_channel(batch, channels, states, "bf16", 132) == lanes


@pytest.mark.parametrize(
    ("batch", "channels", "states", "turns"),
    # 132 SMs want 1,584 warps of 8 channels: 4 x 4096 channels are 2,048; one 4096 is 512, which
    # 4 warps a unit make 2,048 again. With more than 16 states a warp stays alone, with 8 it has
    # 16 channels.
    [(8, 4096, 16, 1), (4, 4096, 16, 1), (1, 4096, 16, 4), (1, 40, 8, 8), (1, 4096, 64, 1)],
)
def test_warps_take_turns_where_channels_are_few(batch, channels, states, turns):
    """No more warps share a unit of channels than the chip has room for."""
    units = batch * -(-channels // scan_device.unit_channels(states))

    assert scan_device.turns_of_warps(units, states, 132) == turns


def test_16_bit_data_run_on_tensor_cores_and_fp32_does_not():
    """11 bits of the state reach an output of rung 4."""
    assert scan_device.best_rung("bf16") == scan_device.best_rung("fp16") == scan_device.RUNGS[3]
    assert scan_device.best_rung("fp32") == scan_device.RUNGS[2]


def test_the_sequence_is_split_last():
    """4096 channels on 8 lanes fill 132 SMs: one segment; 256 channels do not: 13 of them."""
    assert scan_device.segment_tokens(4096 * 8, 65536, 132) == 65536
    tokens = scan_device.segment_tokens(256 * 8, 65536, 132)
    assert tokens % 64 == 0
    assert -(-65536 // tokens) == 13


@pytest.mark.parametrize(
    "w",
    [
        SelectiveScan(batch=8, seq_len=2048, channels=4096),
        SelectiveScan(batch=3, seq_len=1, channels=64, state=8, gated=False),
        LinearAttention(batch=2, seq_len=8192, heads=16, key_dim=128, value_dim=128),
        LinearAttention(batch=2, seq_len=1, heads=2, key_dim=64, value_dim=128, gate="scalar"),
        DeltaRule(batch=1, seq_len=8192, key_heads=8, value_heads=32, key_dim=128, value_dim=64),
        DeltaRule(batch=1, seq_len=50, key_heads=2, key_dim=64, value_dim=128, gated=False),
        DeltaRule(batch=3, seq_len=1, key_heads=2, value_heads=4, key_dim=64, value_dim=64),
        Ssd(batch=8, seq_len=4096, heads=80, chunk=64),
        Ssd(batch=8, seq_len=1, heads=80),
    ],
)
def test_reported_work_is_the_models(w):
    """FLOPs and bytes in reports are those that the model counts."""
    cost = count(w)

    assert work(w).flops == pytest.approx(float(cost.flops_total))
    assert work(w).moved_bytes == pytest.approx(float(cost.bytes_total))


def test_work_of_other_operators_is_refused():
    """A product is no mixer."""
    with pytest.raises(UnknownName):
        work(Gemm(m=1, n=1, k=1, dtype="bf16"))


@pytest.mark.gpu
@pytest.mark.parametrize("operator", ["selective_scan", "gla", "delta_rule", "ssd"])
def test_first_random_cases_pass(operator):
    """Thirty of the benchmark's random cases on the device, every rung among them."""
    from itertools import islice

    from refkernels._mixer_sweeps import SWEEPS

    for label, gate in islice(SWEEPS[operator](), 30):
        assert gate.passed, (label, gate)
