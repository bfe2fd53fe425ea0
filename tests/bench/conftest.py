"""What every benchmark records: device, driver, clocks, kernel revision, counted work."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfmodel.workload import Workload
from refkernels._check import Gate
from refkernels._record import (
    gpu_device,
    host_device,
    kernel_revision,
    kernel_time,
    measurement_file,
    software,
    write_json,
)
from refkernels._timing import Timing


class EventClock:
    """A clock that stands still except when told how long something took on the device.

    As pytest-benchmark's timer it makes the event times, not the host's, the benchmark's figures.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


CLOCK = EventClock()


def record(
    benchmark,
    *,
    workload: Workload,
    kernel: str,
    timing: Timing,
    gate: Gate | None,
    framework: str | None = None,
    launch: str = "graph",
):
    """Hand a timing to pytest-benchmark, one round per sample, with all that qualifies it."""
    from perfmodel.ops import count

    cost = count(workload)
    entry = kernel_time(
        workload,
        kernel,
        timing,
        flops=float(cost.flops_total),
        moved_bytes=float(cost.bytes_total),
        gate=gate,
        framework=framework,
        launch=launch,
    )
    device = host_device() if launch == "host" else gpu_device()
    benchmark.group = workload.op
    benchmark.extra_info.update(entry, device=device["name"], kernel_revision=kernel_revision())
    samples = iter(timing.samples_s)
    benchmark.pedantic(
        lambda: CLOCK.advance(next(samples)), rounds=timing.samples, iterations=1, warmup_rounds=0
    )


def pytest_benchmark_update_machine_info(config, machine_info):
    from importlib.util import find_spec

    if find_spec("cupy"):
        import cupy

        if cupy.cuda.is_available():
            machine_info["device"] = gpu_device()
    machine_info["software"] = software()
    machine_info["kernel_revision"] = kernel_revision()


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Beside the benchmark JSON, one measurement file per device that took part."""
    path = Path(config.getoption("benchmark_json").name)
    for where, device in (
        ("device", output_json["machine_info"].get("device")),
        ("host", host_device()),
    ):
        entries = [
            b["extra_info"]
            for b in output_json["benchmarks"]
            if b["extra_info"].get("kind") == "kernel"
            and (b["extra_info"]["launch"] == "host") == (where == "host")
        ]
        if entries and device:
            write_json(
                path.with_suffix(f".{where}.measured.json"), measurement_file(device, entries)
            )


@pytest.fixture(scope="session")
def capability() -> int:
    import cupy

    return int(cupy.cuda.Device().compute_capability)
