"""The mixers' CUDA kernels, run thread by thread on the processor, against the float64 oracles.

The emulation executes the ``.cu`` files themselves with the launcher's own grids, structs and
shared memory; what it cannot show is timing and memory ordering.
"""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.workload import DeltaRule, LinearAttention, SelectiveScan, Ssd
from refkernels._check import (
    generator,
    judge,
    narrow_bf16,
    random_normal,
    relative_rms,
    widen,
)
from refkernels._matrix_state import empty_outputs
from refkernels._mixer_problem import worse
from refkernels.delta_rule import device as delta_device
from refkernels.delta_rule import problem as delta
from refkernels.gla import device as gla_device
from refkernels.gla import problem as gla
from refkernels.selective_scan import device as scan_device
from refkernels.selective_scan import problem as scan
from refkernels.ssd import problem as ssd

from . import emulator


@pytest.fixture(params=[0, 1], ids=["upwards", "downwards"])
def order(request):
    return request.param


def scan_inputs(batch, length, channels, states, groups, dtype, *, gated=True, **more):
    w = SelectiveScan(
        batch=batch, seq_len=length, channels=channels, state=states, groups=groups, dtype=dtype,
        gated=gated,
    )  # fmt: skip
    return scan.random_inputs(generator(length), w, **more)


# ---------------------------------------------------------------- selective scan


@pytest.mark.parametrize(
    ("rung", "lanes", "shape"),
    [
        ("01_channel_per_thread", None, (2, 65, 5, 16, 1, "bf16")),
        ("02_shared_groups", None, (2, 130, 100, 16, 2, "bf16")),
        ("03_state_lanes", 8, (1, 65, 5, 16, 1, "fp32")),
        ("03_state_lanes", 2, (1, 64, 70, 16, 1, "bf16")),
        ("03_state_lanes", 4, (1, 63, 40, 8, 2, "fp16")),
        ("03_state_lanes", 8, (1, 129, 20, 64, 2, "bf16")),
    ],
)
def test_scan_rung(monkeypatch, order, rung, lanes, shape):
    """Every rung, lanes of 1 to 8, ragged channels and lengths, an initial state."""
    emulator.install(monkeypatch, order)
    x = scan_inputs(*shape)
    initial = random_normal(generator(1), scan_device.state_shape(x))

    gate = scan.gate_scan(x, shape[-1], rung, initial, lanes=lanes)

    assert gate.passed, gate


@pytest.mark.parametrize(
    ("turns", "shape"),
    [
        (1, (2, 65, 5, 16, 1, "bf16")),
        (1, (1, 130, 40, 16, 2, "bf16")),
        (1, (1, 48, 130, 32, 1, "fp16")),
        (1, (1, 37, 16, 64, 1, "bf16")),
        (2, (1, 72, 33, 16, 1, "fp16")),
        (4, (1, 100, 20, 8, 1, "bf16")),
        (8, (2, 129, 40, 16, 2, "bf16")),
        (8, (1, 1, 3, 16, 1, "bf16")),
    ],
)
@pytest.mark.parametrize("strong", [False, True])
def test_scan_by_outer_products(monkeypatch, order, turns, shape, strong):
    """Warps alone and in turns, both kinds of rows, ragged channels and lengths."""
    emulator.install(monkeypatch, order)
    x = scan_inputs(*shape, strong=strong)
    initial = random_normal(generator(1), scan_device.state_shape(x))

    gate = scan.gate_scan(x, shape[-1], "04_outer_products", initial, turns=turns)

    assert gate.passed, gate


@pytest.mark.parametrize(
    ("turns", "warps", "shape"),
    [(4, 16, (2, 333, 30, 16, 1, "fp16")), (8, 16, (1, 400, 24, 8, 2, "bf16"))],
)
def test_outer_products_in_step(monkeypatch, turns, warps, shape):
    """Blocks of a whole SM's warps, some of them without channels, keep step to a ragged end."""
    emulator.install(monkeypatch)
    x = scan_inputs(*shape)
    initial = random_normal(generator(1), scan_device.state_shape(x))

    gate = scan.gate_scan(x, shape[-1], "04_outer_products", initial, turns=turns, warps=warps)

    assert gate.passed, gate


@pytest.mark.parametrize("turns", [1, 4])
def test_outer_products_without_optional_parts(monkeypatch, turns):
    """No gate, no skip, no bias, no softplus, no initial state; zero steps keep the state."""
    emulator.install(monkeypatch)
    full = scan_inputs(1, 40, 12, 16, 1, "bf16", gated=False)
    some = scan.with_zero_steps(full, "bf16")
    x = scan.Inputs(u=some.u, delta=some.delta, a=some.a, b=some.b, c=some.c, softplus=False)

    assert scan.gate_scan(x, "bf16", "04_outer_products", turns=turns).passed


@pytest.mark.parametrize("strong", [False, True])
def test_scan_in_segments(monkeypatch, strong):
    """Three segments give what one walk gives, with slow and with strong decays."""
    emulator.install(monkeypatch)
    x = scan_inputs(1, 170, 20, 16, 1, "fp32", strong=strong)
    initial = random_normal(generator(1), scan_device.state_shape(x))

    gate = scan.gate_scan(x, "fp32", "03_state_lanes", initial, lanes=8, segment=64)

    assert gate.passed, gate


def test_scan_without_optional_parts(monkeypatch):
    """No gate, no skip, no bias, no softplus, no initial state; zero steps keep the state."""
    emulator.install(monkeypatch)
    full = scan_inputs(1, 40, 12, 16, 1, "fp32", gated=False)
    x = scan.Inputs(
        u=full.u, delta=np.abs(full.delta) * np.float32(0.1), a=full.a, b=full.b, c=full.c,
        softplus=False,
    )  # fmt: skip
    x.delta[:, :, 10:] = 0

    assert scan.gate_scan(x, "fp32", "02_shared_groups").passed


@pytest.mark.parametrize("rung", scan_device.RUNGS)
def test_three_scans_are_one(monkeypatch, rung):
    """States handed over at multiples of 64 tokens give the one call's bits."""
    emulator.install(monkeypatch)

    gate = scan.gate_three_calls(scan_inputs(1, 170, 20, 16, 1, "bf16"), "bf16", rung)

    assert gate.passed, gate


@pytest.mark.parametrize(("batch", "channels", "states"), [(1, 5, 16), (3, 70, 64), (2, 33, 8)])
def test_scan_step(monkeypatch, batch, channels, states):
    """The decode step, states changed in place."""
    emulator.install(monkeypatch)
    w = SelectiveScan(batch=batch, seq_len=1, channels=channels, state=states)

    gate = scan.StepProblem(w, 3, 1).gate()

    assert gate.passed, gate


# ---------------------------------------------------------------- gated linear attention


def gla_arrays(batch, length, heads, dk, dv, kind, gate):
    w = LinearAttention(
        batch=batch, seq_len=length, heads=heads, key_dim=dk, value_dim=dv, gate=kind
    )
    return gla.random_arrays(generator(length + dk), w, gate=gate)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 64, 1, 64, 64), "vector"),
        ((2, 65, 2, 64, 64), "vector"),
        ((1, 129, 1, 128, 128), "vector"),
        ((1, 130, 2, 64, 64), "scalar"),
        ((1, 63, 1, 128, 256), "scalar"),
        ((1, 65, 2, 64, 64), "none"),
    ],
)
@pytest.mark.parametrize("strength", [0.05, 1.0, 20.0])
def test_gla_chunks(monkeypatch, shape, kind, strength):
    """One pass over chunks, from nearly no decay to e^-16 a step, with an initial state."""
    emulator.install(monkeypatch, downwards=strength == 1.0)
    batch, _, heads, dk, dv = shape
    initial = random_normal(generator(1), (batch, heads, dk, dv))

    gate = gla.gate_gla(gla_arrays(*shape, kind, strength), "02_chunk", initial=initial)

    assert gate.passed, gate


@pytest.mark.parametrize("kind", ["vector", "scalar"])
@pytest.mark.parametrize("dims", [(64, 64), (128, 128)])
def test_gla_segments(monkeypatch, kind, dims):
    """Segments of one and two chunks: the carried states are the walked ones."""
    emulator.install(monkeypatch)
    arrays = gla_arrays(1, 193, 1, *dims, kind, 0.2)
    initial = random_normal(generator(1), (1, 1, *dims))

    for segment in (64, 128):
        gate = gla.gate_gla(arrays, "03_segments", initial=initial, segment=segment)
        assert gate.passed, gate


@pytest.mark.parametrize("kind", ["vector", "scalar"])
def test_three_glas_are_one(monkeypatch, kind):
    """States handed over at chunk boundaries give the one call's bits."""
    emulator.install(monkeypatch)
    arrays = gla_arrays(1, 160, 1, 64, 64, kind, 1.0)
    whole, last = gla_device.gla(**arrays, rung="02_chunk")
    parts, state = [], None
    for cut in (slice(0, 64), slice(64, 128), slice(128, 160)):
        piece = {name: x[:, cut].copy() for name, x in arrays.items()}
        out, state = gla_device.gla(**piece, initial=state, rung="02_chunk")
        parts.append(out)

    assert (np.concatenate(parts, axis=1) == whole).all()
    assert (state == last).all()


def test_strong_gates_in_one_half_of_the_key_dimensions(monkeypatch):
    """A strong sub-chunk in one warp's dimensions only: both warps of the pair add pair by pair."""
    emulator.install(monkeypatch)
    arrays = gla_arrays(1, 64, 1, 128, 128, "vector", 1.0)
    strong = gla_arrays(1, 64, 1, 128, 128, "vector", 20.0)
    arrays["g"][:, 16:32, :, 70:80] = strong["g"][:, 16:32, :, 70:80]

    gate = gla.gate_gla(arrays, "02_chunk")

    assert gate.passed, gate


@pytest.mark.parametrize("kind", ["vector", "scalar", "none"])
def test_gla_token_by_token(monkeypatch, kind):
    """The recurrent kernel over a few tokens, columns that do not fill a block."""
    emulator.install(monkeypatch)

    gate = gla.gate_gla(gla_arrays(2, 5, 2, 64, 192, kind, 1.0), None)

    assert gate.passed, gate


# ---------------------------------------------------------------- delta rule


def delta_arrays(batch, length, key_heads, heads, dk, dv, gate):
    w = DeltaRule(
        batch=batch, seq_len=length, key_heads=key_heads, value_heads=heads, key_dim=dk,
        value_dim=dv, gated=gate is not None,
    )  # fmt: skip
    return delta.random_arrays(generator(length + dk), w, gate=gate or 1.0)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 64, 1, 1, 64, 64),
        (2, 65, 1, 2, 64, 64),
        (1, 130, 2, 2, 64, 128),
        (1, 63, 1, 5, 128, 64),
        (1, 17, 1, 1, 128, 192),
    ],
)
@pytest.mark.parametrize("gate", [None, 0.05, 20.0])
def test_delta_chunks(monkeypatch, shape, gate):
    """T and A, then the walk: one to five heads on a key, ragged ends, an initial state."""
    emulator.install(monkeypatch, downwards=gate is None)
    monkeypatch.setattr(delta, "CHECKED_GROUPS", shape[2])
    batch, _, _, heads, dk, dv = shape
    initial = random_normal(generator(1), (batch, heads, dk, dv))

    gate = delta.gate_delta(delta_arrays(*shape, gate), "02_chunk", initial=initial)

    assert gate.passed, gate


def test_delta_keys_that_resemble_each_other(monkeypatch):
    """The state stays within its tolerance where T is a small difference of large numbers."""
    emulator.install(monkeypatch)
    arrays = delta_arrays(1, 128, 1, 1, 64, 64, 0.05)
    near = widen(arrays["k"], "bf16") + random_normal(generator(2), (1, 1, 1, 64), scale=0.1)
    arrays["k"] = narrow_bf16(near / np.linalg.norm(near, axis=-1, keepdims=True))
    _, state = delta_device.delta_rule(**arrays, rung="02_chunk")
    _, expected = delta.naive.delta_rule(**delta.head_slice(arrays, 1))

    assert judge("delta_rule", "state", state, expected).passed


def test_three_delta_calls_are_one(monkeypatch):
    """States handed over at chunk boundaries give the one call's bits."""
    emulator.install(monkeypatch)

    gate = delta.gate_three_calls(delta_arrays(1, 160, 1, 1, 64, 64, 1.0), "02_chunk")

    assert gate.passed, gate


@pytest.mark.parametrize("shape", [(2, 5, 1, 2, 64, 192), (1, 15, 2, 2, 128, 64)])
@pytest.mark.parametrize("gate", [None, 1.0, 20.0])
def test_delta_token_by_token(monkeypatch, shape, gate):
    """Sequences too short for a chunk, from zeros and from a state."""
    emulator.install(monkeypatch, downwards=gate is None)
    batch, _, _, heads, dk, dv = shape
    initial = random_normal(generator(1), (batch, heads, dk, dv)) if gate else None

    gate = delta.gate_delta(delta_arrays(*shape, gate), None, initial=initial)

    assert gate.passed, gate


def test_delta_step_in_place(monkeypatch):
    """The decode step writes the state that it read."""
    emulator.install(monkeypatch)
    arrays = delta_arrays(2, 1, 1, 2, 64, 64, 1.0)
    state = random_normal(generator(1), (2, 2, 64, 64))
    before = state.copy()
    x = delta_device.bind(**arrays, initial=state)
    out, _ = empty_outputs(x)
    delta_device.prepare(x, out, final=state)()
    o, after = delta.naive.delta_rule(**delta.head_slice(arrays, 1), initial=before)

    assert worse("delta_rule", widen(out, "bf16"), o, state, after).passed


# ---------------------------------------------------------------- SSD


@pytest.mark.parametrize(
    ("heads", "groups", "states", "length"), [(4, 1, 128, 65), (4, 2, 128, 130), (3, 1, 64, 70)]
)
@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("rung", ["02_chunk", "01_recurrent"])
def test_ssd(monkeypatch, heads, groups, states, length, strong, rung):
    """Two heads a block where they share B and C, one where they do not; strong decays."""
    emulator.install(monkeypatch)
    w = Ssd(batch=1, seq_len=length, heads=heads, state=states, groups=groups)
    s = ssd.random_inputs(generator(heads), w, strong=strong)
    initial = random_normal(generator(1), (1, heads, states, 64))

    gate = ssd.gate_ssd(s, rung, initial)

    assert gate.passed, gate


def test_ssd_segments(monkeypatch):
    """A long SSD on few blocks is cut by the launcher itself."""
    emulator.install(monkeypatch)
    monkeypatch.setattr(gla_device, "SEGMENT_TOKENS", 64)
    w = Ssd(batch=1, seq_len=200, heads=2, state=128)
    s = ssd.random_inputs(generator(5), w)

    assert ssd.gate_ssd(s, None).passed


# ---------------------------------------------------------------- the polynomials


LOG1P = (
    -0.0087789558, 0.0449866436, -0.1090229135, 0.1784720847, -0.2453686627, 0.3328406383,
    -0.4999818035, 1.0,
)  # fmt: skip
LOG1P_16_BITS = (-0.0247331633, 0.1035890214, -0.2124007592, 0.3262246653, -0.4995392556, 1.0)


def fma(a, b, c):
    """``a b + c`` of fp32 values, rounded once."""
    return (np.asarray(a, np.float64) * b + c).astype(np.float32)


@pytest.mark.parametrize(("coefficients", "most"), [(LOG1P, 5e-7), (LOG1P_16_BITS, 1.05e-5)])
def test_softplus_keeps_the_digits_of_small_steps(coefficients, most):
    """In fp32 as the kernel has it, close to log(1 + e^x), relative, from e^-80 up."""
    x = np.linspace(-80.0, 60.0, 280_001, dtype=np.float32)
    w = np.exp(-np.abs(x.astype(np.float64))).astype(np.float32)
    p = np.full_like(w, np.float32(coefficients[0]))
    for c in coefficients[1:]:
        p = fma(w, p, np.float32(c))
    got = fma(w, p, np.maximum(x, 0)).astype(np.float64)
    exact = np.logaddexp(0.0, x.astype(np.float64))

    assert (np.abs(got / exact - 1) < most).all()


def test_polynomials_are_those_in_the_source():
    """The coefficients tested above are those of the kernel."""
    from refkernels._sources import kernel_source

    folder = kernel_source("selective_scan/04_outer_products.cu").parent
    text = (folder / "problem.cuh").read_text()
    assert all(f"{c:.10f}f" in text for c in (*LOG1P[:-1], *LOG1P_16_BITS[:-1]))


def test_relative_rms_of_bf16_rounding_is_what_the_tolerance_says():
    """One rounding to bf16 of normal values is 1.7e-3 relative at most: three fit in 5e-3."""
    x = random_normal(generator(0), (10_000,))

    assert 1e-3 < relative_rms(widen(scan.narrowed(x, "bf16"), "bf16"), x) < 1.8e-3
