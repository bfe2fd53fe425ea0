"""What people upload: bounded, parsed, never executed; what cannot be read gets one message."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from explorer import view
from explorer.inputs import INPUTS, KEPT
from perfmodel.errors import MalformedFile, PerfModelError
from perfmodel.mcu.networks import find_network
from perfmodel.report.scenario import read_scenario
from perfmodel.validation import FileReport, validate_files

MOST_MB = 8
"""Larger uploads are refused by the server."""

Read = TypeVar("Read")


def open_scenario(pages: Mapping[str, Any]) -> None:
    """Offer to open a scenario file; go to its page with its inputs."""
    turn = st.session_state.setdefault("scenarios_opened", 0)
    with st.sidebar, st.expander("Open a scenario file"):
        file = st.file_uploader(
            "Scenario (TOML, from a page's downloads)", type=["toml"], key=f"scenario_{turn}",
            max_upload_size=1,
        )  # fmt: skip
    if file is None:
        return
    try:
        page, inputs = read_scenario(file.getvalue(), tuple(pages))
        known = {k: INPUTS[k].check(k, v) for k, v in inputs.items() if k in INPUTS}
    except PerfModelError as error:
        view.refuse(error)
        return
    st.session_state["scenarios_opened"] = turn + 1
    st.session_state.setdefault(KEPT, {}).update(known)
    shared = {k: v for k, v in known.items() if k in st.session_state}
    st.session_state.update(shared)  # what the page shown now has in common with the next
    st.switch_page(pages[page])


def upload(label: str, kinds: list[str], key: str, read: Callable[[Path], Read]) -> Read | None:
    """What ``read`` makes of an uploaded file; None without one, or one message why it cannot."""
    file = st.file_uploader(label, type=kinds, key=key, max_upload_size=MOST_MB)
    if file is None:
        return None
    try:
        return _read(read, Path(file.name).name, file.getvalue())
    except PerfModelError as error:
        view.refuse(error)
        return None


@lru_cache(maxsize=4)
def _read(read: Callable[[Path], Read], name: str, content: bytes) -> Read:
    """What a file holds, read once for as long as it stays uploaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return read(path)


def measurements(path: Path) -> tuple[FileReport, ...]:
    """Timed kernels of an uploaded file beside their predictions."""
    return tuple(validate_files([path]))


def network(path: Path) -> tuple[str, Any]:
    """The network of an uploaded .tflite or .onnx file, and its name."""
    return path.name, find_network(path)


def config_json(path: Path) -> Any:
    """The model that an uploaded config.json describes, named by its file."""
    from perfmodel.models.hf import shape_from_config

    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        msg = f"{path.name}: not valid JSON: {str(error)[:200]}"
        raise MalformedFile(msg, fix="a config.json as published") from None
    if not isinstance(config, dict):
        msg = f"{path.name}: must hold a JSON object"
        raise MalformedFile(msg, fix="a config.json as published")
    return shape_from_config(config, path.name)
