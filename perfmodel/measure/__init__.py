"""Measured truth as data: tidy CSV, pytest-benchmark JSON and Measurement files as records."""

from __future__ import annotations

from perfmodel.measure.readers import read_header, read_measurements, read_roofs
from perfmodel.measure.record import Measurement, Quantity, Roof

__all__ = ["Measurement", "Quantity", "Roof", "read_header", "read_measurements", "read_roofs"]
