"""What every benchmark records: device, driver, clocks, kernel revision, counted work."""

from __future__ import annotations

from collections.abc import Callable
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


def pytest_addoption(parser):
    parser.addoption("--device-name", help="the spec that the device's figures belong to")


def device_of(config: pytest.Config, launch: str) -> dict[str, object]:
    """What was timed: this processor, or the CUDA device under its spec's name."""
    if launch == "host":
        return host_device()
    return gpu_device(config.getoption("--device-name", default=None))


@pytest.fixture
def record(benchmark, pytestconfig) -> Callable[..., None]:
    """Hands a timing to pytest-benchmark, one round per sample, with all that qualifies it."""

    def hand_over(
        workload: Workload,
        kernel: str,
        timing: Timing,
        *,
        gate: Gate | None,
        framework: str | None = None,
        launch: str = "graph",
    ) -> None:
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
        device = device_of(pytestconfig, launch)["name"]
        benchmark.group = workload.op
        benchmark.extra_info.update(entry, device=device, kernel_revision=kernel_revision())
        samples = iter(timing.samples_s)
        benchmark.pedantic(
            lambda: CLOCK.advance(next(samples)), rounds=timing.samples, iterations=1
        )

    return hand_over


def pytest_benchmark_update_machine_info(config, machine_info):
    import cupy

    if cupy.cuda.is_available():
        machine_info["device"] = device_of(config, "graph")
    machine_info["software"] = software()
    machine_info["kernel_revision"] = kernel_revision()


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Beside the benchmark JSON, one measurement file per device that took part."""
    given = config.getoption("benchmark_json")
    path = Path(given if isinstance(given, str | Path) else given.name)
    kernels = [
        b["extra_info"]
        for b in output_json["benchmarks"]
        if b["extra_info"].get("kind") == "kernel"
    ]
    for where in ("host", "device"):
        entries = [k for k in kernels if (k["launch"] == "host") == (where == "host")]
        if entries:
            device = device_of(config, entries[0]["launch"])
            content = measurement_file(device, entries)
            write_json(path.with_suffix(f".{where}.measured.json"), content)


@pytest.fixture(scope="session")
def capability() -> int:
    import cupy

    return int(cupy.cuda.Device().compute_capability)
