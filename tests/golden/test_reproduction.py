"""The committed calibration is what the command writes from the measured tables."""

from __future__ import annotations

import pytest

from perfmodel.catalog import read_toml
from perfmodel.cli import main


@pytest.mark.data
@pytest.mark.slow
def test_a_clean_calibration_gives_the_committed_files(data_dir, tmp_path, root, capsys):
    """Every fitted file, to the digits that are kept; only the date of the day may differ."""
    out = tmp_path / "calibration"
    tables = ["--data", str(data_dir), "--data", str(root / "specs" / "measured")]
    assert main(["calibrate", *tables, "--out", str(out), "--json"]) == 0
    capsys.readouterr()
    written = sorted(out.glob("*.toml"))
    assert len(written) >= 14
    for path in written:
        fresh, kept = read_toml(path), read_toml(root / "specs" / "calibration" / path.name)
        for table in (fresh, kept):
            table["fit"].pop("date")
        assert fresh == kept, path.name
