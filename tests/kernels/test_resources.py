"""Resource reports: of the sources as they are, with occupancy on every device that runs them."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("cupy", reason="NVRTC is reached through CuPy: pip install 'perfmodel[gpu]'")

from refkernels import resources
from refkernels._compile import KernelResources
from refkernels._sources import SourceSpec, data_dir


def test_reports_are_of_these_sources():
    """Every folder's committed report is of its sources as they are (else: make docs)."""
    folder = data_dir("specs") / "kernels"

    assert [f for f in resources.families() if not resources.current(f, folder)] == []


def test_every_kernel_launches_where_it_was_written_for():
    """A block fits each architecture that its source is compiled for."""
    folder = data_dir("specs") / "kernels"
    for family in resources.families():
        for entry in json.loads((folder / f"{family}.json").read_text())["resources"]:
            assert entry["resident"][entry["arch"]]["blocks"] >= 1, entry


@pytest.mark.parametrize(
    ("archs", "expected"),
    [
        (("sm_80",), ["sm_80", "sm_90"]),
        (("sm_80", "sm_90a"), ["sm_80", "sm_90a"]),
        (("sm_90a",), ["sm_90a"]),
        (("sm_80", "sm_90"), ["sm_80", "sm_90"]),
    ],
)
def test_targets(archs, expected):
    """Portable kernels are compiled for Hopper too, as launchers do; specific ones as named."""
    assert resources.targets(archs) == expected


def test_binaries_run_on_newer_devices_of_their_generation():
    """Code for sm_80 runs on sm_86 and sm_89; code for sm_90a nowhere else."""
    assert resources.runs_on("sm_80") == ["sm_80", "sm_86", "sm_89"]
    assert resources.runs_on("sm_86") == ["sm_86", "sm_89"]
    assert resources.runs_on("sm_90a") == ["sm_90a"]


def test_too_much_shared_memory_is_no_block():
    """A block that fits an A100 but not an RTX card has no block there."""
    kernel = KernelResources(
        name="k", registers=64, stack_bytes=0, spill_bytes=0, static_smem_bytes=0
    )
    spec = SourceSpec(archs=("sm_80",), threads=256, dynamic_smem=150_000)
    found = resources.resident(kernel, "sm_80", spec)

    assert found["sm_80"] == {"blocks": 1, "occupancy": 0.125}
    assert found["sm_86"] == {"blocks": 0, "occupancy": 0.0}


def test_check_names_stale_folders(tmp_path, monkeypatch, capsys):
    """Without a report, or with one of other sources, ``--check`` fails and says where."""
    monkeypatch.setattr(resources, "data_dir", lambda name: tmp_path)

    assert resources.main(["--check"]) == 1
    assert "roofs: its report is of other sources" in capsys.readouterr().out
    assert resources.main(["--nonsense"]) == 2
