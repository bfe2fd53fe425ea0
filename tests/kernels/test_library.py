"""The library grid: its shapes, its bookkeeping and its files, without a device."""

from __future__ import annotations

import importlib.util
import json
import time
from collections import Counter

import pytest

from perfmodel.measure import read_measurements
from perfmodel.roofline.choice import kernel_class
from refkernels._check import Gate
from refkernels._record import kernel_time
from refkernels._timing import Timing
from refkernels.library import run
from refkernels.library.__main__ import main
from refkernels.library.cases import (
    LARGEST,
    LONGEST,
    MOST_BYTES,
    ROWS,
    family_cases,
    gate_cases,
    gate_key,
    schedule,
)

CASES = schedule()
TIMING = Timing(
    time_s=2e-6, p25_s=1e-6, p75_s=3e-6, samples_s=(1e-6, 2e-6, 3e-6), stream_time_s=None,
    sm_clock_hz=1.9e9, power_w=600.0,
)  # fmt: skip
GATE = Gate(passed=True, error=0.0, tolerance=1.0, metric="relative_rms")


def timed(case):
    return kernel_time(
        case.workload, case.kernel, TIMING, flops=case.flops, moved_bytes=case.moved_bytes,
        gate=GATE, framework="torch-2.11.0", launch=case.launch,
    )  # fmt: skip


def test_the_grid_is_large_distinct_and_the_same_every_time():
    """At least 1,500 rows in at most eight files, none twice, drawn from a fixed seed."""
    assert len(CASES) == sum(ROWS.values()) >= 1500
    assert len(ROWS) <= 8
    assert len({c.key for c in CASES}) == len(CASES)
    assert [c.key for c in schedule()] == [c.key for c in CASES]


def test_any_prefix_is_balanced():
    """A run cut short anywhere has each family's share of the rows, to one row."""
    for length in (100, 555, 1500):
        seen = Counter(c.family for c in CASES[:length])
        for family, count in ROWS.items():
            assert abs(seen[family] - count * length / len(CASES)) <= 1.5


def test_shapes_span_what_people_call():
    """Matrices from 1 to 65,536, contexts to 262,144, groups of 1 to 32, heads of 64 to 256."""
    sizes = [n for c in CASES if c.workload.op == "gemm"
             for n in (c.workload.m, c.workload.n, c.workload.k)]  # fmt: skip
    assert min(sizes) <= 4
    assert max(sizes) > 0.9 * LARGEST
    attention = [c.workload for c in CASES if c.workload.op == "attention"]
    assert {w.heads // w.kv_heads for w in attention} >= {1, 2, 4, 8, 16, 32}
    assert {w.head_dim for w in attention} == {64, 128, 256}
    assert max(w.kv_len for w in attention) > LONGEST // 2
    assert {c.launch for c in CASES} == {"graph", "eager"}


def test_no_case_outgrows_the_pools_or_the_time():
    """Operands fit what is held on the device; no call is long enough to starve the others."""
    assert max(c.moved_bytes for c in CASES) <= 3 * MOST_BYTES
    assert max(c.flops for c in CASES) <= 4e12


def test_shapes_respect_what_kernels_take():
    """8-bit products need multiples of 16, integer products more than 16 rows."""
    narrow = [c.workload for c in CASES if c.family == "gemm_narrow"]
    assert {w.dtype for w in narrow} == {"fp8", "int8"}
    assert all(w.n % 16 == 0 and w.k % 16 == 0 for w in narrow)
    assert all(w.m >= 17 for w in narrow if w.dtype == "int8")


def test_every_case_is_a_question_the_model_answers():
    """Each family's workloads belong to kernel classes of perfmodel."""
    classes = {c.family: set() for c in CASES}
    for c in CASES:
        classes[c.family].add(kernel_class(c.workload))
    assert classes["gemm_narrow"] == {"gemm_narrow", "gemm_int8"}
    assert classes["attention_decode"] == {"attention_decode"}
    assert classes["attention_prefill"] == {"attention_prefill"}
    assert classes["moving"] == classes["pointwise"] == {"pointwise"}
    assert classes["recurrent"] <= {"recurrent_chunk", "recurrent_step"}


def test_every_kernel_has_a_gate():
    """Whatever is timed was checked in its data type, on a case that is not trivial."""
    gates = gate_cases(CASES)
    assert {gate_key(c) for c in CASES if c.flops + c.moved_bytes >= 1e6} == set(gates)
    assert max(c.flops for c in gates.values()) < 1e10
    assert {c.kernel for c in CASES} == {kernel for kernel, _ in gates}


def test_files_come_back_as_measurements_and_are_resumed(tmp_path):
    """What a run wrote is read by perfmodel; a second run times the rest only."""
    few = CASES[:40]
    grid = run.Grid()
    run.collect(few[:25], grid, measure=timed, deadline_s=time.monotonic() + 60)
    run.save(grid, tmp_path, {"name": "h200-sxm"})

    rows = [m for f in sorted(tmp_path.glob("*.json")) for m in read_measurements(f)]
    assert {m.workload.key() for m in rows} == {c.workload.key() for c in few[:25]}
    assert {m.implementation for m in rows} == {f"torch/{c.kernel}" for c in few[:25]}

    again, asked = run.load(tmp_path, "h200-sxm"), []
    run.collect(
        few, again, measure=lambda c: asked.append(c) or timed(c),
        deadline_s=time.monotonic() + 60,
    )  # fmt: skip
    assert asked == few[25:]
    assert again.rows == 40


def test_rows_that_fail_are_noted_and_the_rest_goes_on(tmp_path):
    """A kernel without a plan for a shape, or no memory: the reason stands in the file."""

    def measure(case):
        if case is CASES[3]:
            msg = "CUDA out of memory"
            raise RuntimeError(msg)
        return timed(case)

    grid = run.Grid()
    run.collect(CASES[:10], grid, measure=measure, deadline_s=time.monotonic() + 60)
    run.save(grid, tmp_path, {"name": "h200-sxm"})

    assert grid.rows == 9
    (skipped,) = [s for f in tmp_path.glob("*.json")
                  for s in json.loads(f.read_text()).get("skipped", [])]  # fmt: skip
    assert skipped["reason"] == "RuntimeError: CUDA out of memory"
    assert skipped["kernel"] == CASES[3].kernel


class Clock:
    """A clock that each timed row of a family pushes on."""

    def __init__(self, costs):
        self.now, self.costs = 0.0, costs

    def __call__(self):
        return self.now

    def measure(self, case):
        self.now += self.costs.get(case.family, 0.1)
        return timed(case)


def test_the_budget_holds():
    """No row begins after the deadline."""
    clock = Clock({})
    grid = run.Grid()
    run.collect(CASES, grid, measure=clock.measure, deadline_s=10.0, clock=clock)
    assert grid.rows == pytest.approx(100, abs=1)


def test_a_slow_family_does_not_starve_the_others():
    """Rows that tune for seconds get their share of the time, then only the others go on."""
    clock = Clock({"recurrent": 20.0})
    grid = run.Grid()
    run.collect(CASES, grid, measure=clock.measure, deadline_s=300.0, clock=clock)
    assert len(grid.entries["recurrent"]) * 20.0 <= 0.3 * 300.0 + 20.0
    assert all(len(grid.entries[f]) == n for f, n in ROWS.items() if f != "recurrent")


def test_a_row_that_hangs_is_given_up():
    """The watchdog raises inside the row."""
    with pytest.raises(TimeoutError, match=r"longer than 0\.05 s"), run.limited(0.05):
        time.sleep(5)


def test_families_are_asked_for_by_name_alone():
    """One family's cases do not depend on which others are drawn."""
    first = [c.key for c in family_cases("gemm", 50)]
    assert first == [c.key for c in family_cases("gemm", 50)]
    assert len(first) == 50


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_it_says_so(tmp_path, capsys):
    """Exit code 3 and one message."""
    assert main(["--out", str(tmp_path)]) == 3
    assert "torch is not installed" in capsys.readouterr().err
