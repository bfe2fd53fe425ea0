"""The shipped devices: golden peaks, provenance of every figure, aliases, links, capacities."""

from __future__ import annotations

import csv
import dataclasses
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from perfmodel import catalog
from perfmodel.errors import MalformedFile, MissingFigure, UnsupportedDtype
from perfmodel.hw.load import device_names, load_device, load_energies, read_device
from perfmodel.hw.spec import BoardSpec, ComputeSpec, DeviceSpec, LevelSpec, RateSpec
from perfmodel.hw.write import to_toml
from perfmodel.models.engines import engine_names, load_engine

ROOT = Path(__file__).resolve().parents[2]
ALL = device_names()
TERA, GIB = 1e12, 2**30


@pytest.fixture(params=ALL)
def device(request):
    return load_device(request.param)


# Derivations: FLOP per clock and multiprocessor x multiprocessors x clock.
@pytest.mark.parametrize(
    ("name", "unit", "dtype", "acc", "per_clk", "units", "ghz"),
    [
        ("a100-sxm-80gb", "tensor", "bf16", "fp32", 2048, 108, 1.41),
        ("a100-sxm-80gb", "tensor", "int8", "int32", 4096, 108, 1.41),
        ("a100-pcie-40gb", "tensor", "fp64", "fp64", 128, 108, 1.41),
        ("a100-sxm-80gb", "vector", "fp32", "fp32", 128, 108, 1.41),
        ("h100-sxm-80gb", "tensor", "bf16", "fp32", 4096, 132, 1.83),
        ("h100-sxm-80gb", "tensor", "fp8", "fp32", 8192, 132, 1.83),
        ("h100-sxm-80gb", "vector", "fp32", "fp32", 256, 132, 1.98),
        ("h100-pcie-80gb", "tensor", "fp16", "fp16", 4096, 114, 1.62),
        ("h100-pcie-80gb", "vector", "fp32", "fp32", 256, 114, 1.755),
        ("b200-sxm", "tensor", "fp4", "fp32", 32768, 148, 1.856),
        ("gb200", "tensor", "bf16", "fp32", 8192, 152, 2.008),
        ("v100-sxm2-32gb", "tensor", "fp16", "fp32", 1024, 80, 1.53),
        ("v100-pcie-32gb", "vector", "fp32", "fp32", 128, 80, 1.37),
        ("p100-sxm2", "vector", "fp32", "fp32", 128, 56, 1.48),
        ("t4", "tensor", "fp16", "fp32", 1024, 40, 1.59),
        ("a40", "tensor", "bf16", "fp32", 1024, 84, 1.74),
        ("rtx-3090", "tensor", "bf16", "fp32", 512, 82, 1.695),
        ("rtx-4090", "tensor", "fp16", "fp16", 1024, 128, 2.52),
        ("l40", "tensor", "bf16", "fp32", 512, 142, 2.49),
        ("mi300x", "tensor", "bf16", "fp32", 2048, 304, 2.1),
        ("tpu-v5e", "tensor", "bf16", "fp32", 2 * 128 * 128, 4, 1.5),
        ("raspberry-pi-5-8gb", "vector", "fp32", "fp32", 16, 4, 2.4),
        ("jetson-agx-orin-64gb", "tensor", "int8", "int32", 4096, 16, 1.3),
        ("stm32f746", "vector", "int8", "int32", 4, 1, 0.216),
    ],
)
def test_derived_peaks(name, unit, dtype, acc, per_clk, units, ghz):
    """The peak is per clock x units x that unit's own clock."""
    compute = load_device(name).compute
    assert compute.peak(unit, dtype, acc) == pytest.approx(per_clk * units * ghz * 1e9, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "unit", "dtype", "tflops"),
    [
        ("a100-sxm-80gb", "tensor", "bf16", 311.9),
        ("h100-sxm-80gb", "tensor", "bf16", 989.4),
        ("h100-sxm-80gb", "tensor", "int8", 1978.9),
        ("h100-sxm-80gb", "vector", "fp32", 66.9),
        ("h100-sxm-80gb", "tensor", "fp64", 66.9),
        ("h100-pcie-80gb", "tensor", "bf16", 756.4),
        ("v100-sxm2-32gb", "tensor", "fp16", 125.3),
        ("t4", "tensor", "fp16", 65.1),
        ("rtx-a6000", "tensor", "bf16", 154.8),
        ("rtx-3090", "tensor", "fp16", 71.16),
        ("rtx-4090", "tensor", "fp8", 330.3),
        ("l4", "tensor", "bf16", 121.0),
        ("l40s", "tensor", "bf16", 362.05),
        ("mi300x", "tensor", "fp8", 2615.0),
        ("tpu-v6e", "tensor", "fp8", 917.5),
    ],
)
def test_golden_peaks(name, unit, dtype, tflops):
    """The figures that vendors quote, to 0.05 % (dense, default accumulator)."""
    peak = load_device(name).compute.peak(unit, dtype)
    assert peak / TERA == pytest.approx(tflops, rel=5e-4)


def test_a100_bf16_is_the_datasheet_figure():
    """2048 x 108 x 1.41 GHz is 312 TFLOP/s within 0.05 %."""
    assert load_device("a100-sxm-80gb").compute.peak("tensor", "bf16") == pytest.approx(
        312 * TERA, rel=5e-4
    )


# FLOP per byte of datasheet peak over datasheet bandwidth.
@pytest.mark.parametrize(
    ("name", "unit", "dtype", "ridge"),
    [
        ("a100-sxm-80gb", "tensor", "bf16", 153),
        ("h100-sxm-80gb", "tensor", "bf16", 295),
        ("h100-sxm-80gb", "tensor", "fp8", 591),
        ("h200-sxm", "tensor", "bf16", 206),
        ("b200-sxm", "tensor", "fp4", 1125),
        ("mi300x", "tensor", "bf16", 247),
        ("v100-sxm2-32gb", "tensor", "fp16", 139),
        ("t4", "tensor", "fp16", 203),
        ("l4", "tensor", "bf16", 403),
        ("l40s", "tensor", "fp8", 848),
        ("rtx-3090", "tensor", "bf16", 76),
        ("rtx-4090", "tensor", "bf16", 164),
        ("tpu-v5e", "tensor", "bf16", 240),
        ("tpu-v5p", "tensor", "bf16", 166),
        ("jetson-agx-orin-64gb", "tensor", "fp16", 208),
        ("raspberry-pi-5-8gb", "vector", "fp32", 9),
        ("apple-m2-pro-gpu", "vector", "fp32", 34),
        ("epyc-9654", "vector", "fp32", 23.7),
    ],
)
def test_ridge_points(name, unit, dtype, ridge):
    """The intensity at which a product stops being bound by memory, to the rounding shown."""
    device = load_device(name)
    bandwidth = device.memory.bandwidth_bytes_per_s
    assert device.compute.peak(unit, dtype) / bandwidth == pytest.approx(ridge, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "capacity", "bandwidth"),
    [
        ("a100-sxm-80gb", 80 * GIB, 2.039e12),
        ("a100-pcie-80gb", 85_899_345_920, 1.935e12),
        ("a100-pcie-40gb", 40 * GIB, 1.555e12),
        ("h100-sxm-80gb", 80 * GIB, 3.35e12),
        ("h200-sxm", 143_771 * 2**20, 4.8e12),
        ("b200-sxm", 180e9, 8e12),
        ("l40s", 46_068 * 2**20, 864e9),
        ("v100-pcie-32gb", 32 * GIB, 900e9),
        ("t4", 16 * GIB, 320e9),
        ("stm32l4r5", 640 * 1024, None),
    ],
)
def test_memory(name, capacity, bandwidth):
    """Capacity in exact bytes, bandwidth in decimal bytes per second."""
    memory = load_device(name).memory
    assert memory.capacity_bytes == capacity
    assert memory.main.bandwidth_bytes_per_s == bandwidth


def test_on_chip_levels():
    """Totals follow from per-unit figures: 108 x 164 KiB; 128 B x 108 x 1.41 GHz; 5120 B/clk."""
    memory = load_device("a100-sxm-80gb").memory
    smem, l2 = memory.level("smem"), memory.level("l2")
    assert smem.bytes == 108 * 164 * 1024
    assert load_device("a100-sxm-80gb").figure("memory.smem.per_block").value == 163 * 1024
    assert smem.bandwidth_bytes_per_s == pytest.approx(128 * 108 * 1.41e9)
    assert l2.bandwidth_bytes_per_s == pytest.approx(5120 * 1.41e9)
    assert memory.level("register").bytes == 108 * 256 * 1024


def test_special_function_rate():
    """16 results per clock on each of 132 multiprocessors at 1.98 GHz: 4.18e12 per second."""
    assert load_device("h100-sxm-80gb").compute.special_per_s == pytest.approx(4.18e12, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("a100-sxm-80gb", "fp8"),
        ("h100-sxm-80gb", "int4"),
        ("h100-sxm-80gb", "fp4"),
        ("v100-sxm2-32gb", "bf16"),
        ("t4", "bf16"),
        ("mi300x", "fp6"),
        ("p100-sxm2", "int8"),
    ],
)
def test_absent_rates_are_refused(name, dtype):
    """A data type that the device lacks is refused with those that it has, not guessed."""
    with pytest.raises(UnsupportedDtype, match="fp16"):
        load_device(name).compute.peak("tensor", dtype)


def test_int8_on_volta_is_a_vector_rate():
    """V100 has no int8 tensor rate; a product falls back to dp4a on the vector unit."""
    compute = load_device("v100-sxm2-32gb").compute
    assert ("tensor", "int8", "int32") not in compute.peaks
    assert compute.peak("tensor", "int8") == compute.peak("vector", "int8")


@pytest.mark.parametrize("name", ["rtx-3090", "rtx-4090"])
def test_geforce_halves_fp32_accumulation(name):
    """GeForce runs fp16 products with fp32 accumulation at half the fp16 rate."""
    compute = load_device(name).compute
    assert compute.peak("tensor", "fp16", "fp16") == 2 * compute.peak("tensor", "fp16", "fp32")


@pytest.mark.parametrize(
    ("name", "bandwidth", "domain"),
    [
        ("a100_dgx", 300e9, 8),
        ("a100_pairwise_nvlink", 300e9, 2),
        ("4xA100 NVLink node", 300e9, 8),
        ("h100-sxm-80gb", 450e9, 8),
        ("b200-sxm", 900e9, 8),
        ("gb200", 900e9, 72),
        ("mi300x", 448e9, 8),
    ],
)
def test_peer_links(name, bandwidth, domain):
    """Links count one direction; the domain is how many devices they join at that rate."""
    link = load_device(name).peer_link
    assert (link.bandwidth_bytes_per_s, link.domain) == (bandwidth, domain)


@pytest.mark.parametrize("name", ["t4", "l4", "l40s", "rtx-4090"])
def test_cards_without_peer_link(name):
    """Cards without NVLink talk through the host only."""
    device = load_device(name)
    assert device.peer_link is None
    assert device.host_link is not None


def test_every_figure_has_provenance(device):
    """Each figure has a source of the bibliography, or says why it is unverified."""
    known = catalog.sources()
    for path, figure in device.figures.items():
        if figure.verified:
            assert figure.source in known, path
        else:
            assert figure.reason, path
            assert figure.source is None, path


def test_quoted_peaks_agree_or_say_why(device):
    """A quoted peak is within 0.5 % of per clock x units x clock, or a reason is recorded;
    none is the double that structured sparsity would give.
    """
    compute = device.compute
    for (unit, dtype, acc), peak in compute.peaks.items():
        path = f"compute.{unit}.{dtype}.{acc}"
        per_clk, quoted = (device.figures.get(f"{path}.{f}") for f in ("per_clk", "peak"))
        if per_clk is None or quoted is None:
            continue
        clock = compute.clock_tensor_hz if unit == "tensor" else compute.clock_vector_hz
        ratio = quoted.value / (per_clk.value * compute.units * clock)
        assert abs(ratio - 1) <= 0.005 or quoted.reason, path
        assert not 1.9 < ratio < 2.1, path
        assert peak in (quoted.value, pytest.approx(per_clk.value * compute.units * clock))


@pytest.mark.parametrize("name", [n for n in ALL if load_device(n).kind in ("gpu", "tpu")])
def test_accelerators_derive_their_peaks(name):
    """Every rate of a GPU or TPU is stored per clock, so that a sparse figure cannot hide."""
    device = load_device(name)
    for key in device.compute.peaks:
        assert "compute.{}.{}.{}.per_clk".format(*key) in device.figures


def test_halving_the_width_never_lowers_the_rate(device):
    """fp8 runs no slower than fp16 and int4 no slower than int8, where both exist."""
    peaks = device.compute.peaks
    for narrow, wide in (("fp8", "bf16"), ("fp4", "fp8")):
        small, large = (peaks.get(("tensor", d, "fp32")) for d in (narrow, wide))
        assert small is None or large is None or small >= large


def test_spec_survives_the_round_trip(device, tmp_path):
    """TOML -> device -> TOML -> device gives an equal device, and the same text again."""
    path = tmp_path / f"{device.name}.toml"
    path.write_text(to_toml(device))
    again = read_device(path, device.aliases)
    assert again == device
    assert to_toml(again) == to_toml(device)


def test_every_source_is_cited():
    """The bibliography holds what specs cite and nothing else, each entry complete."""
    energies = load_energies("45nm").values()
    figures = [f for n in ALL for f in load_device(n).figures.values()]
    cited = {f.source for f in [*figures, *energies] if f.source}
    cited |= {load_engine(n).source for n in engine_names()}
    known = catalog.sources()
    assert cited == set(known)
    for entry in known.values():
        assert set(entry) == {"title", "publisher", "where", "date"}


def test_aliases_are_unambiguous():
    """Each alias stands for a device, hides no device's own name and occurs once when folded."""
    table = tomllib.loads((catalog.shipped_dir() / "hw" / "aliases.toml").read_text())
    folded = [catalog.fold(alias) for alias in table]
    assert len(set(folded)) == len(folded)
    assert not set(folded) & {catalog.fold(n) for n in ALL}
    assert set(table.values()) <= set(ALL)
    for alias, name in table.items():
        assert catalog.find("hw", alias).stem == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("A100-80GB", "a100-pcie-80gb"),
        ("A100-SXM-80GB", "a100-sxm-80gb"),
        ("A100-PCIe-40GB", "a100-pcie-40gb"),
        ("V100-PCIe-32GB", "v100-pcie-32gb"),
        ("T4", "t4"),
        ("B200-SXM", "b200-sxm"),
        ("H100-SXM-80GB (assumed)", "h100-sxm-80gb"),
        ("4xA100-SXM-80GB", "a100-sxm-80gb"),
        ("NUCLEO_L4R5ZI", "stm32l4r5"),
        ("NUCLEO-H7A3ZI-Q", "stm32h7a3"),
        ("NUCLEO_H7A3ZI", "stm32h7a3"),
        ("NUCLEO_U575ZI_Q", "stm32u575"),
        ("L40S", "l40s"),
        ("A40", "a40"),
        ("MI300X", "mi300x"),
        ("H200-SXM", "h200-sxm"),
        ("NVIDIA H200", "h200-sxm"),
        ("TPU v5e", "tpu-v5e"),
        ("Jetson AGX Orin 64", "jetson-agx-orin-64gb"),
    ],
)
def test_aliases(spelling, name):
    """The spellings of published tables resolve."""
    assert load_device(spelling).name == name


@pytest.mark.data
def test_aliases_cover_the_measured_tables(request):
    """Every device named in the folder of measured tables resolves."""
    folder = request.config.getoption("--data")
    if not folder:
        pytest.skip("needs --data DIR or PERFMODEL_DATA")
    named = set()
    for path in Path(folder).rglob("*.csv"):
        with path.open(newline="") as file:
            named |= {row["device"] for row in csv.DictReader(file) if row.get("device")}
    assert named
    for name in sorted(named):
        load_device(name)


def test_boards():
    """A multiply-accumulate is two operations of a board's rates; its clock is the core's."""
    device = load_device("stm32f746")
    board = device.board
    assert board.core == "cortex-m7"
    assert board.clock_hz == 216e6
    per_cycle = {d: rate / 2 / 216e6 for (_, d, _), rate in device.compute.peaks.items()}
    assert per_cycle == {"int8": 2.0, "int16": 2.0, "fp32": 1.0}
    assert (board.flash_wait_states, board.flash_line_bytes) == (7, 32)
    assert (board.sram_bytes, board.flash_bytes) == (320 * 1024, 2**20)


def test_energy_table():
    """45 nm: an fp32 multiply takes 3.7 pJ, a 32-bit DRAM access 640 pJ."""
    energies = load_energies("45nm")
    assert energies["fp32_mul_per_op"].value == pytest.approx(3.7e-12)
    assert energies["dram_32bit_energy"].value == pytest.approx(640e-12)


def test_missing_figures_name_the_fix():
    """A figure that the spec lacks is MissingFigure with its path, not a guess."""
    device = load_device("xeon-8480plus")
    with pytest.raises(MissingFigure, match="memory capacity"):
        _ = device.memory.capacity_bytes
    with pytest.raises(MissingFigure, match=r"power\.idle"):
        device.figure("power.idle")
    assert device.figure("memory.dram.bandwidth").value == 307.2e9


def test_unverified_figures_are_listed():
    """What nobody could verify is told with its reason, for the assumptions of an answer."""
    device = load_device("h100-nvl-94gb")
    assert any("memory.dram.bandwidth = 3.9 TB/s is unverified" in u for u in device.unverified)
    assert load_device("h200-sxm").unverified == ()


def test_template_loads_and_shows_every_field(tmp_path):
    """The template is a valid spec and mentions each field that a spec may have."""
    text = (catalog.shipped_dir() / "hw" / "_template.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text)
    device = read_device(path)
    assert device.compute.peak("tensor", "int8") == 1450e12
    for spec in (DeviceSpec, ComputeSpec, LevelSpec, RateSpec, BoardSpec):
        for field in spec.model_fields:
            assert field in text, f"{spec.__name__}.{field}"


def test_schema_is_current():
    """specs/hw.schema.json is what the command prints."""
    run = subprocess.run(
        [sys.executable, "-m", "perfmodel.hw.spec"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == (catalog.shipped_dir() / "hw.schema.json").read_text()


MINIMAL = """
title = "A"
kind = "gpu"
vendor = "V"
architecture = "x"
source = "me"
[compute]
units = 10
clock_vector = "1 GHz"
[compute.tensor]
bf16.fp32 = { per_clk = 1000, peak = "10 TFLOP/s" }
[memory.dram]
capacity = "1 GiB"
bandwidth = "1 TB/s"
"""


def write(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_minimal_spec(tmp_path):
    """Little is needed: identity, units, a clock, a memory level."""
    device = load_device(write(tmp_path, MINIMAL))
    assert device.name == "mine"
    assert device.compute.peak("tensor", "bf16") == 10e12
    assert device.memory.bandwidth_bytes_per_s == 1e12
    assert device.peer_link is device.tdp_w is device.board is None


@pytest.mark.parametrize(
    ("old", "new", "field", "says"),
    [
        ('"10 TFLOP/s"', '"20 TFLOP/s"', "compute", "sparse"),
        ('"10 TFLOP/s"', '"10.1 TFLOP/s"', "compute", "record the reason"),
        ("units = 10", "units = -10", "compute.units", "negative"),
        ("units = 10", "units = 10.5", "compute.units", "whole number"),
        ("units = 10", "units = 0", "compute.units", "positive"),
        ("units = 10", "units = true", "compute.units", "bool"),
        ("units = 10", "units = nan", "compute.units", "finite"),
        ("units = 10", "units = inf", "compute.units", "finite"),
        ("units = 10", "unit = 10", "compute.units", "required"),
        ("units = 10", "units = 10\nsms = 10", "compute.sms", "not permitted"),
        ("units = 10", "units = [10]", "compute.units", "list"),
        ("units = 10", "units = { value = 10, unit = 'x' }", "compute.units", "unit"),
        ("units = 10", "units = { value = 10, verified = false }", "compute.units", "reason"),
        (
            "units = 10",
            "units = { value = 10, source = 'a', verified = false, reason = 'b' }",
            "compute.units",
            "either",
        ),
        ('"1 GHz"', '"1 GB"', "compute.clock_vector", "not a unit of frequency"),
        ('"1 GHz"', '"fast"', "compute.clock_vector", "not a quantity"),
        ('"1 GiB"', '"1 GIB"', "memory.dram.capacity", "not a unit of bytes"),
        ("bf16.fp32", "bf17.fp32", "compute.tensor", "unknown dtype"),
        ("bf16.fp32", "bf16.fp31", "compute.tensor", "unknown dtype"),
        ("{ per_clk = 1000, peak", "{ peek", "compute.tensor.bf16.fp32", "not permitted"),
        ('kind = "gpu"', 'kind = "GPU"', "kind", "gpu"),
        ('kind = "gpu"', 'kind = "mcu"', "device", "board"),
        ('kind = "gpu"', "kind = 3", "kind", "gpu"),
        ('title = "A"', "title = 3", "title", "string"),
        ('title = "A"', 'title = ""', "title", "at least 1"),
        ('source = "me"\n', "", "compute.units", "neither a source"),
        ("[memory.dram]", "[memories.dram]", "memory", "required"),
        ("[memory.dram]", "[memory.l2]\n[memory.dram]", "memory.l2", "at least one figure"),
    ],
)
def test_malformed_specs(tmp_path, old, new, field, says):
    """Each mistake ends in MalformedFile with file, field and what to look at."""
    assert old in MINIMAL
    path = write(tmp_path, MINIMAL.replace(old, new))
    with pytest.raises(MalformedFile) as caught:
        load_device(path)
    error = caught.value
    assert error.field is not None
    assert error.field.startswith(field)
    assert says in error.message
    assert "mine.toml" in error.message
    assert error.fix


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("[measured]\ndram_read = 0.9\n", "measured"),
        ("[measured]\ndram_read_fraction = 90\n", "measured"),
        ("[measured]\ndram_read_latency = '3 GB'\n", "measured"),
        ("[peer_link]\nbandwidth = '1 GB/s'\n", "peer_link.name"),
        ("[[price]]\nusd_per_hour = 1\nprovider = 'x'\ndate = 'soon'\n", "price.0.date"),
        ("[compute.sustained]\nbf16 = 80\n", "compute.sustained.bf16"),
        ("[board]\ncore = 'x'\n", "device"),
        ("price = 3\n", "price"),
        ("measured = 3\n", "measured"),
    ],
)
def test_malformed_tables(tmp_path, table, field):
    """Optional tables are checked as strictly as the rest."""
    text = MINIMAL.replace("[compute]", table + "[compute]", 1)
    with pytest.raises(MalformedFile) as caught:
        load_device(write(tmp_path, text))
    assert caught.value.field == field


def test_a_quoted_peak_that_holds(tmp_path):
    """With a reason a quoted peak may differ, and use = "quoted" makes it the one that holds."""
    text = MINIMAL.replace('"10 TFLOP/s"', '{ value = "9 TFLOP/s", reason = "lower clock" }')
    assert load_device(write(tmp_path, text)).compute.peak("tensor", "bf16") == 10e12
    text = text.replace('lower clock" }', 'lower clock" }, use = "quoted"')
    device = read_device(write(tmp_path, text))
    assert device.compute.peak("tensor", "bf16") == 9e12


def test_an_edited_spec_is_read_again(tmp_path):
    """Devices are cached by file time and size."""
    path = write(tmp_path, MINIMAL)
    assert load_device(path) is load_device(path)
    write(tmp_path, MINIMAL.replace("units = 10", "units = 20").replace('"10 T', '"20 T'))
    assert load_device(path).compute.units == 20


def test_the_users_device_replaces_a_shipped_one(tmp_path):
    """A spec of the same name in the user's folder wins."""
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "t4.toml").write_text(MINIMAL)
    with catalog.using_specs(tmp_path):
        assert load_device("T4").title == "A"
    assert load_device("T4").title == "NVIDIA T4 16 GB"


def test_devices_are_values(device):
    """A device is frozen, can be a cache key and crosses to another process."""
    assert {device: 1}[pickle.loads(pickle.dumps(device))] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.name = "x"
