"""The loop on any machine: probe the host, time kernels on it, score the model on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("numba", reason="needs the extra 'host'")

from perfmodel.catalog import using_specs
from perfmodel.cli import main
from perfmodel.hw.load import load_device
from perfmodel.hw.probed import probed_device
from perfmodel.measure import read_measurements
from perfmodel.roofline.time import estimate
from refkernels._record import measurement_file, write_json

BENCH = """
import sys
from pathlib import Path
from perfmodel.ops import count
from refkernels._record import kernel_time, measurement_file, write_json
from refkernels._registry import pairs
from refkernels._timing import time_host
chosen, entries = {}, []
for variant, work in pairs("host", small=True):
    if variant.kernel.split("/")[0] in ("refkernels.copy", "refkernels.int8_gemm"):
        chosen.setdefault(variant.kernel, []).append((variant, work))
for cases in chosen.values():
    largest = sorted(cases, key=lambda c: float(count(c[1]).bytes_total))[-4:]
    for variant, work in largest:
        problem, cost = variant.build(work, 1, 2), count(work)
        gate = problem.gate()
        entries.append(kernel_time(
            work, variant.kernel, time_host(problem.run, sets=2, budget_s=0.02),
            flops=float(cost.flops_total), moved_bytes=float(cost.bytes_total), gate=gate,
            launch="host"))
write_json(Path(sys.argv[1]), measurement_file({"name": "mine"}, entries))
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A folder of specs that the probe wrote of this processor, and timings of host kernels."""
    folder = tmp_path_factory.mktemp("mine")
    one = os.environ | {"NUMBA_NUM_THREADS": "1"}  # other tests share the cores
    told = probe(folder, "0.005", one)
    bench = folder / "bench.json"
    ran = subprocess.run([sys.executable, "-c", BENCH, str(bench)], env=one, capture_output=True,
                         text=True)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return folder, bench, told


def probe(folder, budget, env):
    """What the verb says of this processor; its specs lie in ``folder``."""
    command = [sys.executable, "-m", "perfmodel", "probe", "--host", "--name", "mine"]
    command += ["--out", str(folder), "--budget", budget, "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_probe_writes_a_device(probed):
    """Rates, bandwidths per level and where they come from; the roofs lie beside."""
    folder, _, told = probed
    with using_specs(folder):
        device = load_device("mine")
    assert device.kind == "cpu"
    assert device.compute.peak("vector", "fp32") > 1e9
    assert device.compute.special_per_s > 1e6
    assert device.memory.bandwidth_bytes_per_s > 1e8
    assert told["device"] == "mine"
    assert (folder / "measured" / "mine-roofs.json").is_file()
    assert "perfmodel-probe" in (folder / "sources.toml").read_text()
    assert not list(folder.glob("**/.*"))  # nothing half written is left


def test_levels_end_in_main_memory(probed):
    """Each level states a size; main memory comes last and is the largest."""
    folder, _, _ = probed
    with using_specs(folder):
        levels = load_device("mine").memory.levels
    sizes = [x.bytes for x in levels]
    assert levels[-1].name == "dram"
    assert sizes[-1] == max(sizes)


def below_their_bound(folder, rows):
    """Kernels that were faster than what the probe in ``folder`` says is possible."""
    with using_specs(folder):
        device = load_device("mine")
        bounds = [estimate(m.workload, device, warm=m.warm).lower_bound_s for m in rows]
    return [
        (m.kernel, m.value, float(b)) for m, b in zip(rows, bounds, strict=True) if m.value <= b
    ]


def test_every_kernel_lies_above_its_lower_bound(probed, tmp_path):
    """What a probe reaches is a ceiling for kernels that do useful work. A short probe of a busy
    machine may miss the ceiling; a longer one, which keeps its best sample, must find it.
    """
    folder, bench, _ = probed
    rows = read_measurements(bench)
    assert len(rows) == 8
    below = below_their_bound(folder, rows)
    for budget in ("0.05", "0.2"):
        if below:
            probe(tmp_path / budget, budget, os.environ | {"NUMBA_NUM_THREADS": "1"})
            below = below_their_bound(tmp_path / budget, rows)

    assert below == []


def test_validate_scores_the_kernels_on_the_probed_device(probed, capsys):
    """Factors for every row, none refused."""
    folder, bench, _ = probed
    assert main(["validate", str(bench), "--specs", str(folder), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["files"]
    assert report["scored"] == report["rows"] == 8
    assert report["factor"] > 1.0
    assert {g["scenario"] for g in report["groups"]} == {"elementwise", "gemm"}


def test_the_roofs_of_a_gpu_make_a_device(root):
    """The shipped roofs of an H200 give its bandwidth, tensor peaks and launch time."""
    (path,) = sorted((root / "specs" / "measured").glob("h200-sxm-roofs-*.json"))[-1:]
    found, spec = probed_device(path), load_device("h200-sxm")
    assert found.kind == "gpu"
    assert found.compute.units == spec.compute.units
    ratio = found.memory.bandwidth_bytes_per_s / spec.memory.bandwidth_bytes_per_s
    assert 0.9 < ratio <= 1.0
    for dtype in ("bf16", "fp8", "int8"):
        measured, quoted = (d.compute.peak("tensor", dtype) for d in (found, spec))
        assert 0.8 * quoted < measured < quoted
    assert 1e-7 < found.launch_graph_s < found.launch_stream_s < 1e-4


@pytest.mark.parametrize("budget", ["0", "-1", "1e9"])
def test_a_senseless_budget_is_refused(budget, tmp_path, capsys):
    """Exit code 2 before anything is measured."""
    assert main(["probe", "--out", str(tmp_path), "--budget", budget]) == 2
    assert "--budget" in capsys.readouterr().err


def test_roofs_without_rates_are_refused(tmp_path):
    """A file of kernels is not a file of roofs."""
    from perfmodel.errors import MalformedFile

    path = tmp_path / "roofs.json"
    write_json(path, measurement_file({"name": "mine"}, []))
    with pytest.raises(MalformedFile, match="lack"):
        probed_device(path)
