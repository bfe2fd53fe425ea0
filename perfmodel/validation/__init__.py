"""Measurements beside predictions: what is scored, how far off, and what is refused and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from perfmodel.errors import PerfModelError
from perfmodel.hw.load import load_device
from perfmodel.measure import Measurement, read_measurements
from perfmodel.validation.engines import predict_serving
from perfmodel.validation.kernels import predict_kernels
from perfmodel.validation.layers import with_workloads
from perfmodel.validation.networks import predict_networks
from perfmodel.validation.score import Errors, FileReport, Scored, errors, file_report
from perfmodel.validation.training import predict_training

__all__ = ["Errors", "FileReport", "Scored", "errors", "file_report", "validate", "validate_files"]


def validate_files(paths: Iterable[str | Path]) -> list[FileReport]:
    """One report per file of measurements, in the order given.

    Raises:
        MissingFile, MalformedFile: a file is absent or cannot be read.
    """
    return [file_report(Path(p).name, validate(read_measurements(p))) for p in paths]


def validate(measurements: Sequence[Measurement]) -> list[Scored]:
    """Every measurement beside its prediction, or with the reason why there is none."""
    measurements = with_workloads(measurements)
    asked = [m for m in measurements if not m.refusal]
    scored = predict_kernels(asked) + predict_serving(asked) + predict_training(asked)
    scored += predict_networks(asked)
    done = {id(s.measurement) for s in scored}
    return scored + [
        Scored(measurement=m, refusal=_refusal(m)) for m in measurements if id(m) not in done
    ]


def _refusal(m: Measurement) -> str:
    if m.refusal:
        return m.refusal
    if m.scenario.startswith("cpu_"):
        return "host time of an engine's own code, which no model of devices predicts"
    try:
        load_device(m.device)
    except PerfModelError:
        return f"unknown device {m.device}"
    return f"no model of scenario {m.scenario}"
