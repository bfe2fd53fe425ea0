"""Matrix products: how single kernels are timed, what feeds integer and vector units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.hw.load import load_device
from perfmodel.measure.readers import read_measurements
from perfmodel.roofline.classes import CLASS_MODELS
from perfmodel.roofline.model import Run
from perfmodel.roofline.power import power_limited_bandwidth, power_limited_rate
from perfmodel.workload import Gemm

H200, A100 = load_device("h200-sxm"), load_device("a100-sxm-80gb")
INT8, FP32 = CLASS_MODELS["gemm_int8"], CLASS_MODELS["gemm_fp32"]
HEADER = "source,device,op,framework,dtype,m,n,k,measured,unit\n"
sizes = st.integers(1, 1 << 14)


def product(model, device=H200, run=Run(), dtype="int8", **changes):  # noqa: B008  # frozen
    """The class's own time of a product, parameters at their starts but for ``changes``."""
    shape = {k: changes.pop(k) for k in ("m", "n", "k") if k in changes}
    w = Gemm(**{"m": 4096, "n": 4096, "k": 4096} | shape, dtype=dtype)
    return model.predict(w, device, model.start | changes, run)


@pytest.mark.parametrize(
    ("framework", "dtype", "launch"),
    [
        ("trtllm-1.0.0", "int8_w8a8", "alone"),
        ("trtllm-1.0.0", "int4_w4a16", "alone"),
        ("trtllm-1.0.0", "bf16", "graph"),
        ("vllm-0.14.0", "int8_w8a8", "graph"),
    ],
)
def test_layers_under_a_profiler_are_timed_alone(tmp_path, framework, dtype, launch):
    """One pass of an engine under TensorRT's profiler is no graph replayed back to back."""
    path = tmp_path / "rows.csv"
    row = f"aiconfigurator@1,A100-SXM-80GB,gemm,{framework},{dtype},8,256,256,0.01,ms\n"
    path.write_text(HEADER + row)
    (read,) = read_measurements(path)
    assert read.launch == launch


@given(m=sizes, n=sizes, k=sizes)
def test_events_around_one_kernel_cost_the_same_for_every_size(m, n, k):
    """The way of timing adds its seconds once."""
    graph, alone = (product(INT8, run=Run(launch=how), m=m, n=n, k=k) for how in ("graph", "alone"))
    assert alone.time_s - graph.time_s == pytest.approx(INT8.start["alone_s"])


@given(m=sizes, n=sizes, k=sizes, slower=st.floats(0.1, 1.0))
def test_less_supply_is_never_faster(m, n, k, slower):
    """Fewer bytes a cycle from the last-level cache lengthen an integer product or leave it."""
    full = product(INT8, m=m, n=n, k=k)
    starved = product(INT8, m=m, n=n, k=k, supply_bytes=INT8.start["supply_bytes"] * slower)
    assert starved.time_s >= full.time_s


def test_a_starved_integer_product_takes_its_operands_time():
    """4096 of each side in tiles of 256 x 128: 512 tiles of 384 bytes a step over 132 units, four
    rounds of them at a byte a cycle."""
    found = product(INT8, supply_bytes=1.0, tail=1.0, unhidden=0.0, store_clk=0.0)
    steps = 4 * 4096 * 384 / H200.compute.clock_vector_hz
    assert found.terms["product"] == pytest.approx(steps)


@pytest.mark.parametrize(("device", "slower"), [(H200, 1.3), (A100, 1.0)])
def test_instructions_beside_multiply_adds_cost_where_issue_is_full(device, slower):
    """128 lanes are issued to in every cycle, 64 in every other: there loads come for nothing."""
    rest = {"supply_rate": 200.0, "unhidden": 0.0, "store_clk": 0.0, "power_exponent": 0.0}
    bare = product(FP32, device, dtype="fp32", k=65536, beside=0.0, **rest)
    loaded = product(FP32, device, dtype="fp32", k=65536, beside=0.3, **rest)
    assert loaded.terms["product"] / bare.terms["product"] == pytest.approx(slower, rel=1e-3)


def test_few_rows_stream_their_weights():
    """Up to four rows run as vectors: a chain of steps over the inner dimension does not count."""
    few, more = (product(INT8, m=m, n=1536, k=65536) for m in (4, 5))
    assert few.terms["product"] < few.terms["memory"]
    assert more.terms["product"] > 2.0 * more.terms["memory"]


def test_products_know_a_device_by_its_figures():
    """Another name, the same times."""
    other = replace(H200, name="nobody-measured-this")
    assert product(INT8, other).time_s == product(INT8).time_s
    assert np.all(product(FP32, other, dtype="fp32").time_s == product(FP32, dtype="fp32").time_s)


@pytest.mark.parametrize(("watts", "power"), [(250.0, 225.0), (70.0, 45.0), (28.0, 16.8)])
def test_what_a_board_draws_anyway_is_not_left_to_work(watts, power):
    """25 W of memory and leakage: a tenth of a large board, a third of a T4; 0.6 always stay."""
    values = {"energy_pj_per_flop": 20.0, "power_exponent": 1.0, "rest_w": 25.0}
    board = replace(A100, tdp_w=watts, process_m=7e-9)
    assert power_limited_rate(np.float64(1e14), board, values) == pytest.approx(power / 20e-12)


def test_a_small_board_streams_what_its_watts_move():
    """45 of a T4's 70 W at 150 pJ/B and 12 nm: 229 GB/s of 320; a large board's limit lies above
    its memory, and without the figures there is none."""
    values = {"byte_pj": 150.0, "process_exponent": 0.5, "rest_w": 25.0}
    small, large = load_device("t4"), H200
    allowed = float(power_limited_bandwidth(small, values))
    assert allowed == pytest.approx(45.0 / (150e-12 * (12 / 7) ** 0.5))
    assert power_limited_bandwidth(large, values) > large.memory.bandwidth_bytes_per_s
    assert power_limited_bandwidth(replace(small, tdp_w=None), values) == np.inf
    assert power_limited_bandwidth(small, {}) == np.inf


@given(m=sizes, n=sizes, k=sizes)
def test_operands_in_the_cache_start_a_product_sooner(m, n, k):
    """By the same share of the fixed cycles whatever its size; the work stays."""
    cold, warm = (product(INT8, run=Run(warm=w), m=m, n=n, k=k) for w in (False, True))
    spared = INT8.start["fixed_clk"] * (1.0 - INT8.start["warm_start"])
    sooner = spared / H200.compute.clock_vector_hz
    assert cold.time_s - warm.time_s == pytest.approx(sooner)
    assert warm.terms["product"] == cold.terms["product"]


def test_memory_takes_its_time_at_any_clock():
    """A vector product short of operands gains nothing from a faster clock: bytes are in flight
    for nanoseconds."""
    fast = replace(H200.compute, clock_vector_hz=2.0 * H200.compute.clock_vector_hz)
    found = [
        product(FP32, replace(H200, compute=c), dtype="fp32", m=16, n=8192, k=8192, split_clk=0.0,
                supply_rate=2.0, unhidden=0.0, store_clk=0.0, step_clk=0.0)
        for c in (H200.compute, fast)
    ]  # fmt: skip
    assert found[1].terms["product"] == pytest.approx(found[0].terms["product"])


def test_matrix_times_vector_streams_over_all_units():
    """Rows of the matrix are independent: no tiles to round up to, no parts to add, however few."""
    found = product(FP32, dtype="fp32", m=1, n=1280, k=4096, dram_fraction=1.0)
    moved = 10 * (128 + 1) * 4 * 4096
    rate = 1e9 * FP32.start["thin_rate"] * H200.compute.units
    assert found.terms["split"] == 0.0
    assert found.details["tile_rows"] == 1.0
    assert found.terms["product"] == pytest.approx(moved / rate, rel=0.02)
