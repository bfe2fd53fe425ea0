"""Every registered kernel timed on its workloads, beside what people would call instead.

Run as ``pytest tests/bench --benchmark-only --benchmark-json FILE``; measurement files appear
beside FILE. A kernel whose gate is red fails and gets no time.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from refkernels._registry import OPERATORS, pairs
from refkernels._timing import rotation_sets, time_host, time_kernel
from refkernels.int8_gemm.host import instruction_roof, integer_product
from refkernels.int8_gemm.peers import capture_torch, framework

from .conftest import CLOCK
from .peers import HAVE_TORCH, peers

HOST = list(pairs("host", small=False))
DEVICE = list(pairs("device", small=False))
PEERS = [p for operator in OPERATORS for w in operator.timed for p in peers(w)]


def size(workload) -> str:
    numbers = (f"{k}{v}" for k, v in workload.to_dict().items() if isinstance(v, int))
    return "-".join(numbers)


def names(cases):
    return [f"{variant.kernel}-{size(workload)}" for variant, workload in cases]


def moved(workload) -> float:
    from perfmodel.ops import count

    return float(count(workload).bytes_total)


@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize(("variant", "workload"), HOST, ids=names(HOST))
def test_host_kernel(record, variant, workload):
    """A host kernel passes its gate and is timed by the wall clock."""
    problem = variant.build(workload, 1, 2)
    gate = problem.gate()
    assert gate.passed, gate
    record(workload, variant.kernel, time_host(problem.run, sets=2), gate=gate, launch="host")


@pytest.mark.benchmark(group="int8 on the host, beside its instructions' roof")
def test_host_int8_of_roof(benchmark, capsys):
    """2048^3, all cores, packing included, as a share of what its inner kernel reaches from L1:
    the two alternate, so that both see the same machine. The aim is a half.
    """
    n = 2048
    a, b = np.random.default_rng().integers(-128, 128, (2, n, n), dtype=np.int8)
    shares = []

    def round_of_both():
        roof = instruction_roof(seconds=0.2)
        start = time.perf_counter()
        integer_product(a, b)
        shares.append(2.0 * n**3 / (time.perf_counter() - start) / roof)

    benchmark.pedantic(round_of_both, rounds=15, warmup_rounds=1)

    benchmark.extra_info["of_roof"] = shares[1:]
    with capsys.disabled():
        print(f"\nint8 2048^3 on the host: {statistics.median(shares[1:]):.2f} of its roof")


@pytest.mark.gpu
@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize(("variant", "workload"), DEVICE, ids=names(DEVICE))
def test_device_kernel(record, capability, variant, workload):
    """A device kernel passes its gate and is timed by events around graph replays."""
    if not variant.runs_on(capability):
        pytest.skip(f"written for compute capability {variant.capability}, not {capability}")
    sets = rotation_sets(moved(workload))
    problem = variant.build(workload, 1, sets)
    gate = problem.gate()
    assert gate.passed, gate
    record(workload, variant.kernel, time_kernel(problem.run, sets=sets), gate=gate)


@pytest.mark.gpu
@pytest.mark.skipif(not HAVE_TORCH, reason="the peers need torch")
@pytest.mark.benchmark(timer=CLOCK.now)
@pytest.mark.parametrize("peer", PEERS, ids=[f"{p.kernel}-{size(p.workload)}" for p in PEERS])
def test_peer(record, peer):
    """What people would call instead, timed the same way in the same run."""
    sets = rotation_sets(moved(peer.workload))
    timing = time_kernel(peer.build(sets), sets=sets, capture=capture_torch)
    record(peer.workload, peer.kernel, timing, gate=None, framework=framework())
