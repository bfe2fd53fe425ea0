"""Laws of bounds and estimates, for every operator, on devices of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.catalog import using_specs
from perfmodel.errors import PerfModelError, UnsupportedDtype
from perfmodel.hw.load import load_device
from perfmodel.ops import count
from perfmodel.roofline.bounds import lower_bound
from perfmodel.roofline.choice import kernel_class
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.time import estimate
from perfmodel.workload import (
    Attention,
    Collective,
    Conv,
    DeltaRule,
    Elementwise,
    Gemm,
    LinearAttention,
    Norm,
    SelectiveScan,
    Ssd,
    Workload,
)

GPUS = ["a100-sxm-80gb", "h100-sxm-80gb", "l40s"]
OTHERS = ["mi300x", "tpu-v5e", "xeon-8480plus", "stm32f746", "apple-m2-pro-gpu"]
small, sizes = st.integers(1, 64), st.integers(1, 8192)

gemms = st.builds(
    Gemm,
    m=sizes,
    n=sizes,
    k=sizes,
    dtype=st.sampled_from(["bf16", "int8", "fp32"]),
    weight_dtype=st.sampled_from([None, "int4"]),
)
attentions = st.builds(
    lambda batch, q, past, kv_heads, group, window, score: Attention(
        batch=batch,
        q_len=q,
        kv_len=q + past,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=128,
        window=window,
        score=score,
    ),
    small,
    st.one_of(st.just(1), sizes),
    sizes,
    st.integers(1, 16),
    st.integers(1, 16),
    st.one_of(st.none(), sizes),
    st.sampled_from(["softmax", "sigmoid"]),
)
lengths = st.one_of(st.just(1), sizes)
mixers = st.one_of(
    st.builds(
        LinearAttention,
        batch=small,
        seq_len=lengths,
        heads=small,
        key_dim=st.just(128),
        value_dim=st.just(128),
        gate=st.sampled_from(["vector", "scalar", "none"]),
    ),
    st.builds(
        DeltaRule,
        batch=small,
        seq_len=lengths,
        key_heads=small,
        key_dim=st.just(128),
        value_dim=st.just(128),
        gated=st.booleans(),
    ),
    st.builds(SelectiveScan, batch=small, seq_len=lengths, channels=sizes, gated=st.booleans()),
    st.builds(Ssd, batch=small, seq_len=lengths, heads=small),
)
pointwise = st.one_of(
    st.builds(Norm, rows=sizes, cols=sizes, kind=st.sampled_from(["rms", "layer", "softmax"])),
    st.builds(
        Elementwise,
        elements=st.integers(1, 10**8),
        reads=st.floats(0, 4),
        flops=st.floats(0, 50),
        special=st.floats(0, 4),
    ),
)
convs = st.builds(
    lambda batch, channels, width, kernel, depthwise: Conv(
        batch=batch,
        in_channels=channels,
        out_channels=channels,
        width=width,
        kernel_w=kernel,
        groups=channels if depthwise else 1,
    ),
    small,
    sizes,
    sizes,
    st.integers(1, 7),
    st.booleans(),
)
collectives = st.builds(
    Collective,
    bytes=st.integers(1, 10**10),
    ranks=st.integers(1, 8),
    kind=st.sampled_from(["all_reduce", "all_gather", "all_to_all", "send_recv"]),
)
workloads = st.one_of(gemms, attentions, mixers, pointwise, convs, collectives)


@pytest.fixture(scope="module", autouse=True)
def neutral_specs(tmp_path_factory):
    """Every class calibrated with its neutral values, so that laws do not hang on a fit."""
    folder = tmp_path_factory.mktemp("specs")
    (folder / "calibration").mkdir()
    for model in CLASS_MODELS.values():
        lines = ["[parameters]"]
        lines += [
            f'{p.name} = {{ value = {p.start!r}, unit = "{p.unit}" }}' for p in model.parameters
        ]
        lines += ["[fit]", 'data = ["none"]', 'date = "2026-01-01"', "rows = 1"]
        lines += ['devices = ["neutral"]', 'vendors = ["NVIDIA"]', "covers = []", "factor = 1.0"]
        lines += ["[residuals]", "coverage = 0.9", "low = 0.8", "high = 1.25"]
        (folder / "calibration" / f"{model.name}.toml").write_text("\n".join(lines) + "\n")
    with using_specs(folder):
        yield


@pytest.mark.parametrize("name", GPUS)
@given(work=workloads)
def test_lower_bound_estimate_and_interval_are_in_order(name, work):
    """0 <= lower bound <= low <= time <= high, all finite."""
    found = estimate(work, load_device(name))
    times = [found.lower_bound_s, found.low_s, found.time_s, found.high_s]
    assert np.all(np.isfinite(times))
    assert times[0] >= 0
    assert times == sorted(times)


@pytest.mark.parametrize("name", OTHERS)
@given(work=workloads)
def test_every_kind_of_device_answers_or_refuses(name, work):
    """A TPU, a CPU, a microcontroller: an ordered analytic answer, or a typed refusal."""
    found = None
    try:
        found = estimate(work, load_device(name))
    except PerfModelError as refusal:
        named = refusal.field
    if found is None:
        assert named
        return
    assert found.source == "analytic"
    times = [found.lower_bound_s, found.low_s, found.time_s, found.high_s]
    assert np.all(np.isfinite(times))
    assert times == sorted(times)


@given(work=workloads)
def test_class_models_stay_above_physics_unaided(work):
    """The formulas themselves, at neutral values, lie above the bound of their own roofs."""
    device = load_device("a100-sxm-80gb")
    cls = CLASS_MODELS[kernel_class(work)]
    from perfmodel.roofline.classes import Run

    bound = lower_bound(count(work), device)
    modelled = {
        "pointwise": ("memory",),
        "collective": (),
        "attention_prefill": ("tensor", "memory"),
    }.get(cls.name, tuple(bound.roofs))
    time_s = cls.predict(work, device, cls.start, Run()).time_s
    assert all(time_s >= bound.roofs.get(name, 0.0) * (1 - 1e-12) for name in modelled)


@given(work=workloads)
def test_never_below_compulsory_traffic(work):
    """Bytes over bandwidth bound every cold operator from below."""
    device = load_device("h100-sxm-80gb")
    floor = count(work).bytes_total / device.memory.bandwidth_bytes_per_s
    assert lower_bound(count(work), device).time_s >= floor
    assert estimate(work, device).time_s >= floor


@given(work=workloads)
def test_twice_the_device_halves_the_bound(work):
    """Every peak doubled: the lower bound is half, exactly."""
    device = load_device("h100-sxm-80gb")
    assert lower_bound(count(work), doubled(device)).time_s * 2 == pytest.approx(
        lower_bound(count(work), device).time_s, rel=1e-15
    )


def doubled(device):
    compute = replace(
        device.compute,
        peaks={k: 2 * v for k, v in device.compute.peaks.items()},
        special_per_s=2 * device.compute.special_per_s,
    )
    levels = tuple(
        replace(x, bandwidth_bytes_per_s=x.bandwidth_bytes_per_s and 2 * x.bandwidth_bytes_per_s)
        for x in device.memory.levels
    )
    link = replace(
        device.peer_link, bandwidth_bytes_per_s=2 * device.peer_link.bandwidth_bytes_per_s
    )
    return replace(
        device, compute=compute, memory=replace(device.memory, levels=levels), peer_link=link
    )


GROWING: list[tuple[type[Workload], dict[str, int], str]] = [
    (Gemm, {"m": 64, "n": 512, "k": 512}, "m"),
    (Gemm, {"m": 64, "n": 512, "k": 512}, "k"),
    (Attention, {"batch": 2, "q_len": 64, "kv_len": 128, "heads": 8, "head_dim": 64}, "batch"),
    (Attention, {"batch": 2, "q_len": 64, "kv_len": 128, "heads": 8, "head_dim": 64}, "kv_len"),
    (LinearAttention, {"batch": 2, "seq_len": 64, "heads": 8, "key_dim": 64, "value_dim": 64},
     "seq_len"),
    (SelectiveScan, {"batch": 2, "seq_len": 64, "channels": 64}, "seq_len"),
    (Ssd, {"batch": 2, "seq_len": 64, "heads": 8}, "batch"),
    (Norm, {"rows": 64, "cols": 64}, "rows"),
    (Collective, {"bytes": 1024, "ranks": 4}, "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "shape", "field"), GROWING)
@given(more=st.integers(1, 10_000))
def test_bounds_grow_with_the_work(kind, shape, field, more):
    """More rows, tokens, sequences or bytes never take less time at the least."""
    device = load_device("a100-sxm-80gb")
    less = lower_bound(count(kind(**shape)), device).time_s
    grown = {**shape, field: shape[field] + more}
    assert lower_bound(count(kind(**grown)), device).time_s >= less


GRIDS = [
    Gemm(m=np.array([1, 16, 4096]), n=4096, k=np.array([[100], [4096]])),
    Gemm(m=np.array([1, 300]), n=1000, k=4096, dtype="int8"),
    Gemm(m=np.array([1, 300]), n=1000, k=4096, weight_dtype="int4", group_size=128),
    Attention(
        batch=np.array([1, 64]),
        q_len=np.array([[1], [2], [500]]),
        kv_len=4096,
        heads=32,
        kv_heads=8,
        head_dim=128,
    ),
    DeltaRule(
        batch=np.array([1, 64]),
        seq_len=np.array([[1], [64], [5000]]),
        key_heads=8,
        key_dim=128,
        value_dim=128,
    ),
    SelectiveScan(batch=2, seq_len=np.array([1, 77]), channels=5120),
    Ssd(batch=2, seq_len=np.array([1, 77]), heads=80),
    Norm(rows=np.array([1, 77, 9999]), cols=4096),
    Elementwise(elements=np.array([10, 10**7]), special=np.array([[0.0], [2.0]])),
    Conv(in_channels=np.array([64, 128]), out_channels=128, width=99, kernel_w=3),
    Conv(in_channels=64, out_channels=64, width=99, kernel_w=4, groups=np.array([1, 64])),
    Collective(bytes=np.array([100, 10**8]), ranks=np.array([[1], [4], [16]])),
]


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "tpu-v5e"])
@pytest.mark.parametrize("work", GRIDS, ids=lambda w: f"{w.op}-{w.shape}")
@pytest.mark.parametrize("warm", [False, True])
def test_a_grid_equals_its_points_bit_for_bit(name, work, warm):
    """Time, interval, bound and lower bound of every point of an open grid."""
    device = load_device(name)
    try:
        whole = estimate(work, device, warm=warm)
    except UnsupportedDtype:
        pytest.skip("the device has no such rate")
    fields = {k: v for k, v in work.to_dict().items() if k != "op"}
    for index in np.ndindex(work.shape):
        point = {
            k: np.broadcast_to(v, work.shape)[index].item() if isinstance(v, list) else v
            for k, v in fields.items()
        }
        one = estimate(type(work)(**point), device, warm=warm)
        for name_of in ("time_s", "low_s", "high_s", "lower_bound_s", "bound"):
            at = np.broadcast_to(getattr(whole, name_of), work.shape)[index]
            assert at == getattr(one, name_of), (name_of, index)


@given(size=st.integers(1, 10**10), ranks=st.integers(9, 64))
def test_leaving_the_node_never_helps(size, ranks):
    """More ranks than a server holds cross the network: bounded and ordered, and no faster."""
    device = load_device("h100-sxm-80gb")
    across = estimate(Collective(bytes=size, ranks=ranks), device)
    inside = estimate(Collective(bytes=size, ranks=8), device)
    assert across.lower_bound_s <= across.low_s <= across.time_s <= across.high_s
    assert across.lower_bound_s >= inside.lower_bound_s
    assert across.time_s >= inside.time_s


@given(work=workloads)
def test_warm_operands_are_never_slower(work):
    """What rests in the cache takes no longer than what comes from memory, bound and estimate."""
    device = load_device("a100-sxm-80gb")
    cold, warm = estimate(work, device), estimate(work, device, warm=True)
    assert warm.lower_bound_s <= cold.lower_bound_s
    assert warm.time_s <= cold.time_s * (1 + 1e-12)


@given(work=workloads)
def test_launching_costs_what_it_costs(work):
    """Graph <= stream <= eager, and graph <= alone between two events."""
    device = load_device("h100-sxm-80gb")
    graph, stream, eager, alone = (
        estimate(work, device, launch=how).time_s for how in ("graph", "stream", "eager", "alone")
    )
    assert graph <= stream <= eager
    assert graph <= alone
