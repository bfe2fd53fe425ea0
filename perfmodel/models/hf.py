"""Published configurations (Hugging Face ``config.json``) as :class:`ModelShape`.

A model is named by a shipped name, an alias, the path of a configuration, or a hub id
(``organisation/name``, fetched with the optional extra ``hub``: ``config.json`` alone, no code).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel import catalog
from perfmodel.errors import BadValue, MissingExtra, MissingFile, UnknownName
from perfmodel.files import existing_file, read_json
from perfmodel.models.families import ADAPTERS, SAME_AS, TEXT_PART
from perfmodel.models.reader import Reader, short
from perfmodel.models.shape import ModelShape
from perfmodel.workload.dtypes import DTYPE_ALIASES, DTYPE_BYTES

MAX_CONFIG_BYTES = 4 * 2**20
"""Longer configurations are refused unread; published ones stay far below."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?<!\.json)")

INHERITED = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config")
"""Keys that a wrapper may hold for its text model."""


def load_model(name_or_path: str | Path) -> ModelShape:
    """The shape of a shipped model, a ``config.json`` or a hub model.

    Raises:
        UnknownName: no such name, or a ``model_type`` without an adapter.
        MissingFile: a path that is not a readable file.
        MalformedFile: a file that is not one JSON object of at most 4 MiB.
        BadValue: neither a text nor a path; a key missing, of the wrong type or out of range.
        MissingExtra: a hub id without the extra ``hub``.
    """
    path = model_path(name_or_path)
    stat = path.stat()
    return _loaded(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _loaded(path: Path, mtime_ns: int, size: int) -> ModelShape:
    del mtime_ns, size  # part of the cache key: an edited file is read again
    config = read_json(path, max_bytes=MAX_CONFIG_BYTES)
    name = path.parent.name if path.name == "config.json" else path.stem
    shape = shape_from_config(config, name or path.stem)
    return replace(shape, aliases=catalog.aliases_of("models", shape.name))


def model_names() -> tuple[str, ...]:
    """Every shipped model, sorted."""
    return catalog.names("models")


def model_path(name_or_path: str | Path) -> Path:
    """The configuration file that a name, alias, path or hub id stands for.

    Raises:
        BadValue, UnknownName, MissingFile, MissingExtra: as :func:`load_model`.
    """
    text = catalog.name_or_path(name_or_path, "model")
    if not isinstance(name_or_path, Path):
        known = _folded_names().get(fold(text))
        if known is not None:
            return catalog.find("models", known)
        if HUB_ID.fullmatch(text) and not os.path.exists(text):  # noqa: PTH110 (never raises)
            return _from_hub(text)
    if os.path.isdir(text):  # noqa: PTH112 (unlike Path.is_dir, False for any unusable path)
        return existing_file(Path(text) / "config.json")
    return catalog.find("models", name_or_path)


def fold(name: str) -> str:
    """``name`` as model names are compared: lower case, without ``-``, ``_``, ``.`` and spaces."""
    return re.sub(r"[\s_.-]+", "", name.lower())


def _folded_names() -> dict[str, str]:
    spelled = {fold(alias): target for alias, target in catalog.aliases("models").items()}
    return spelled | {fold(name): name for name in catalog.names("models")}


def _from_hub(repository: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        msg = f"{repository} is not shipped; fetching it needs the extra 'hub'"
        raise MissingExtra(msg, fix="pip install 'perfmodel[hub]', or give a config.json") from None
    try:
        return Path(hf_hub_download(repository, "config.json"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        msg = f"cannot fetch config.json of {repository}: {str(error).splitlines()[0][:160]}"
        raise MissingFile(msg, fix="download it and give its path") from None


def shape_from_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """The shape of one parsed configuration.

    Raises:
        UnknownName: a ``model_type`` without an adapter.
        BadValue: a key missing, of the wrong type or out of range.
    """
    kind, config, notes = _text_part(config, name)
    reader = Reader({**config, "model_type": kind}, name)
    shape = ADAPTERS[kind](reader)
    dtype = _dtype(reader)
    _note_quantization(reader)
    _note_provenance(reader)
    unread = [f"key {key!r} of the configuration was not used" for key in reader.unread()]
    return replace(shape, dtype=dtype, assumptions=(*notes, *reader.notes, *unread))


def _text_part(
    config: Mapping[str, Any], name: str
) -> tuple[str, Mapping[str, Any], tuple[str, ...]]:
    """``(model_type, keys, notes)`` of the language model inside ``config``."""
    kind = _kind(config, name)
    if kind in ADAPTERS:
        return kind, config, ()
    default = TEXT_PART.get(kind)
    inner = config.get("text_config", config if default is not None else None)
    if not isinstance(inner, Mapping):
        if default is None:
            raise UnknownName("model_type", kind, {*ADAPTERS, *SAME_AS, *TEXT_PART})
        msg = f"{name}: must be an object, got {short(inner)}"
        raise BadValue(msg, field="text_config", fix="the keys of the language model")
    if default is not None and (inner is config or inner.get("model_type") is None):
        inner = {**inner, "model_type": default}
    inner_kind = _kind(inner, name)
    if inner_kind not in ADAPTERS:
        raise UnknownName("model_type", inner_kind, {*ADAPTERS, *SAME_AS, *TEXT_PART})
    shared = {key: config[key] for key in INHERITED if key in config}
    note = f"the language model of {kind} is counted, its other parts are not"
    return inner_kind, {**shared, **inner}, (note,)


def _kind(config: Mapping[str, Any], name: str) -> str:
    kind = config.get("model_type")
    if kind is None and "ssm_cfg" in config:
        return "mamba_ssm"
    if not isinstance(kind, str):
        problem = "is missing" if kind is None else f"must be a string, got {short(kind)}"
        msg = f"{name}: {problem}"
        raise BadValue(msg, field="model_type", fix="one of " + ", ".join(sorted(ADAPTERS)))
    return SAME_AS.get(kind, kind)


def _dtype(c: Reader) -> str:
    """The published data type; bf16 where unsaid or unknown, which is then an assumption."""
    named = c.text("torch_dtype", "dtype", default="").removeprefix("torch.").lower()
    dtype = DTYPE_ALIASES.get(named, named)
    if dtype in DTYPE_BYTES:
        return dtype
    why = f"torch_dtype {short(named)} is unknown" if named else "torch_dtype is omitted"
    c.note(f"{why}: bf16 weights assumed")
    return "bf16"


QUANTIZED: dict[str, str] = {"awq": "int4", "fbgemm_fp8": "fp8", "fp8": "fp8", "mxfp4": "fp4"}
"""Weight data types that a quantisation method implies where the configuration names no bits."""


def _note_quantization(c: Reader) -> None:
    """Say how published weights are quantised; their data type stays the caller's choice."""
    found = c.section("quantization_config")
    if not found:
        return
    method = str(found.get("quant_method", "unnamed method"))
    dtype = _quantized_dtype(found, method)
    hint = f": weight dtype {dtype} counts them so" if dtype else ""
    c.note(f"published weights are quantised ({short(method)}){hint}")


def _quantized_dtype(found: dict[str, Any], method: str) -> str | None:
    bits = found.get("bits", found.get("w_bit"))
    if bits in (4, 8):
        return f"int{bits}"
    for key, dtype in (("load_in_4bit", "int4"), ("load_in_8bit", "int8")):
        if found.get(key) is True:
            return dtype
    return QUANTIZED.get(method)


def _note_provenance(c: Reader) -> None:
    """Say where a shape that was never published as a config.json comes from."""
    reason = c.text("_unverified", default="")
    if reason:
        c.note(f"shape not verified: {reason}")


__all__ = ["fold", "load_model", "model_names", "model_path", "shape_from_config"]
