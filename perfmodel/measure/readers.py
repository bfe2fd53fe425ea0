"""Files of measurements: tidy CSV, pytest-benchmark JSON, this package's Measurement JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfmodel.errors import BadInput, MalformedFile
from perfmodel.files import existing_file, read_json
from perfmodel.measure.record import SCHEMA, Measurement, Roof
from perfmodel.measure.tidy import MAX_BYTES, read_tidy_csv
from perfmodel.workload import workload_from_dict


def read_measurements(path: str | Path) -> list[Measurement]:
    """Every kernel or serving measurement in a file, in file order.

    Raises:
        MissingFile: no such file.
        MalformedFile: not a table, not JSON, or JSON of another kind.
    """
    path = existing_file(Path(path))
    if path.suffix.lower() == ".csv":
        return read_tidy_csv(path)
    if path.suffix.lower() != ".json":
        msg = f"{path.name} is neither .csv nor .json"
        raise MalformedFile(msg, field="file", fix="a tidy CSV or a benchmark JSON")
    data = read_json(path, max_bytes=MAX_BYTES)
    if "benchmarks" in data:
        return [
            m
            for i, b in enumerate(_list(path, data, "benchmarks"))
            if (m := _benchmark(path, i, b, data))
        ]
    if data.get("schema") == SCHEMA:
        return [
            _kernel(path, i, e, data)
            for i, e in enumerate(_list(path, data, "measurements"))
            if e.get("kind") == "kernel"
        ]
    msg = (
        f"{path.name} is neither a pytest-benchmark file nor a Measurement file of schema {SCHEMA}"
    )
    raise MalformedFile(msg, field="schema")


def read_roofs(path: str | Path) -> list[Roof]:
    """The measured ceilings in a Measurement file; raises as :func:`read_measurements`."""
    path = Path(path)
    data = read_json(path, max_bytes=MAX_BYTES)
    header = _mapping(path, data, "device")
    return [
        _roof(path, i, e, header, str(data.get("date", "")))
        for i, e in enumerate(_list(path, data, "measurements"))
        if e.get("kind") == "roof"
    ]


def read_header(path: str | Path) -> Mapping[str, Any]:
    """What a Measurement file says of its device; raises as :func:`read_measurements`."""
    data = read_json(Path(path), max_bytes=MAX_BYTES)
    return _mapping(Path(path), data, "device")


def _list(path: Path, data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = data.get(key)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        msg = f"{path.name}: {key} must be a list of objects"
        raise MalformedFile(msg, field=key)
    return entries


def _mapping(path: Path, data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        msg = f"{path.name}: {key} must be an object"
        raise MalformedFile(msg, field=key)
    return value


def _optional(path: Path, data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object that may be absent or null: then an empty one."""
    return {} if data.get(key) is None else _mapping(path, data, key)


def _positive(path: Path, entry: Mapping[str, Any], key: str, where: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        msg = f"{path.name} {where}: {key} must be a positive number, got {value!r}"
        raise MalformedFile(msg, field=key)
    return float(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _roof(
    path: Path, i: int, entry: Mapping[str, Any], device: Mapping[str, Any], date: str
) -> Roof:
    where = f"measurement {i}"
    told = [k for k in ("spread", "sm_clock_hz", "power_w") if entry.get(k)]
    optional = {k: _positive(path, entry, k, where) for k in told}
    return Roof(
        device=str(device.get("name", "")), quantity=str(entry.get("quantity", "")),
        value=_positive(path, entry, "value", where), unit=str(entry.get("unit", "")), date=date,
        condition=_optional(path, entry, "condition"), **optional,
    )  # fmt: skip


def _kernel(path: Path, i: int, entry: Mapping[str, Any], data: Mapping[str, Any]) -> Measurement:
    where = f"measurement {i}"
    gate = _optional(path, entry, "gate")
    refusal = None if gate.get("passed", True) else "correctness gate is red"
    return _timed(
        path, i, entry, where, device=str(_mapping(path, data, "device").get("name", "")),
        time_s=_positive(path, entry, "time_s", where), refusal=refusal,
    )  # fmt: skip


def _benchmark(
    path: Path, i: int, entry: Mapping[str, Any], data: Mapping[str, Any]
) -> Measurement | None:
    """A pytest-benchmark entry that names its workload; others time something else."""
    info = _optional(path, entry, "extra_info")
    if "workload" not in info:
        return None
    where = f"benchmark {i}"
    machine = _optional(path, data, "machine_info")
    device = info.get("device") or machine.get("device_name") or ""
    stats = _mapping(path, entry, "stats")
    key, holder = ("time_s", info) if "time_s" in info else ("median", stats)
    return _timed(
        path, i, info, where, device=str(device), time_s=_positive(path, holder, key, where)
    )


def _timed(
    path: Path, i: int, entry: Mapping[str, Any], where: str, *, device: str, time_s: float,
    refusal: str | None = None,
) -> Measurement:  # fmt: skip
    values = entry.get("workload")
    if not isinstance(values, dict):
        msg = f"{path.name} {where}: workload must be an object"
        raise MalformedFile(msg, field="workload")
    try:
        workload = workload_from_dict(values)
    except BadInput as error:
        msg = f"{path.name} {where}: {error.message}"
        raise MalformedFile(msg, field=f"workload.{error.field}", fix=error.fix) from None
    launch = _text(entry.get("launch")) or "graph"
    return Measurement(
        file=path.name, line=i, source="perfmodel", device=device, scenario=workload.op,
        quantity="latency", value=time_s, workload=workload, dtype=getattr(workload, "dtype", None),
        framework=_text(entry.get("framework")), kernel=_text(entry.get("kernel")),
        launch=launch, warm=launch == "host", refusal=refusal,
    )  # fmt: skip
