"""The Hopper rung of the delta rule, run on the host against the float64 oracle.

The emulator runs its TMA, mbarriers and wgmma as late as they may happen; the launches are the
launcher's own.
"""

from __future__ import annotations

import pytest

from perfmodel.workload import DeltaRule
from refkernels._check import generator, random_normal
from refkernels._matrix_state import empty_outputs
from refkernels.delta_rule import device
from refkernels.delta_rule import problem as delta

from . import emulator

RUNGS = device.RUNGS[2:]


@pytest.fixture
def on_hopper(monkeypatch):
    emulator.install(monkeypatch)


def arrays(batch, length, key_heads, heads, dk, dv, *, gated=True, gate=1.0):
    w = DeltaRule(
        batch=batch, seq_len=length, key_heads=key_heads, value_heads=heads, key_dim=dk,
        value_dim=dv, gated=gated,
    )  # fmt: skip
    return delta.random_arrays(generator(length + dk), w, gate=gate)


@pytest.mark.parametrize(
    "shape",
    [(2, 65, 1, 2, 64, 64), (1, 350, 2, 2, 64, 64), (1, 129, 1, 1, 128, 128)],
)
@pytest.mark.parametrize("gate", [0.05, 20.0, None])
@pytest.mark.parametrize("rung", RUNGS)
def test_chunks(on_hopper, shape, gate, rung):
    """No decay to e^-16 a step, from an initial state, more chunks than stages, ragged ends."""
    batch, _, _, heads, dk, dv = shape
    drawn = arrays(*shape, gated=gate is not None, gate=gate or 1.0)
    initial = random_normal(generator(1), (batch, heads, dk, dv))

    gate = delta.gate_delta(drawn, rung, initial=initial)

    assert gate.passed, gate


@pytest.mark.parametrize("rung", RUNGS)
def test_three_calls_are_one(on_hopper, rung):
    """States handed over at chunk boundaries give the one call's bits."""
    gate = delta.gate_three_calls(arrays(1, 160, 1, 1, 64, 64), rung)

    assert gate.passed, gate


@pytest.mark.parametrize("rung", device.RUNGS[3:])
@pytest.mark.parametrize(("heads", "launches"), [(32, 1), (64, 2)])
def test_one_launch_only_where_all_its_blocks_are_on_the_device_at_once(
    monkeypatch, on_hopper, heads, launches, rung
):
    """132 multiprocessors hold 64 walks and 68 blocks beside them; 128 walks fill them."""
    monkeypatch.setattr(device, "sm_count", lambda: 132)
    monkeypatch.setattr(device, "LEAST_PREPARERS", 32)
    monkeypatch.setattr(device, "device_capability", lambda: "90")
    x = device.bind(**arrays(1, 64, 8, heads, 128, 128))
    plan = device.prepare(x, *empty_outputs(x)[:1], rung=rung)

    assert len(plan.launches) == launches
    assert plan.launches[-1].grid[0] <= 132
