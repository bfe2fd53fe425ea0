"""Published configurations (Hugging Face ``config.json``) as :class:`ModelShape`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perfmodel.errors import BadValue, UnknownName
from perfmodel.models.families import ADAPTERS
from perfmodel.models.reader import Reader
from perfmodel.models.shape import ModelShape


def shape_from_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """The shape of one parsed configuration.

    Raises:
        UnknownName: a ``model_type`` without an adapter.
        BadValue: a key missing, of the wrong type or out of range.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str):
        msg = f"{name}: is missing or not a string"
        raise BadValue(msg, field="model_type", fix="one of " + ", ".join(sorted(ADAPTERS)))
    if kind not in ADAPTERS:
        raise UnknownName("model_type", kind, ADAPTERS)
    reader = Reader(config, name)
    shape = ADAPTERS[kind](reader)
    unread = [f"key {key!r} of the configuration was not used" for key in reader.unread()]
    return replace(shape, assumptions=(*reader.notes, *unread))
