"""Names of devices and models, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from perfmodel.hw.device import Device
from perfmodel.models.shape import ModelShape
from perfmodel.workload import Workload

DeviceLike: TypeAlias = Device | str | Path
ModelLike: TypeAlias = ModelShape | str | Path


def device(name: DeviceLike) -> Device:
    """A device by name, alias or path of a spec of your own.

    Raises:
        UnknownName: no such device; offers the nearest names.
        MissingFile, MalformedFile: the path is no file, or no device spec.
    """
    from perfmodel.hw.load import load_device

    return name if isinstance(name, Device) else load_device(name)


def model(name: ModelLike) -> ModelShape:
    """A model by name, alias or path of a ``config.json``.

    Raises:
        UnknownName: no such model or model type; says what is known.
        MissingFile, MalformedFile: the path is no file, or no configuration.
    """
    from perfmodel.models.hf import load_model

    return name if isinstance(name, ModelShape) else load_model(name)


def several(values: Any) -> list[Any]:
    """One value or many, as a list; none for None."""
    if values is None:
        return []
    single = isinstance(values, str | int | Path | Device | ModelShape | Workload)
    return [values] if single else list(values)
