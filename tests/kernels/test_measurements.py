"""What is timed is recorded so that the model can read it back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from perfmodel.measure.readers import read_measurements, read_roofs
from perfmodel.workload import Gemm
from refkernels import probe
from refkernels._check import Gate
from refkernels._record import (
    host_device,
    kernel_revision,
    kernel_time,
    measurement_file,
    roof,
    write_json,
)
from refkernels._timing import Timing, by_contender, time_host

WORKLOAD = Gemm(m=16, n=32, k=64, dtype="int8")
TIMING = Timing(
    time_s=2e-6,
    p25_s=1e-6,
    p75_s=3e-6,
    samples_s=(1e-6, 2e-6, 3e-6),
    stream_time_s=5e-6,
    sm_clock_hz=1.5e9,
    power_w=600.0,
)


def test_a_kernel_time_comes_back_as_it_went(tmp_path):
    """Workload, kernel, launch and time survive the file; a red gate is refused by the reader."""
    entries = [
        kernel_time(
            WORKLOAD,
            "refkernels.int8_gemm/any",
            TIMING,
            flops=2.0 * 16 * 32 * 64,
            moved_bytes=5000.0,
            gate=Gate(passed=passed, error=0.5, tolerance=1.0, metric="bound_ratio"),
        )
        for passed in (True, False)
    ]
    path = tmp_path / "h200-sxm-gemm.json"
    write_json(path, measurement_file({"name": "h200-sxm"}, entries))

    good, bad = read_measurements(path)

    assert good.workload is not None
    assert good.workload.key() == WORKLOAD.key()
    assert (good.device, good.kernel, good.launch) == (
        "h200-sxm",
        "refkernels.int8_gemm/any",
        "graph",
    )
    assert good.value == 2e-6
    assert good.refusal is None
    assert bad.refusal is not None


def test_the_file_has_the_agreed_keys(tmp_path):
    """Schema, device, software, date, revision, and every figure of a kernel time."""
    entry = kernel_time(WORKLOAD, "k", TIMING, flops=1.0, moved_bytes=2.0, gate=None)
    path = tmp_path / "f.json"
    write_json(path, measurement_file(host_device(), [entry]))

    data = json.loads(path.read_text())

    assert set(data) == {
        "schema",
        "device",
        "software",
        "date",
        "kernel_revision",
        "measurements",
    }
    assert set(data["device"]) == {
        "name",
        "product",
        "uuid_digest",
        "sm_count",
        "memory_bytes",
        "clock_hz",
        "cache_bytes",
    }
    assert data["measurements"][0]["samples"] == 3
    assert data["kernel_revision"] == kernel_revision()


def test_the_host_probe_writes_roofs_that_read_back(tmp_path):
    """The probe's file holds bandwidths per working set and rates, for one core and all."""
    pytest.importorskip("numba")
    path = tmp_path / "host.json"

    assert probe.main(["--host", "--out", str(path), "--device", "this", "--budget", "0.002"]) == 0

    roofs = read_roofs(path)
    assert {r.device for r in roofs} == {"this"}
    assert {"host_read", "host_write", "host_fma_f32", "host_dot_s8", "host_exp_f32"} <= {
        r.quantity for r in roofs
    }
    assert all(r.value > 0 for r in roofs)


def test_a_roof_prints_on_one_line():
    """Value, unit, spread, clock, power and condition."""
    line = probe.line(
        roof("dram_read", 4.4e12, "B/s", spread=0.01, sm_clock_hz=1.98e9, condition={"bytes": 64})
    )

    assert line == "dram_read: 4.4e+12 B/s (spread 0.010) at 1980 MHz bytes=64"


def test_spread_is_the_interquartile_range_over_the_median():
    """(3 - 1) / 2 us."""
    assert TIMING.spread == pytest.approx(1.0)


def test_host_timing_rotates_and_measures():
    """Every set is used, and the quartiles are in order."""
    used = set()

    timing = time_host(used.add, sets=3, budget_s=0.01)

    assert used == {0, 1, 2}
    assert 0 < timing.p25_s <= timing.time_s <= timing.p75_s
    assert timing.samples == len(timing.samples_s) >= 5


def test_turns_are_sorted_by_whose_they_were():
    """Rounds a b c, c b a, a b c: either order's median is that of every second sample."""
    a, b, c = by_contender([1.0, 10.0, 100.0, 101.0, 11.0, 3.0, 5.0, 12.0, 102.0], 3)

    assert (a, b, c) == ([1.0, 3.0, 5.0], [10.0, 11.0, 12.0], [100.0, 101.0, 102.0])
    timing = replace(TIMING, samples_s=tuple(a))
    assert timing.orders_s == (3.0, 3.0)
    shared = {"load": "two of them", "beside": {"other": 2.0}}
    row = kernel_time(WORKLOAD, "k", timing, flops=1, moved_bytes=1, gate=None, **shared)
    assert (row["load"], row["orders_s"]) == ("two of them", [3.0, 3.0])
    assert row["beside_s"] == {"other": 2.0}


@pytest.mark.gpu
def test_device_timing_agrees_with_the_clock_in_the_kernel():
    """The event time of a graph replay is the time a kernel spends by its own stopwatch."""
    import cupy

    from refkernels._compile import compile_kernel
    from refkernels._launch import launch, load_kernel, params_struct
    from refkernels._sources import kernel_source
    from refkernels._timing import time_kernel

    kernel = load_kernel(compile_kernel(kernel_source("roofs/arithmetic.cu")), "fma_f32")
    seeds, elapsed = cupy.ones(1024, cupy.float32), cupy.zeros(2, cupy.uint64)
    params = params_struct(seeds=seeds, sink=seeds, rounds=2000, elapsed=elapsed)

    timing = time_kernel(lambda _: launch(kernel, (16,), (256,), params), sets=1, budget_s=0.05)
    elapsed.fill(0)  # the stopwatch adds up
    launch(kernel, (16,), (256,), params)

    assert timing.time_s == pytest.approx(int(elapsed[1]) * 1e-9, rel=0.1)
    assert timing.sm_clock_hz is None or 1e8 < timing.sm_clock_hz < 5e9


def committed(root):
    return sorted((root / "specs" / "measured").glob("*.json"))


def test_committed_files_read_back(root):
    """Every measurement file of the repository parses, and each of its kernels passed its gate."""
    for path in committed(root):
        rows = read_measurements(path)
        assert rows or read_roofs(path), path.name
        assert [r.kernel for r in rows if r.refusal] == []


def test_committed_roofs_cover_what_later_figures_divide_by(root):
    """Memory, caches, special functions, tensor rates by type and width, launches, barrier."""
    path = next(p for p in committed(root) if p.name.startswith("h200-sxm-roofs"))

    roofs = read_roofs(path)

    assert {r.device for r in roofs} == {"h200-sxm"}
    assert {
        "dram_read",
        "dram_write",
        "dram_copy",
        "l2_read",
        "shared_read",
        "ex2_f32",
        "tanh_bf16x2",
        "rcp_f32",
        "fma_f32",
        "launch_graph",
        "launch_stream",
        "grid_barrier",
        "dram_latency",
    } <= {r.quantity for r in roofs}
    widths = {
        (r.quantity, r.condition.get("tile_n")) for r in roofs if r.quantity.startswith("tensor_")
    }
    assert {
        (f"tensor_{t}", n) for t in ("bf16", "fp16", "fp8", "int8") for n in (64, 128, 256)
    } <= widths
