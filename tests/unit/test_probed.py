"""A device from measured roofs: which sample counts, how levels nest, what is refused."""

from __future__ import annotations

import json

import pytest

from perfmodel.errors import MalformedFile
from perfmodel.hw.probed import ASSUMED_CLOCK_HZ, probed_device

CORES, PRIVATE, SHARED = 4, 2**20, 32 * 2**20
HEADER = {
    "name": "mine", "product": "AMD EPYC 9575F", "sm_count": CORES, "clock_hz": 3e9,
    "memory_bytes": 2**34, "cache_bytes": {"l2": PRIVATE, "l3": SHARED},
}  # fmt: skip
DATE = "2026-01-01"


def roof(quantity, value, unit="B/s", clock=None, **condition):
    entry = {"kind": "roof", "quantity": quantity, "value": value, "unit": unit}
    return entry | {"condition": condition, "sm_clock_hz": clock}


RATES = [
    roof("host_fma_f32", 8e11, "FLOP/s", threads=CORES),
    roof("host_fma_f32", 3e11, "FLOP/s", threads=1),
    roof("host_exp_f32", 2e10, "op/s", threads=CORES),
]
LEVELS = [
    roof("host_read", 4e11, threads=CORES, bytes_per_core=PRIVATE // 2),
    roof("host_read", 2e11, threads=CORES, bytes_per_core=SHARED // CORES),
    roof("host_read", 5e10, threads=CORES, bytes_per_core=2**28, best=6e10),
]
GPU = [
    roof("dram_read", 4e12, clock=1.9e9),
    roof("dram_copy", 4.2e12, clock=1.8e9),
    roof("ex2_f32", 8e12, "op/s"),
    roof("tensor_bf16", 8e14, "FLOP/s"),
    roof("fma_f32", 6e13, "FLOP/s"),
    roof("l2_read", 9e12, bytes=2**25),
    roof("l2_read", 8e12, bytes=2**20),
    roof("launch_graph", 2e-6, "s"),
]


def device(tmp_path, roofs, **header):
    path = tmp_path / "roofs.json"
    content = {"schema": 1, "date": DATE, "device": HEADER | header, "measurements": roofs}
    path.write_text(json.dumps(content))
    return probed_device(path)


def test_a_peak_is_the_best_of_all_cores_or_one_times_their_number(tmp_path):
    """A busy machine slows what runs on all cores: the single core's sample counts for each."""
    found = device(tmp_path, RATES + LEVELS)

    assert found.compute.peak("vector", "fp32", "fp32") == CORES * 3e11
    assert found.compute.special_per_s == pytest.approx(2e10)
    assert (found.vendor, found.compute.units) == ("AMD", CORES)


def test_levels_nest(tmp_path):
    """Private caches count once per core, the shared one once; each has what was read inside it,
    main memory what was read beyond them, by its best sample.
    """
    memory = device(tmp_path, RATES + LEVELS).memory
    told = {x.name: (x.bytes, x.bandwidth_bytes_per_s) for x in memory.levels}

    assert told["l2"] == (CORES * PRIVATE, 4e11)
    assert told["l3"] == (SHARED, 2e11)
    assert told["dram"] == (2**34, 6e10)


def test_what_was_not_read_has_no_bandwidth(tmp_path):
    """A level that no roof lies in states none; without any beyond, memory has what there is."""
    memory = device(tmp_path, RATES + LEVELS[:1]).memory
    told = {x.name: x.bandwidth_bytes_per_s for x in memory.levels}

    assert told == {"l2": 4e11, "l3": None, "dram": 4e11}


def test_what_the_system_does_not_tell(tmp_path):
    """Without a clock one is assumed and marked so; an unknown product has no known vendor."""
    found = device(tmp_path, RATES + LEVELS, clock_hz=None, product="something", cache_bytes=None)

    assert found.compute.clock_vector_hz == ASSUMED_CLOCK_HZ
    assert any("clock_vector" in note for note in found.unverified)
    assert found.vendor == "unknown"
    assert [x.name for x in found.memory.levels] == ["dram"]


def test_a_gpu_from_its_roofs(tmp_path):
    """The fastest way through memory, the highest clock seen, the largest set in cache."""
    found = device(tmp_path, GPU, product="NVIDIA X", sm_count=100)
    cache = found.memory.cache

    assert found.memory.bandwidth_bytes_per_s == 4.2e12
    assert found.compute.clock_vector_hz == 1.9e9
    assert found.compute.special_per_s == pytest.approx(8e12)
    assert found.compute.peak("tensor", "bf16", "fp32") == 8e14
    assert (cache.bytes, cache.bandwidth_bytes_per_s) == (2**25, 9e12)


@pytest.mark.parametrize(
    ("roofs", "missing"),
    [
        (LEVELS, "host_fma_f32"),
        (RATES[:2] + LEVELS, "host_exp_f32"),
        ([r for r in GPU if not r["quantity"].startswith("dram")], "dram_read"),
        ([r | {"sm_clock_hz": None} for r in GPU], "a clock"),
    ],
)
def test_too_few_roofs(tmp_path, roofs, missing):
    """Where a spec could not say what it must, the refusal names the roofs that are missing."""
    with pytest.raises(MalformedFile, match=missing):
        device(tmp_path, roofs)
