"""Time that the host of a serving engine adds to each step."""

from __future__ import annotations

import numpy as np

from perfmodel import catalog
from perfmodel.errors import MalformedFile, UnknownName
from perfmodel.workload import Array

FILE = "host"
"""``specs/calibration/host.toml``: one parameter per engine, in seconds per step."""


def host_overhead(engine: str | None) -> tuple[Array, str]:
    """Seconds of host time per step of ``engine``, and what that takes for granted.

    Scheduling, sampling and launching that no graph replay hides. Zero without an engine, and
    where no host times have been calibrated; the note says which.

    Raises:
        UnknownName: host times are known, but not for this engine.
        MalformedFile: the engine's entry has no value in seconds.
    """
    if engine is None:
        return np.float64(0.0), "no serving engine named: host time per step is taken as zero"
    if FILE not in catalog.names("calibration"):
        return np.float64(0.0), f"no host time is calibrated for {engine}: taken as zero"
    path = catalog.find("calibration", FILE)
    table = catalog.read_toml(path).get("parameters", {})
    if engine not in table:
        raise UnknownName("engine", engine, table)
    value = table[engine].get("value") if isinstance(table[engine], dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 10.0:
        msg = f"{path}: needs a value in seconds, got {value!r}"
        raise MalformedFile(msg, field=f"parameters.{engine}")
    return np.float64(value), f"{engine}: {value * 1e3:g} ms of host time per step"
